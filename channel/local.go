package channel

import (
	"errors"
	"io"
	"sync"
)

// localStream is the transport over one end of a local pair: one goroutine runs all
// turns.
type localStream struct {
	c     *Channel
	end   *End
	loop  loop
	wakec chan struct{}
	gone  chan struct{}
	wg    sync.WaitGroup
	eof   bool
}

// startLocal puts c on e; open runs in the first turn.
func startLocal(c *Channel, e *End, open func()) {
	s := &localStream{c: c, end: e, wakec: make(chan struct{}, 1), gone: make(chan struct{})}
	s.loop.wake = func() { signal(s.wakec) }
	c.loop, c.stream = &s.loop, s
	e.setNotify(s.loop.wake)
	s.loop.post(nil, open)
	s.wg.Go(s.runner)
}

func (s *localStream) runner() {
	for {
		select {
		case <-s.wakec:
		case <-s.gone:
			return
		}
		s.loop.runPosts()
		if s.c.State() != Closed {
			if s.c.o.blocked {
				s.c.writable()
			}
			s.read()
		}
		s.loop.endTurn()
	}
}

// read takes one buffer, and comes again if that was not all.
func (s *localStream) read() {
	if s.eof || s.c.in.paused || s.c.State() == Closed {
		return
	}
	defer s.c.guard()
	if !s.c.mayRead() {
		return
	}
	n, err := s.end.tryRead(s.c.readSpace())
	if n > 0 {
		s.c.gotInput(n)
		signal(s.wakec)
	}
	if err != nil {
		s.eof = true
		s.c.inputEnded(err)
	}
}

func (s *localStream) write(p []byte) (int, bool, error) {
	n, err := s.end.tryWrite(p)
	return n, false, err
}

func (s *localStream) setPaused(paused bool) {
	if !paused {
		s.loop.post(s.c, s.c.deliver)
	}
}

func (s *localStream) unread() bool { return s.end.readable() > 0 }
func (s *localStream) poll()        { s.read() }
func (s *localStream) closeWrite()  { _ = s.end.CloseWrite() }
func (s *localStream) wait()        { s.wg.Wait() }

func (s *localStream) close() {
	close(s.gone)
	s.loop.close()
	if err := s.end.Close(); err != nil && !errors.Is(err, io.ErrClosedPipe) {
		s.c.log.Warn("channel: closing a local end", "err", err)
	}
}
