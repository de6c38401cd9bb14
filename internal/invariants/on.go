//go:build invariants

package invariants

// Enabled is true in a build with the tag "invariants", and false in any other.
const Enabled = true
