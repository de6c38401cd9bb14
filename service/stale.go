package service

import (
	"context"
	"sync"
	"time"
)

const (
	// maxStale is how many tries to connect in a row are made with the last answer of a
	// locator that cannot be asked, before that answer is dropped.
	maxStale = 3
	// stalePatience is how long a locator may take to answer when there is such an answer.
	stalePatience = 2 * time.Second
)

// lastAnswer keeps what a locator said last, for the time when it cannot be asked. Its
// owner guards it.
type lastAnswer struct {
	r    Resolved
	uses int // since it last led to a connection
}

func (a *lastAnswer) known() bool { return !a.r.Gone() }

// ask asks source, and takes the last good answer if there is no other. mu is its owner's,
// and not held.
func (a *lastAnswer) ask(ctx context.Context, mu *sync.Mutex, source func(context.Context) (Resolved, error)) (Resolved, error) {
	mu.Lock()
	known := a.known()
	mu.Unlock()
	if known {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, stalePatience)
		defer cancel()
	}
	r, err := source(ctx)
	mu.Lock()
	defer mu.Unlock()
	return a.or(r, err)
}

// or returns what a locator was asked for, or else the last good answer. What a locator
// says, be it that there is nothing, is better than what it said before.
func (a *lastAnswer) or(r Resolved, err error) (Resolved, error) {
	switch {
	case err == nil:
		*a = lastAnswer{r: r}
	case definite(err) || a.uses == maxStale:
		*a = lastAnswer{}
	case a.known():
		a.uses++
		return a.r, nil
	}
	return r, err
}

// works notes that the answer has led to a connection.
func (a *lastAnswer) works() { a.uses = 0 }
