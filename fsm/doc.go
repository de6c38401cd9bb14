// Package fsm says which event moves which state to which.
//
//	var doors = fsm.Must("door", shut, []fsm.Rule[state, event]{
//		{From: shut, On: push, To: open},
//		{From: open, On: pull, To: shut},
//	})
//	m := doors.Machine()
//	from, to, ok := m.Fire(push) // shut, open, true; not ok: nothing has moved
//
// A [Table] is the whole of a small state machine's law: it is built once from rules, checked while it is built
// (no contradiction, no state that nothing reaches, no two values under one name), and never written again, so any
// number of goroutines may read it. What a move does is not here: effects are one switch beside the table, in the
// package that owns the states.
//
// A [Machine] is a table and a current state. It belongs to one loop and takes no lock.
//
// Test every table with package fsmtest, which walks every pair of state and event and writes the diagram.
package fsm
