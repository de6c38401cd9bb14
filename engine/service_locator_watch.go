package engine

import "sync"

// bell wakes those who watch something. A watcher that is busy is woken once for all that
// happened meanwhile: it looks at the thing itself, so nothing is queued for it.
type bell struct {
	max int // watchers

	mu   sync.Mutex
	ears map[chan struct{}]struct{} // guarded by mu; each has room for one
}

// listen returns a channel that gets a value after each ring, false if there are too many
// of them. It rings at once. leave gives it back.
func (b *bell) listen() (chan struct{}, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.ears) >= b.max {
		return nil, false
	}
	if b.ears == nil {
		b.ears = make(map[chan struct{}]struct{})
	}
	ear := make(chan struct{}, 1)
	ear <- struct{}{}
	b.ears[ear] = struct{}{}
	return ear, true
}

func (b *bell) leave(ear chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.ears, ear)
}

// ring wakes all. It never waits.
func (b *bell) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for ear := range b.ears {
		select {
		case ear <- struct{}{}:
		default:
		}
	}
}

func (b *bell) watchers() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.ears)
}
