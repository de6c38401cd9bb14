//go:build race

package invariants

// Race is true in a build with the race detector, which allocates where others do not: tests that count allocations
// ask for it.
const Race = true
