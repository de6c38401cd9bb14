package service

import (
	"context"
	"sync"
	"time"
)

// pace spreads what many want to do at the same time: so much at once, and the rest one by
// one. Nil does not hold anything up.
type pace struct {
	// immutable
	gap   time.Duration
	burst time.Duration // what may be made up for, after a while of nothing

	mu   sync.Mutex // guards the following
	next time.Time  // whose turn it is not yet
}

// newPace returns a pace of at most rate in any second, a fifth of them at once; nil if
// rate is not positive.
func newPace(rate int) *pace {
	if rate <= 0 {
		return nil
	}
	once := max(rate/5, 1)
	gap := time.Second / time.Duration(max(rate-once, 1))
	return &pace{gap: gap, burst: time.Duration(once-1) * gap}
}

// wait waits for a turn, or returns the cause of ctx.
func (p *pace) wait(ctx context.Context) error {
	if p == nil {
		return nil
	}
	now := time.Now()
	p.mu.Lock()
	turn := now.Add(-p.burst)
	if p.next.After(turn) {
		turn = p.next
	}
	p.next = turn.Add(p.gap)
	p.mu.Unlock()
	if !turn.After(now) {
		return nil
	}
	timer := time.NewTimer(turn.Sub(now))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
