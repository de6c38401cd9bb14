package session

import "time"

// budget counts what a peer does too much of. Its clock is read once per limit, not
// once per event.
type budget struct {
	limit int           // events allowed in a window
	per   time.Duration // the window
	count int
	since time.Time
}

// spend counts one event and reports whether the budget is passed.
func (b *budget) spend() bool {
	if b.count == 0 {
		b.since = time.Now()
	}
	b.count++
	if b.count <= b.limit {
		return false
	}
	if time.Since(b.since) >= b.per {
		b.count = 0
		return false
	}
	return true
}

// refund takes one event back.
func (b *budget) refund() {
	if b.count > 0 {
		b.count--
	}
}
