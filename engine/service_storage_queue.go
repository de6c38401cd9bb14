package engine

import (
	"context"
	"fmt"
	"syscall"

	"github.com/sluice-rpc/sluice/service"
)

// storageKey is what calls are kept in order for.
type storageKey struct{ collection, key string }

// storageCall is a call of a client that is not answered yet.
type storageCall struct {
	op              storageOp
	call            *service.Call
	collection, key string
	blob            []byte
	tags            []string
	size            int64 // what is counted for it

	before int            // calls that must be done first; guarded by the service's mu
	after  []*storageCall // those that wait for this one; guarded by the service's mu
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

// orderLocked finds the calls that must be done before c.
func (s *StorageService) orderLocked(c *storageCall) {
	if c.op == opFind {
		for key, change := range s.last {
			if key.collection == c.collection {
				change.after = append(change.after, c)
				c.before++
			}
		}
		return
	}
	key := storageKey{c.collection, c.key}
	if change := s.last[key]; change != nil {
		change.after = append(change.after, c)
		c.before++
	}
	if c.op != opRead {
		s.last[key] = c
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
	if key := (storageKey{c.collection, c.key}); s.last[key] == c {
		delete(s.last, key)
	}
	for _, next := range c.after {
		if next.before--; next.before == 0 {
			s.startLocked(next)
		}
	}
	c.after = nil
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
