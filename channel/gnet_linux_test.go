package channel

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/panjf2000/gnet/v2/pkg/netpoll"
	"github.com/sluice-rpc/sluice/codec"
	"golang.org/x/sys/unix"
)

// closeInsideSend writes to a peer that is gone, from within a callback; side notices a
// callback within a callback.
func closeInsideSend(t *testing.T) {
	for _, m := range media[:2] {
		s := newSide(t, m, Config{})
		w := m.face(t, s)
		refusals := 0
		s.do(func() {
			s.onMessage = func(*codec.Message, []codec.Header) {
				_ = w.Close()
				for range 1000 {
					if err := s.Send(chunk(1, 0, writeAhead)); err != nil {
						refusals++
					}
				}
			}
		})
		w.put(w.frames(chunk(1, 0, 8)))
		if err := s.over(); err.Code != CodeReset && err.Code != CodeEOF || refusals == 0 {
			t.Errorf("ended with %v after %d refusals", err, refusals)
		}
		s.end()
	}
}

// socketAt makes socket pairs until one end has the descriptor number fd. It returns the
// other end, or -1 if somebody else has the number.
func socketAt(t *testing.T, fd int) (peer int) {
	t.Helper()
	peer = -1
	for range 64 {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = errors.Join(unix.Close(pair[0]), unix.Close(pair[1])) })
		switch fd {
		case pair[0]:
			return pair[1]
		case pair[1]:
			return pair[0]
		}
		if pair[0] > fd && pair[1] > fd {
			return -1
		}
	}
	return -1
}

// silentFor checks that nothing was written to the other end of peer.
func silentFor(t *testing.T, what string, peer int) {
	t.Helper()
	buf := make([]byte, 100)
	if n, err := unix.Read(peer, buf); err != unix.EAGAIN {
		t.Errorf("%s: bytes %q (%v) came to a stranger", what, buf[:max(n, 0)], err)
	}
}

// reusedDescriptor (C6) ends channels in several ways with output queued, has somebody
// else get the descriptor's number at once, and goes on using the dead channel.
func reusedDescriptor(t *testing.T) {
	tried := 0
	for round := range 40 {
		m := media[round%2]
		s := newSide(t, m, Config{HighWaterBytes: 1 << 20})
		fd, peer := -1, -1
		s.onClose = func(*CloseError) {
			peer = socketAt(t, fd)
			use(s)
		}
		w := m.tight().face(t, s)
		s.do(func() {
			fd = s.stream.(*pollStream).fd
			for s.Send(chunk(1, 0, 10_000)) == nil {
			}
			_ = s.SendHeartbeat()
			switch round / 2 % 4 {
			case 0:
				s.Fail(&CloseError{Code: CodeDisowned})
			case 1:
				_ = w.Close()
			case 2:
				panic("boom")
			case 3:
				s.Drain(&CloseError{Code: CodeClosed}, true, 0)
				s.Fail(&CloseError{Code: CodeClosed})
			}
		})
		s.over()
		_ = s.SendOffLoop(t.Context(), chunk(1, 0, 8))
		_ = s.Post(func() { use(s) })
		if peer >= 0 {
			tried++
			silentFor(t, "a dead channel", peer)
		}
		s.end()
	}
	if tried == 0 {
		t.Error("no descriptor's number was used again")
	}
	staleEvent(t)
}

// TestEndIsNotWatched: the end of the input would be reported without end while output
// is still being written.
func TestEndIsNotWatched(t *testing.T) {
	s, w := media[0].tight().faced(t, Config{HighWaterBytes: 100_000})
	s.fill(1000)
	s.do(func() { s.Drain(&CloseError{Code: CodeClosed}, true, 0) })
	_ = w.Conn.(*net.TCPConn).CloseWrite()
	eventually(t, "the end of the input", func() (ended bool) {
		s.do(func() { ended = s.in.ended })
		return ended
	})
	s.do(func() {
		if got := s.stream.(*pollStream).interest; got != pollWrite {
			t.Errorf("interest is %b, want %b", got, pollWrite)
		}
	})
	if list, err := w.rest(); len(list) < 90 || err != io.EOF {
		t.Errorf("%d frames and %v", len(list), err)
	}
	s.wantOver(CodeClosed)
	s.end()
}

// TestOutOfDescriptors: a channel that cannot be attached for want of a descriptor gives
// an error, and closes what it was given.
func TestOutOfDescriptors(t *testing.T) {
	cfg := media[0].shared(t, Config{})
	for what, cfg := range map[string]Config{"for the loop": {}, "for the socket": cfg} {
		leavesNothing(t, func() {
			s := newSide(t, media[0], cfg)
			x, y := joinTCP(t)
			free := takeDescriptors(t)
			err := s.Attach(x)
			free()
			if !errors.Is(err, syscall.EMFILE) {
				t.Errorf("%s: Attach() = %v, want EMFILE", what, err)
			}
			if s.State() != Closed || s.opens.Load()+s.closes.Load() != 0 {
				t.Errorf("%s: State() = %v, %d OnOpen, %d OnClose", what, s.State(), s.opens.Load(), s.closes.Load())
			}
			if n, err := y.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("%s: the peer's Read() = %d, %v, want EOF", what, n, err)
			}
			_ = y.Close()
		})
	}
}

