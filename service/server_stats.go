package service

import "sync/atomic"

// ServerStats is a snapshot of what a Server did.
type ServerStats struct {
	Conns        int    // connections now
	Sessions     int    // sessions that are open on them: calls one of whose directions has not ended
	Accepted     uint64 // connections that were served
	RefusedConns uint64 // closed at once: over MaxConns, or out of descriptors
	Pending      int    // Serve methods that run, and OnLoop calls without an answer

	// Calls that were refused, by reason.
	Unknown uint64 // of a method that does not exist, or is not served
	BadArgs uint64 // too few or mistyped arguments
	Busy    uint64 // over MaxCalls, or over Sessions.MaxSessions for one connection
	Closing uint64 // during Close

	Panics  uint64        // of methods
	Methods []MethodStats // in the order of their numbers
}

// MethodStats counts the calls of one method.
type MethodStats struct {
	Name   string
	Calls  uint64 // all that came
	Failed uint64 // answered with an error, or not answered because of one
}

// serverCounts are what Stats reads.
type serverCounts struct {
	accepted, refusedConns, unknown, badArgs, busy, closing, panics atomic.Uint64
}
