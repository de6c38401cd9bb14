package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// A client runs one workload against one server.
type client struct {
	wire          *wire
	work          workload
	network, addr string
	warm, dur     time.Duration
	servers       []int // its processes
	verify        bool
}

func (c *client) run(r *result) error {
	switch {
	case c.verify:
		return c.verifyAll(r)
	case c.work.stream:
		return c.stream(r)
	case c.work.flight == 1:
		return c.pingPong(r)
	}
	return c.echo(r)
}

// pingPong has one frame under way and takes the time of each.
func (c *client) pingPong(r *result) error {
	l, err := dial(c.network, c.addr, c.wire, 1)
	if err != nil {
		return err
	}
	l.size = c.work.size
	frame := c.wire.chunk(nil, c.wire.session(0), payload(c.work.size, markEcho))
	took := make([]time.Duration, 0, 1<<18)
	trips := func(d time.Duration) error {
		for start := time.Now(); ; {
			before := time.Now()
			if before.Sub(start) > d {
				return nil
			}
			if err := l.write(frame); err != nil {
				return err
			}
			for chunks := 0; chunks == 0; {
				if chunks, err = l.receive(); err != nil {
					return err
				}
			}
			took = append(took, time.Since(before))
		}
	}
	if err := trips(c.warm); err != nil {
		return err
	}
	took = took[:0]
	w := openWindow(c.servers)
	if err := trips(c.dur); err != nil {
		return err
	}
	w.close(r, uint64(len(took)), uint64(len(took)*c.work.size))
	if len(took) == 0 {
		return errors.New("nothing came back")
	}
	slices.Sort(took)
	r.P50 = float64(took[len(took)/2]) / 1e3
	r.P99 = float64(took[len(took)*99/100]) / 1e3
	return nil
}

// echo keeps the workload's number of frames under way on every connection.
func (c *client) echo(r *result) error {
	links, ready, err := c.dialAll()
	if err != nil {
		return err
	}
	frame := c.wire.chunk(nil, c.wire.session(0), payload(c.work.size, markEcho))
	burst := slices.Repeat(frame, c.work.flight)
	for _, l := range links {
		if err := l.write(burst); err != nil {
			return err
		}
	}
	trips := func(d time.Duration) (total uint64, err error) {
		for end := time.Now().Add(d); time.Now().Before(end); {
			// A turn of one connection is not worth a look at the clock each.
			for range max(1, 16/len(links)) {
				turn, err := ready()
				if err != nil {
					return total, err
				}
				for _, l := range turn {
					n, err := l.receive()
					if err != nil {
						return total, err
					}
					total += uint64(n)
					if err := l.write(burst[:n*len(frame)]); err != nil {
						return total, err
					}
				}
			}
		}
		return total, nil
	}
	if _, err := trips(c.warm); err != nil {
		return err
	}
	w := openWindow(c.servers)
	n, err := trips(c.dur)
	w.close(r, n, n*uint64(c.work.size))
	return err
}

// dialAll makes the workload's connections. ready waits and returns those that can be
// read.
func (c *client) dialAll() (links []*link, ready func() ([]*link, error), err error) {
	for range c.work.conns {
		l, err := dial(c.network, c.addr, c.wire, c.work.sessions())
		if err != nil {
			return nil, nil, err
		}
		l.size = c.work.size
		links = append(links, l)
	}
	if len(links) == 1 {
		return links, func() ([]*link, error) { return links, nil }, nil
	}
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, nil, err
	}
	for i, l := range links {
		ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(i)}
		if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, l.fd, &ev); err != nil {
			return nil, nil, err
		}
	}
	events := make([]unix.EpollEvent, len(links))
	turn := make([]*link, 0, len(links))
	return links, func() ([]*link, error) {
		n, err := unix.EpollWait(epoll, events, int(stallTimeout.Milliseconds()))
		switch {
		case err == unix.EINTR:
			return nil, nil
		case err != nil:
			return nil, err
		case n == 0:
			return nil, errors.New("the server does not answer")
		}
		turn = turn[:0]
		for _, ev := range events[:n] {
			turn = append(turn, links[ev.Fd])
		}
		return turn, nil
	}, nil
}

// block is about how many bytes of whole frames a stream gives to one write.
const block = 60 << 10

// stream sends blocks of frames one way, and has the server count them.
func (c *client) stream(r *result) error {
	l, err := dial(c.network, c.addr, c.wire, c.work.sessions())
	if err != nil {
		return err
	}
	var frames []byte
	var count, size uint64
	for i := 0; len(frames) < block; i++ {
		session, n := c.piece(i)
		frames = c.wire.chunk(frames, session, payload(n, markSink))
		count, size = count+1, size+uint64(n)
	}
	blocks := func(d time.Duration) (n uint64, err error) {
		for end := time.Now().Add(d); time.Now().Before(end); n++ {
			if err := l.write(frames); err != nil {
				return n, err
			}
		}
		return n, nil
	}
	if _, err := blocks(c.warm); err != nil {
		return err
	}
	before, err := l.count()
	if err != nil {
		return err
	}
	w := openWindow(c.servers)
	n, err := blocks(c.dur)
	if err != nil {
		return err
	}
	after, err := l.count() // behind all that was sent: the window ends when it is all done
	if err != nil {
		return err
	}
	w.close(r, n*count, n*size)
	if lost := int64(n*count - (after - before - 1)); lost != 0 && !(c.wire.loose && 100*max(lost, -lost) < int64(n*count)) {
		return fmt.Errorf("the server counted %d of %d", after-before-1, n*count)
	}
	return nil
}

// piece returns the session and the size of a stream's i-th payload.
func (c *client) piece(i int) (session uint64, size int) {
	if c.work.size > 0 {
		return c.wire.session(0), c.work.size
	}
	return c.wire.session(i % mixedSessions), mixedSizes[i%len(mixedSizes)]
}

// verifyAll does what the workload does, in echoes, each with a payload of its own that
// has to come back unharmed and in order.
func (c *client) verifyAll(r *result) error {
	links, _, err := c.dialAll()
	if err != nil {
		return err
	}
	w := openWindow(c.servers)
	var chunks, size uint64
	for _, l := range links {
		n, err := l.count()
		if err != nil {
			return err
		}
		chunks += n
	}
	var frames []byte
	for end := time.Now().Add(c.dur); time.Now().Before(end); {
		for _, l := range links {
			l.verify = &verifier{}
			frames = frames[:0]
			sent := 0
			for ; c.work.stream && len(frames) < block || sent < c.work.flight; sent++ {
				session, n := c.piece(sent)
				frames = c.wire.chunk(frames, session, l.verify.next(session, n))
				size += uint64(n)
			}
			if err := inPieces(l, frames); err != nil {
				return err
			}
			for got := 0; got < sent; {
				n, err := l.receive()
				if err != nil {
					return err
				}
				got += n
			}
			chunks += uint64(sent)
		}
	}
	w.close(r, chunks, size)
	for _, l := range links {
		n, err := l.count()
		if err != nil {
			return err
		}
		chunks -= n - 1
	}
	if chunks != 0 {
		return fmt.Errorf("the server counted %d chunks less than came back", int64(chunks))
	}
	return nil
}

// inPieces writes frames in two writes, which break one of them anywhere.
func inPieces(l *link, frames []byte) error {
	at := rand.IntN(len(frames))
	if err := l.write(frames[:at]); err != nil {
		return err
	}
	return l.write(frames[at:])
}
