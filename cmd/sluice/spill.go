package main

import (
	"fmt"
	"io"
	"sync"
	"time"
)

const (
	maxSpillBytes = 1 << 20     // that wait to be written
	spillPatience = time.Second // for the last of them, at the end
)

// spill is a writer that never waits, for the log of a program that others wait for: a
// terminal that was stopped, or a pipe that nobody reads, holds up a goroutine of its own
// only. What does not fit is dropped, and the log says how much that was.
type spill struct {
	w    io.Writer
	more chan struct{} // there is something
	quit chan struct{} // closed by close
	done chan struct{} // closed when all is written

	mu      sync.Mutex // guards the following
	queue   []byte
	dropped int // pieces
}

// newSpill starts a goroutine, which close ends.
func newSpill(w io.Writer) *spill {
	s := &spill{w: w, more: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{})}
	go s.run()
	return s
}

// Write takes a copy of p, all of it or nothing. Any goroutine, also after close, when it
// goes nowhere.
func (s *spill) Write(p []byte) (int, error) {
	s.mu.Lock()
	if len(s.queue)+len(p) > maxSpillBytes {
		s.dropped++
	} else {
		s.queue = append(s.queue, p...)
	}
	s.mu.Unlock()
	select {
	case s.more <- struct{}{}:
	default: // it has not seen the last one yet
	}
	return len(p), nil
}

func (s *spill) run() {
	defer close(s.done)
	var batch []byte
	for over := false; !over; {
		select {
		case <-s.more:
		case <-s.quit:
			over = true
		}
		s.mu.Lock()
		batch, s.queue = s.queue, batch[:0]
		dropped := s.dropped
		s.dropped = 0
		s.mu.Unlock()
		if dropped > 0 {
			batch = fmt.Appendf(batch, "sluice: %d lines of the log were dropped: nobody takes them as fast as they come\n", dropped)
		}
		if len(batch) > 0 {
			_, _ = s.w.Write(batch) // there is nobody else to tell
		}
	}
}

// close waits for what was written, as long as that is sensible. It is called once.
func (s *spill) close() {
	close(s.quit)
	patience := time.NewTimer(spillPatience)
	defer patience.Stop()
	select {
	case <-s.done:
	case <-patience.C:
	}
}
