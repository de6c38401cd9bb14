package storage

import (
	"fmt"
	"sync"
	"sync/atomic"
)

// dirSync syncs the directory for many at once. Those who come while a sync is under way
// share the next one.
type dirSync struct {
	sync func() error // immutable
	turn slots        // one, held while a round syncs

	rounds atomic.Uint64
	broken atomic.Pointer[error] // why no sync is to be trusted any more

	mu   sync.Mutex
	next *round // the one that can be joined; nil before its first; guarded by mu
}

func newDirSync(sync func() error) *dirSync {
	return &dirSync{sync: sync, turn: newSlots(1)}
}

type round struct {
	done chan struct{} // closed when err is set
	err  error
}

// wait returns when the directory has been synced by a sync that began after the call.
// After one that failed it always fails: what the kernel could not write it may have
// dropped, and would then report the next sync as a success.
func (d *dirSync) wait() error {
	d.mu.Lock()
	r, leads := d.next, d.next == nil
	if leads {
		r = &round{done: make(chan struct{})}
		d.next = r
	}
	d.mu.Unlock()
	if leads {
		d.lead(r)
	}
	<-r.done
	return r.err
}

// lead syncs for all who have joined a round by the time that the one before is over.
func (d *dirSync) lead(r *round) {
	d.turn <- struct{}{}
	defer d.turn.release()
	d.mu.Lock()
	d.next = nil
	d.mu.Unlock()
	if r.err = d.failure(); r.err == nil {
		d.rounds.Add(1)
		if err := d.sync(); err != nil {
			r.err = fmt.Errorf("%w: %w", ErrBroken, err)
			d.broken.Store(&r.err)
		}
	}
	close(r.done)
}

// failure returns the error of the sync that failed, if one has.
func (d *dirSync) failure() error {
	if err := d.broken.Load(); err != nil {
		return *err
	}
	return nil
}
