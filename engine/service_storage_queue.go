package engine

import (
	"context"
	"fmt"
	"syscall"

	"github.com/sluice-rpc/sluice/service"
	"github.com/sluice-rpc/sluice/session"
)

// storageKey is what calls are kept in order for.
type storageKey struct{ collection, key string }

// askedKey is what the answers to one client are kept in order for.
type askedKey struct {
	client *session.Table
	find   bool // of a collection
	storageKey
}

// storageCall is a call of a client that is not answered yet.
type storageCall struct {
	op              storageOp
	call            *service.Call
	collection, key string
	blob            []byte
	tags            []string
	size            int64 // what is counted for it

	// guarded by the service's mu
	before   int            // calls that must come first
	done     []*storageCall // those that wait until this one is done at the store
	answered *storageCall   // the one that waits until this one is answered
}

// accept takes a call over, on its client's loop, or refuses it at once.
func (s *StorageService) accept(op storageOp, call *service.Call) {
	c := &storageCall{op: op, call: call, size: int64(len(call.Args()))}
	if err := s.admit(c); err != nil {
		s.refused.Add(1)
		s.fail(call, "", "", err)
		return
	}
	c.read(call.Args())
	call.OffLoop()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.orderLocked(c)
	if c.before == 0 {
		s.startLocked(c)
	}
}

// admit counts a call, unless there are too many.
func (s *StorageService) admit(c *storageCall) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	of := s.clients[c.call.Table()]
	switch {
	case s.closed:
		return &storageRefusal{syscall.ECANCELED, "the storage is being closed"}
	case s.pending >= s.cfg.MaxPending:
		return &storageRefusal{syscall.EAGAIN, fmt.Sprintf("the storage has %d calls to do; try again later", s.pending)}
	case of >= s.cfg.MaxPendingPerClient:
		return &storageRefusal{syscall.EAGAIN, fmt.Sprintf("this connection has %d calls that are not answered yet; wait for some", of)}
	case s.bytes+c.size > s.cfg.MaxPendingBytes:
		return s.noRoom(c.size)
	}
	s.clients[c.call.Table()]++
	s.pending++
	s.bytes += c.size
	return nil
}

func (s *StorageService) noRoom(size int64) error {
	return &storageRefusal{syscall.ENOBUFS, fmt.Sprintf(
		"%d bytes more than the %d that may wait for the disk or for clients to read; try again later", size, s.cfg.MaxPendingBytes)}
}

// orderLocked finds the calls that must come before c: changes of what it is about, and
// the client's own last question about that, so that it is answered in order.
func (s *StorageService) orderLocked(c *storageCall) {
	if last := s.asked[c.asked()]; last != nil {
		last.answered = c
		c.before++
	}
	s.asked[c.asked()] = c
	if c.op == opFind {
		for key, change := range s.changed {
			if key.collection == c.collection {
				change.done = append(change.done, c)
				c.before++
			}
		}
		return
	}
	if change := s.changed[c.about()]; change != nil {
		change.done = append(change.done, c)
		c.before++
	}
	if c.op != opRead {
		s.changed[c.about()] = c
	}
}

func (c *storageCall) about() storageKey { return storageKey{c.collection, c.key} }

func (c *storageCall) asked() askedKey {
	return askedKey{c.call.Table(), c.op == opFind, c.about()}
}

// releaseLocked starts c if it was only waiting for the call that is over now.
func (s *StorageService) releaseLocked(c *storageCall) {
	if c.before--; c.before == 0 {
		s.startLocked(c)
	}
}

// startLocked gives c a goroutine, or lets it wait until there may be one.
func (s *StorageService) startLocked(c *storageCall) {
	if s.running >= s.cfg.MaxConcurrent {
		s.ready = append(s.ready, c)
		return
	}
	s.running++
	go s.run(c)
}

// run does one call and answers it. Its place at the store is free before the client,
// which may be slow to read, has the answer.
func (s *StorageService) run(c *storageCall) {
	answer, err := s.do(c)
	s.mu.Lock()
	s.running--
	s.doneLocked(c)
	if more := int64(len(answer)); s.bytes+more > s.cfg.MaxPendingBytes && err == nil && more > 0 {
		err = s.noRoom(more)
	} else {
		s.bytes += more
		c.size += more
	}
	s.mu.Unlock()

	c.blob = nil
	if err == nil {
		s.done[c.op].Add(1)
		err = c.call.ReplyBytes(answer)
	}
	if err != nil && c.call.Session().Err() == nil {
		s.fail(c.call, c.collection, c.key, err)
	}
	s.settle(c)
}

// doneLocked lets those go on that waited for c, and those that waited for a place.
func (s *StorageService) doneLocked(c *storageCall) {
	if s.changed[c.about()] == c {
		delete(s.changed, c.about())
	}
	for _, next := range c.done {
		s.releaseLocked(next)
	}
	c.done = nil
	for len(s.ready) > 0 && s.running < s.cfg.MaxConcurrent {
		next := s.ready[0]
		s.ready[0] = nil
		if s.ready = s.ready[1:]; len(s.ready) == 0 {
			s.ready = nil
		}
		s.running++
		go s.run(next)
	}
}

// settle gives back what admit took.
func (s *StorageService) settle(c *storageCall) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asked[c.asked()] == c {
		delete(s.asked, c.asked())
	}
	if c.answered != nil {
		s.releaseLocked(c.answered)
	}
	s.bytes -= c.size
	s.pending--
	if s.clients[c.call.Table()]--; s.clients[c.call.Table()] == 0 {
		delete(s.clients, c.call.Table())
	}
	if s.pending == 0 && s.idle != nil {
		close(s.idle)
		s.idle = nil
	}
}

// Close refuses new calls and waits until those that were accepted are answered. If ctx
// ends first they go on, and the error says how many there are; the Store must not be
// closed before them.
func (s *StorageService) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	if s.pending == 0 {
		s.mu.Unlock()
		return nil
	}
	if s.idle == nil {
		s.idle = make(chan struct{})
	}
	idle := s.idle
	s.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("engine: the storage has %d calls that are not answered: %w", s.Stats().Pending, context.Cause(ctx))
	}
}
