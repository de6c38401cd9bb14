package session

// Held is what a session keeps for its reader, as InboxBytes counts it. Only while
// nobody reads.
func Held(s *Session) int {
	s.in.mu.Lock()
	defer s.in.mu.Unlock()
	n := 0
	for _, b := range []*batch{&s.in.fill, &s.in.drain} {
		n += len(b.data) + chunkCost*len(b.ends)
	}
	return n
}

// Waiting is what the handlers that wait for room keep back. On the loop.
func Waiting(t *Table) int { return t.pause.waiting }

// Owed counts the last frames that wait for room. On the loop.
func Owed(t *Table) int { return len(t.pause.owed) }

// SessionOf returns an open session. On the loop.
func SessionOf(t *Table, id uint64) *Session { return t.ids.get(id) }
