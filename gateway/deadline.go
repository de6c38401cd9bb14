package gateway

import (
	"context"
	"os"
	"sync"
	"time"
)

// deadline is a context that ends at a time which may be moved, as that of a net.Conn:
// what waits when it passes is woken with os.ErrDeadlineExceeded. Any goroutine.
type deadline struct {
	parent context.Context // immutable

	mu     sync.Mutex // guards the following
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
	over   error // of stop
}

// context returns what to wait with.
func (d *deadline) context() context.Context {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.contextLocked()
}

func (d *deadline) contextLocked() context.Context {
	if d.ctx == nil {
		d.ctx, d.cancel = context.WithCancelCause(d.parent)
		if d.over != nil {
			d.cancel(d.over)
		}
	}
	return d.ctx
}

// set moves the deadline; the zero time is none.
func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.over != nil {
		return
	}
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	if d.ctx != nil && context.Cause(d.ctx) == os.ErrDeadlineExceeded {
		d.ctx = nil // a new one may be waited for
	}
	d.contextLocked()
	if t.IsZero() {
		return
	}
	left := time.Until(t)
	if left <= 0 {
		d.cancel(os.ErrDeadlineExceeded)
		return
	}
	cancel := d.cancel
	d.timer = time.AfterFunc(left, func() { cancel(os.ErrDeadlineExceeded) })
}

// stop wakes everybody with cause, now and from now on.
func (d *deadline) stop(cause error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.over = cause
	if d.timer != nil {
		d.timer.Stop()
	}
	if d.cancel != nil {
		d.cancel(cause)
	}
}
