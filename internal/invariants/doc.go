// Package invariants holds the checks that only a build with the tag "invariants" makes:
//
//	go test -tags invariants work
//
// A check is for a bug of ours, never for what a peer or a user can cause: those are errors. Without the tag [Enabled]
// is the constant false and the compiler removes what stands behind it.
//
// A cheap condition with constant arguments is checked in one line. Where the arguments would allocate, or the
// condition costs something to compute, ask Enabled first, since Go evaluates arguments before the call:
//
//	invariants.Check(n >= 0, "window is negative")
//
//	if invariants.Enabled && s.pending != s.countPending() {
//		invariants.Check(false, "session %d: %d bytes pending, %d counted", s.id, s.pending, s.countPending())
//	}
//
// Bytes that were borrowed by a callback are overwritten when it returns, so that a callback which kept them reads
// nonsense in tests instead of somebody else's message in production:
//
//	fn(chunk)
//	invariants.Poison(chunk)
package invariants
