package channel

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// connStream is the transport over any net.Conn. Three goroutines serve it: the reader
// holds the turn only between Reads, the writer owns Write, the runner runs posts.
// Reading never waits for writing.
type connStream struct {
	c      *Channel
	conn   net.Conn
	turn   sync.Mutex // held by whoever runs a turn of loop
	loop   loop
	wakec  chan struct{} // to the runner; one is enough
	resume chan struct{} // to the reader
	lend   chan []byte   // to the writer; at most one buffer is lent
	wrote  chan struct{} // from the writer, when it has told of one
	gone   chan struct{} // closed by close
	halved bool          // closeWrite was called; owned by the loop
	inHand atomic.Bool   // the reader has bytes that wait for the turn
	wg     sync.WaitGroup
}

// startConn puts c on conn; open runs in the first turn.
func startConn(c *Channel, conn net.Conn, open func()) {
	s := &connStream{
		c: c, conn: conn,
		wakec: make(chan struct{}, 1), resume: make(chan struct{}, 1),
		lend: make(chan []byte, 1), wrote: make(chan struct{}, 1), gone: make(chan struct{}),
	}
	s.loop.wake = func() { signal(s.wakec) }
	c.loop, c.stream = &s.loop, s
	s.loop.post(nil, open)
	s.wg.Go(s.runner)
	s.wg.Go(s.writer)
}

// signal makes a one-slot channel ready; it never waits.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// inTurn runs f as a turn of the loop, after the posts; false once the stream is closed.
func (s *connStream) inTurn(f func()) bool {
	s.turn.Lock()
	defer s.turn.Unlock()
	if s.closed() {
		return false
	}
	s.loop.runPosts()
	if f != nil && !s.closed() {
		s.guarded(f)
	}
	s.loop.endTurn()
	return !s.closed()
}

func (s *connStream) guarded(f func()) {
	defer s.c.guard()
	f()
}

func (s *connStream) closed() bool {
	select {
	case <-s.gone:
		return true
	default:
		return false
	}
}

func (s *connStream) runner() {
	<-s.wakec
	if s.inTurn(nil) { // OnOpen ran: input may come
		s.wg.Go(s.reader)
	}
	for {
		select {
		case <-s.wakec:
			s.inTurn(nil)
		case <-s.gone:
			return
		}
	}
}

// reader reads on in a pause until it holds something, and then waits.
func (s *connStream) reader() {
	var space []byte
	ok := s.inTurn(func() { space = s.c.readSpace() })
	for ok {
		n, err := s.conn.Read(space)
		s.inHand.Store(n > 0)
		wait := false
		next := func() {
			wait = s.c.in.paused && len(s.c.in.held) > 0
			if !wait && err == nil {
				space = s.c.readSpace()
			}
		}
		ok = s.inTurn(func() {
			s.inHand.Store(false)
			if n > 0 {
				s.c.gotInput(n)
			}
			next()
		})
		for ok && wait {
			select {
			case <-s.resume:
			case <-s.gone:
				return
			}
			ok = s.inTurn(func() {
				s.c.deliver()
				next()
			})
		}
		if ok && err != nil { // behind what was read before it
			s.awaitWriter()
			s.inTurn(func() { s.c.inputEnded(err) })
			return
		}
	}
}

// awaitWriter gives the writer a moment to tell what it has written: a peer that ends
// has most likely read it, and it would be counted as undelivered.
func (s *connStream) awaitWriter() {
	timer := time.NewTimer(writerTimeout)
	defer timer.Stop()
	for {
		lent := false
		if !s.inTurn(func() { lent = s.c.o.inFlight }) || !lent {
			return
		}
		select {
		case <-s.wrote:
		case <-timer.C:
			return
		case <-s.gone:
			return
		}
	}
}

const writerTimeout = 100 * time.Millisecond

// writer writes what it is lent, until it is lent nil: the end of our direction.
func (s *connStream) writer() {
	for {
		select {
		case p := <-s.lend:
			if p == nil {
				s.endWrite()
				continue
			}
			n, err := s.conn.Write(p)
			if err == nil && n < len(p) {
				err = io.ErrShortWrite
			}
			s.inTurn(func() { s.c.wrote(n, err) })
			signal(s.wrote)
		case <-s.gone:
			return
		}
	}
}

func (s *connStream) endWrite() {
	if cw, ok := s.conn.(interface{ CloseWrite() error }); ok {
		_ = cw.CloseWrite()
	}
}

// write lends p, or as much of it as shows within a while that the peer reads.
func (s *connStream) write(p []byte) (int, bool, error) {
	p = p[:min(len(p), writeAhead)]
	s.lend <- p // never waits: only one buffer is in flight
	return len(p), true, nil
}

func (s *connStream) setPaused(paused bool) {
	if !paused {
		signal(s.resume)
	}
}

// unread: what the reader has and could not deliver yet, and what no Read has taken so
// far, where the connection can tell: the reader may be late on a busy machine.
func (s *connStream) unread() bool {
	if s.inHand.Load() {
		return true
	}
	under := s.conn
	if tls, ok := under.(interface{ NetConn() net.Conn }); ok {
		under = tls.NetConn()
	}
	switch conn := under.(type) {
	case *End:
		return conn.readable() > 0
	case syscall.Conn:
		raw, err := conn.SyscallConn()
		return err == nil && socketUnread(raw)
	}
	return false
}

// poll: the reader takes input as it comes, and unread tells what it did not.
func (s *connStream) poll() {}

// closeWrite is the writer's work, too: TLS says good-bye here.
func (s *connStream) closeWrite() {
	s.halved = true
	s.lend <- nil
}

func (s *connStream) close() {
	close(s.gone)
	s.loop.close()
	s.wg.Go(func() {
		// A good-bye to a peer that does not read would take TLS five seconds.
		if tls, ok := s.conn.(interface{ NetConn() net.Conn }); ok {
			bound := lingerTimeout
			if s.halved { // it was said, or is being said
				bound = 0
			}
			timer := time.AfterFunc(bound, func() { _ = tls.NetConn().Close() })
			defer timer.Stop()
		}
		_ = s.conn.Close()
	})
}

func (s *connStream) wait() { s.wg.Wait() }
