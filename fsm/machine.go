package fsm

// Machine is a table and a current state, made by [Table.Machine]. It is a value to embed in its owner. It is not
// safe for concurrent use: it belongs to the owner's loop. None of its methods allocates.
type Machine[S, E Enum] struct {
	table *Table[S, E]
	state S
}

// State returns the current state.
func (m *Machine[S, E]) State() S { return m.state }

// Fire moves the machine by the event and returns where it was and where it is now. Where the event is not legal, ok
// is false, the state stays, and to equals from: the owner decides whether that is a peer's error or a bug.
func (m *Machine[S, E]) Fire(e E) (from, to S, ok bool) {
	from = m.state
	m.state, ok = m.table.Next(from, e)
	return from, m.state, ok
}
