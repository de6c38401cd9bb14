package channel

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-rpc/sluice/codec"
)

// TestGnet goes through the traps of gnet, by the number that each has in our notes. We
// use its poller and nothing else, so that many of them cannot be reached at all; each
// of those has a sentence.
func TestGnet(t *testing.T) {
	for _, tt := range []struct {
		id, trap string
		test     func(t *testing.T)
	}{
		{"G1", "running out of descriptors ends the server", acceptsAgain},
		{"G2", "a write after the end goes to a reused descriptor", reusedDescriptor},
		{"G3", "OnClose runs inside a write", closeInsideSend},
		{"G4", "output grows without bound", outputBounded},
		{"G5", "input grows without bound, and cannot be paused", inputBounded},
		{"G6", "close drops what is pending", closeDelivers},
		// G7, Discard(0): the poller has no buffers, so there is nothing to discard.
		{"G8", "after the stop a call never returns", afterStop},
		{"G9", "dialling after the stop, or on the loop, never returns", dialWhenever},
		{"G10", "ticks come on another goroutine", oneGoroutine},
		{"G11", "two queues reorder what is posted", postsKeepOrder},
		{"G12", "posts keep the loop from its sockets", busyNeighbour},
		{"G13", "a panic in a callback ends the process", panicEndsChannel},
		{"G14", "half a close is a close", halfCloseEnds},
		{"G15", "listening on a path removes what is there", pathStays},
		// G16, no deadlines and so no TLS: that is what the net.Conn transport is for;
		// TestTLS runs over it.
		{"G17", "the stop polls every half second", stopsAtOnce},
		// G18, the logger of the process: the poller logs only a failing epoll_wait, which
		// it also returns, and we log that to LoopsConfig.Logger.
		// G19, the Windows port: there is no event loop outside Linux (loop_other.go).
		{"G20", "a connection that is wrapped is refused", wrappedConn},
	} {
		t.Run(tt.id, func(t *testing.T) {
			t.Log(tt.trap)
			tt.test(t)
		})
	}
}

// acceptsAgain (G1): accepting is ours; TestListenDescriptors and TestCatalogueListen run out.
func acceptsAgain(t *testing.T) {
	for _, err := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM} {
		if !acceptAgain(os.NewSyscallError("accept4", err)) {
			t.Errorf("acceptAgain(%v) = false", err)
		}
	}
}

// outputBounded (G4): what is sent and not taken is refused above the high mark.
func outputBounded(t *testing.T) {
	s, _ := media[1].tight().faced(t, Config{HighWaterBytes: 100_000})
	s.fill(1000)
	if held := s.Stats().QueuedBytes; held > 101_100 {
		t.Errorf("%d bytes are held", held)
	}
	s.end()
}

// inputBounded (G5): a channel that is paused reads no more than one scratch buffer.
func inputBounded(t *testing.T) {
	s := newSide(t, media[0], Config{})
	s.onOpen = s.Pause
	w := media[0].tight().face(t, s)
	_ = w.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	if n, err := w.Write(make([]byte, 64<<20)); err == nil {
		t.Errorf("a paused channel's peer wrote %d bytes", n)
	}
	if got := s.Stats().BytesIn; got > scratchBytes {
		t.Errorf("a paused channel read %d bytes", got)
	}
	s.end()
}

// closeDelivers (G6): all that was sent before Close comes, and then the end.
func closeDelivers(t *testing.T) {
	s, w := media[1].faced(t, Config{HighWaterBytes: -1})
	for i := range 64 {
		if err := s.SendOffLoop(t.Context(), chunk(1, i, 128<<10)); err != nil {
			t.Fatal(err)
		}
	}
	closed := make(chan error, 1)
	go func() { closed <- s.Close(context.Background()) }()
	list, err := w.rest()
	if len(list) != 64 || err != io.EOF {
		t.Errorf("%d frames and %v, want 64 and EOF", len(list), err)
	}
	_ = w.Close()
	if err := await(t, "Close", closed); err != nil {
		t.Errorf("Close() = %v", err)
	}
}

// postsKeepOrder (G11): posts and frames of other goroutines are taken in the order of coming.
func postsKeepOrder(t *testing.T) {
	s, w := media[0].faced(t, Config{})
	const n = 4000
	next := 0
	for i := range n {
		if i%2 == 0 {
			s.Post(func() {
				if next != i {
					t.Errorf("post %d ran, want %d", i, next)
				}
				next += 2
				_ = s.Send(chunk(1, i, 8))
			})
		} else if i%100 == 1 {
			s.do(func() {}) // else nobody says in which order the two came
			if err := s.SendOffLoop(t.Context(), chunk(1, i, 8)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for want := range n {
		if want%2 == 0 || want%100 == 1 {
			if got := number(w.mustNext().Payload); got != want {
				t.Fatalf("frame %d came, want %d", got, want)
			}
		}
	}
	s.end()
}

// panicEndsChannel (G13): a panic in a callback ends its channel and nothing else.
func panicEndsChannel(t *testing.T) {
	s, w := media[0].faced(t, Config{})
	s.do(func() { s.onMessage = func(*codec.Message, []codec.Header) { panic("mine") } })
	w.put(w.frames(chunk(1, 0, 8)))
	s.wantOver(CodePanic)
	s.end()
}

// halfCloseEnds (G14) is documented, and so here: the end of requests is a frame.
func halfCloseEnds(t *testing.T) {
	s, w := media[0].faced(t, Config{})
	_ = w.Conn.(*net.TCPConn).CloseWrite()
	s.wantOver(CodeEOF)
	s.end()
}

// pathStays (G15): binding is ours; TestCatalogueListen tries all that may be at a path.
func pathStays(t *testing.T) {
	dir := filepath.Join(socketDir(t), "d")
	if err := os.MkdirAll(filepath.Join(dir, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if l, err := Listen(t.Context(), "unix", dir, ListenConfig{}); err == nil {
		_ = l.Close()
		t.Error("Listen() on a directory works")
	}
	if _, err := os.Stat(filepath.Join(dir, "sub")); err != nil {
		t.Errorf("what was there is gone: %v", err)
	}
}

// stopsAtOnce (G17): loops that have nothing to do do not wait for a tick to stop.
func stopsAtOnce(t *testing.T) {
	fastest := time.Hour
	for range 20 {
		start := time.Now()
		loops, err := NewLoops(LoopsConfig{N: 1, Logger: silent})
		if err != nil {
			t.Fatal(err)
		}
		if err := loops.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		fastest = min(fastest, time.Since(start))
	}
	if fastest >= 500*time.Millisecond {
		t.Errorf("the fastest of 20 starts and stops took %v", fastest)
	}
}

// wrappedConn (G20): what the loop cannot poll goes to the net.Conn transport.
func wrappedConn(t *testing.T) {
	type wrapped struct{ net.Conn }
	x, y := joinTCP(t)
	s := newSide(t, media[0], Config{}).open(wrapped{x})
	if _, ok := s.stream.(*connStream); !ok {
		t.Errorf("it went to %T, want the net.Conn transport", s.stream)
	}
	w := newWire(t, y, codec.V0)
	w.put(w.frames(chunk(1, 0, 8)))
	eventually(t, "a frame", func() bool { return s.messages.Load() == 1 })
	s.end()
}
