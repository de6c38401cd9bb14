package channel

import (
	"slices"

	"github.com/sluice-rpc/sluice/codec"
)

// waiter is a sender of another goroutine that found no room. They get it in turn, so
// that one who sends much does not keep back one who sends little; and the loop sends for
// them, so that they keep their order.
type waiter struct {
	p    Party
	f    codec.Frame // what it refers to is not touched by its owner, who waits
	part Part
	size int

	ready chan struct{} // closed when it was sent or refused
	err   error         // written before that
}

// admitWaiters sends for those who wait longest what there is room for. On the loop.
func (c *Channel) admitWaiters() {
	o := &c.o
	o.mu.Lock()
	n := 0
	for ; n < len(o.waiters) && c.reserve(o.waiters[n].size); n++ {
		w := o.waiters[n]
		if w.err = c.appendLocked(w.p, &w.f, w.part, w.size); w.err != nil {
			o.queued.Add(int64(-w.size)) // the next one finds it
		}
		close(w.ready)
	}
	o.waiters = slices.Delete(o.waiters, 0, n)
	o.waiting.Store(len(o.waiters) > 0)
	o.mu.Unlock()
	c.takeOver()
}

// giveUp takes a waiter out whose context ended; false if it was sent or refused before:
// a result that is there beats a context that is done.
func (c *Channel) giveUp(w *waiter) bool {
	o := &c.o
	o.mu.Lock()
	defer o.mu.Unlock()
	i := slices.Index(o.waiters, w)
	if i < 0 {
		return false
	}
	o.waiters = slices.Delete(o.waiters, i, i+1)
	return true
}

// refuseWaitersLocked ends the waiting because the output is sealed.
func (o *outbound) refuseWaitersLocked() {
	for _, w := range o.waiters {
		w.err = o.sealed
		close(w.ready)
	}
	o.waiters = nil
	o.waiting.Store(false)
}