// takeDescriptors takes all that the process may have, until the returned function is
// called.
func takeDescriptors(t *testing.T) (free func()) {
	t.Helper()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	few := limit
	few.Cur = 128
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	var taken []int
	for {
		fd, err := unix.Dup(0)
		if err != nil {
			break
		}
		taken = append(taken, fd)
	}
	return func() {
		for _, fd := range taken {
			_ = unix.Close(fd)
		}
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			t.Fatal(err)
		}
	}
}

// staleEvent reports events that are not, for descriptors that are watched or are not.
func staleEvent(t *testing.T) {
	s, w := media[0].faced(t, Config{})
	s.do(func() {
		st := s.stream.(*pollStream)
		for _, fd := range []int{st.fd, 0, 1 << 20} {
			for _, ev := range []netpoll.IOEvent{unix.EPOLLIN, unix.EPOLLOUT, unix.EPOLLERR, unix.EPOLLHUP | unix.EPOLLIN | unix.EPOLLOUT} {
				if err := st.l.onEvent(fd, ev, 0); err != nil {
					t.Errorf("onEvent(%d, %x) = %v", fd, ev, err)
				}
			}
		}
	})
	w.put(w.frames(chunk(1, 0, 8)))
	eventually(t, "a frame", func() bool { return s.messages.Load() == 1 })
	s.end()
}

// afterStop uses what is left of loops that were closed.
func afterStop(t *testing.T) {
	loops, err := NewLoops(LoopsConfig{N: 1, Logger: silent})
	if err != nil {
		t.Fatal(err)
	}
	a, b := media[0].pair(t, Config{Loops: loops})
	l := loops.loops[0]
	wakeFd := l.wakeFd
	if err := loops.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	peer := socketAt(t, wakeFd)
	l.wakeUp() // as by a goroutine that had posted and came too late to wake
	if peer >= 0 {
		silentFor(t, "a wake-up", peer)
	}
	if l.post(nil, func() { t.Error("it ran") }) || a.Post(func() { t.Error("it ran") }) {
		t.Error("a post after the end was taken")
	}
	l.markDirty(a.Channel)
	var ce *CloseError
	if err := a.SendOffLoop(context.Background(), chunk(1, 0, 8)); !errors.As(err, &ce) {
		t.Errorf("SendOffLoop() = %v, want the CloseError", err)
	}
	a.end()
	b.end()
}

// dialWhenever: Connect fails at once on closed loops, and works for a goroutine that a
// callback started. On the loop itself it is forbidden.
func dialWhenever(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	cfg := media[0].shared(t, Config{})
	a, w := media[0].faced(t, cfg)
	second := newSide(t, media[0], cfg)
	connected := make(chan error, 1)
	a.do(func() {
		a.onMessage = func(*codec.Message, []codec.Header) {
			go func() { connected <- second.Connect(context.Background(), "tcp", ln.Addr().String()) }()
		}
	})
	w.put(w.frames(chunk(1, 0, 8)))
	if err := await(t, "Connect", connected); err != nil {
		t.Errorf("Connect() = %v", err)
	}
	if err := cfg.Loops.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	third := newSide(t, media[0], cfg)
	if err := third.Connect(context.Background(), "tcp", ln.Addr().String()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Connect() on closed loops = %v, want net.ErrClosed", err)
	}
	a.end()
	second.end()
}

// goroutineID is the first line of the caller's stack.
func goroutineID() string {
	buf := make([]byte, 64)
	id, _, _ := bytes.Cut(buf[:runtime.Stack(buf, false)], []byte(" ["))
	return string(id)
}

// oneGoroutine: callbacks, posts and timers of one event loop are one goroutine's.
func oneGoroutine(t *testing.T) {
	var ids tally[string]
	note := func() { ids.add(goroutineID()) }
	s := newSide(t, media[0], Config{})
	s.onOpen = note
	s.onMessage = func(*codec.Message, []codec.Header) { note() }
	s.onClose = func(*CloseError) { note() }
	w := media[0].face(t, s)
	w.put(w.frames(chunk(1, 0, 8)))
	eventually(t, "a frame", func() bool { return s.messages.Load() == 1 })
	fired := make(chan struct{})
	s.do(func() {
		note()
		s.NewTimer(func() { note(); close(fired) }).Reset(time.Millisecond)
	})
	await(t, "the timer", fired)
	_ = w.Close()
	s.over()
	list := ids.all()
	for _, id := range list {
		if id != list[0] || id == goroutineID() {
			t.Errorf("calls came on %q", list)
			break
		}
	}
	if len(list) != 5 {
		t.Errorf("%d calls, want 5", len(list))
	}
	s.end()
}
