package channel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-rpc/sluice/codec"
)

// What only real sockets can show: dialling, descriptors, goroutines, many channels on
// few loops.

// footprint counts goroutines and descriptors (-1 where it cannot).
func footprint() (goroutines, descriptors int) {
	descriptors = -1
	if list, err := os.ReadDir("/proc/self/fd"); err == nil {
		descriptors = len(list)
	}
	return runtime.NumGoroutine(), descriptors
}

// leavesNothing runs f and waits until goroutines and descriptors are as before.
func leavesNothing(t *testing.T, f func()) {
	t.Helper()
	joinTCP(t) // whatever the net package opens once
	runtime.GC()
	goroutines, descriptors := footprint()
	f()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for end := time.Now().Add(patience); ; <-ticker.C {
		g, d := footprint()
		if g <= goroutines && d <= descriptors {
			return
		}
		if time.Now().After(end) {
			stacks := make([]byte, 1<<16)
			t.Fatalf("%d goroutines and %d descriptors, %d and %d before:\n%s", g, d, goroutines, descriptors, stacks[:runtime.Stack(stacks, true)])
		}
	}
}

// TestConnect dials each kind of address that there is.
func TestConnect(t *testing.T) {
	for _, noLoop := range []bool{false, true} {
		leavesNothing(t, func() {
			dir, err := os.MkdirTemp("", "sluice")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = os.RemoveAll(dir) }()
			for network, addr := range map[string]string{"tcp": "127.0.0.1:0", "unix": dir + "/s"} {
				ln, err := net.Listen(network, addr)
				if err != nil {
					t.Fatal(err)
				}
				m := medium{noLoop: noLoop}
				a, b := newSide(t, m, Config{}), newSide(t, m, Config{})
				accepted := make(chan error, 1)
				go func() {
					conn, err := ln.Accept()
					if err == nil {
						err = b.Attach(conn)
					}
					accepted <- err
				}()
				if err := a.Connect(t.Context(), network, ln.Addr().String()); err != nil {
					t.Fatalf("Connect() = %v", err)
				}
				if err := <-accepted; err != nil {
					t.Fatal(err)
				}
				if err := a.SendOffLoop(t.Context(), chunk(1, 0, 8)); err != nil {
					t.Errorf("SendOffLoop() = %v", err)
				}
				eventually(t, "a frame", func() bool { return b.messages.Load() == 1 })
				if err := a.Close(t.Context()); err != nil {
					t.Errorf("Close() = %v", err)
				}
				b.wantOver(CodeEOF)
				b.end()
				_ = ln.Close()
			}
		})
	}
}

// TestConnectFails: an error of the dial leaves nothing and makes no callback.
func TestConnectFails(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := ln.Addr().String()
	_ = ln.Close()
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tt := range []struct {
		what          string
		ctx           context.Context
		network, addr string
		want          error
	}{
		{"refused", t.Context(), "tcp", closed, syscall.ECONNREFUSED},
		{"no such path", t.Context(), "unix", "/nonexistent/socket", syscall.ENOENT},
		{"no such network", t.Context(), "smoke", "signal", net.UnknownNetworkError("smoke")},
		{"ctx is over", over, "tcp", closed, context.Canceled},
	} {
		leavesNothing(t, func() {
			s := newSide(t, media[0], Config{})
			err := s.Connect(tt.ctx, tt.network, tt.addr)
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.addr) {
				t.Errorf("%s: Connect() = %v, want %v", tt.what, err, tt.want)
			}
			if s.State() != Closed || s.opens.Load()+s.closes.Load() != 0 || s.Err() == nil {
				t.Errorf("%s: State() = %v, %d OnOpen, %d OnClose, Err() = %v", tt.what, s.State(), s.opens.Load(), s.closes.Load(), s.Err())
			}
			<-s.Done()
			if err := s.Close(t.Context()); err != nil {
				t.Errorf("%s: Close() = %v", tt.what, err)
			}
			if err := s.SendOffLoop(t.Context(), chunk(1, 0, 8)); err == nil {
				t.Errorf("%s: a frame was taken", tt.what)
			}
		})
	}
}

// TestConnectGivenUp: a dial that nobody answers ends with its ctx, and with Close.
func TestConnectGivenUp(t *testing.T) {
	leavesNothing(t, func() {
		full, done := neverAccepts(t)
		defer done()
		ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Millisecond, errors.New("enough"))
		defer cancel()
		s := newSide(t, media[0], Config{})
		if err := s.Connect(ctx, "tcp", full); !errors.Is(err, context.DeadlineExceeded) && !isTimeout(err) {
			t.Errorf("Connect() = %v, want a timeout", err)
		}

		s = newSide(t, media[0], Config{})
		failed := make(chan error, 1)
		go func() { failed <- s.Connect(context.Background(), "tcp", full) }()
		eventually(t, "a dial", func() bool { return s.State() == Connecting })
		if err := s.Close(t.Context()); err != nil {
			t.Errorf("Close() = %v", err)
		}
		if err := await(t, "the end of the dial", failed); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Connect() = %v, want net.ErrClosed", err)
		}
		if s.opens.Load()+s.closes.Load() != 0 {
			t.Error("a callback of a channel that never was")
		}
	})
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// neverAccepts is an address whose queue is full.
func neverAccepts(t *testing.T) (addr string, done func()) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := ln.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	_ = raw.Control(func(fd uintptr) { shortQueue(fd) })
	var conns []net.Conn
	for late := 0; late < 5; { // once may be the machine
		d := net.Dialer{Timeout: 50 * time.Millisecond}
		conn, err := d.DialContext(t.Context(), "tcp", ln.Addr().String())
		if err != nil {
			late++
			continue
		}
		late = 0
		if conns = append(conns, conn); len(conns) > 1000 {
			t.Fatal("this system takes any number of connections that nobody accepts")
		}
	}
	return ln.Addr().String(), func() {
		for _, conn := range conns {
			_ = conn.Close()
		}
		_ = ln.Close()
	}
}

// TestPrivateLoop: a channel without Loops has one of its own, which goes with it,
// whoever ends it.
func TestPrivateLoop(t *testing.T) {
	leavesNothing(t, func() {
		for range 20 {
			a, b := media[0].pair(t, Config{})
			if err := a.Close(t.Context()); err != nil {
				t.Errorf("Close() = %v", err)
			}
			b.wantOver(CodeEOF) // and nobody closes it
		}
	})
}

// TestCloseWhileAttaching: whichever comes first, nothing is left of the channel.
func TestCloseWhileAttaching(t *testing.T) {
	leavesNothing(t, func() {
		first := map[bool]int{}
		for i := 0; i < 400 && (i < 40 || len(first) < 2); i++ {
			s := newSide(t, media[i%4], Config{})
			x, y := media[i%2].join(t)
			attached := make(chan error, 1)
			go func() { attached <- s.Attach(x) }()
			for s.State() == Idle {
				runtime.Gosched()
			}
			s.end()
			err := <-attached
			if first[err == nil]++; err != nil && !errors.Is(err, net.ErrClosed) {
				t.Errorf("Attach() = %v, want net.ErrClosed", err)
			}
			if _, err := io.ReadAll(y); err != nil {
				t.Errorf("the peer reads %v, want EOF", err)
			}
			_ = y.Close()
		}
		if first[false] == 0 {
			t.Log("Close never came first")
		}
	})
}

// TestStreamsLeaveNothing: nor do the goroutines of the net.Conn transport stay.
func TestStreamsLeaveNothing(t *testing.T) {
	leavesNothing(t, func() {
		for i := range 20 {
			a, b := media[2+i%2].pair(t, Config{})
			a.do(a.Pause)
			b.do(func() { b.Fail(&CloseError{Code: CodeClosed}) })
			b.over()
			if i%4 > 1 {
				a.Post(a.Resume) // unless it saw the end behind the pause
				a.wantOver(CodeEOF)
			}
			a.end()
		}
	})
}

// TestLoopsClose ends every channel on the loops and then the loops; what comes later is
// refused, and its connection closed.
func TestLoopsClose(t *testing.T) {
	leavesNothing(t, func() {
		loops, err := NewLoops(LoopsConfig{N: 3, Logger: silent})
		if err != nil {
			t.Fatal(err)
		}
		var list []*side
		for i := range 20 {
			a, b := media[i%2].pair(t, Config{Loops: loops})
			list = append(list, a, b)
		}
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if err := loops.Close(t.Context()); err != nil {
					t.Errorf("Close() = %v", err)
				}
			})
		}
		wg.Wait()
		if !eventLoops {
			for _, s := range list {
				s.end()
			}
			return
		}
		for _, s := range list {
			err := s.over()
			if err.Code != CodeClosed && err.Code != CodeEOF && err.Code != CodeReset || s.closes.Load() != 1 {
				t.Errorf("%v, %d OnClose", err, s.closes.Load())
			}
			s.end()
		}
		s := newSide(t, media[0], Config{Loops: loops})
		x, y := joinTCP(t)
		if err := s.Attach(x); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Attach() on closed loops = %v, want net.ErrClosed", err)
		}
		if _, err := y.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("the peer reads %v, want EOF", err)
		}
		_ = y.Close()
		if s.State() != Closed {
			t.Errorf("State() = %v", s.State())
		}
	})
}

// TestLoopsCloseRace: channels come, send and go while their loops end. Nothing hangs,
// and each that opened is told of its end once.
func TestLoopsCloseRace(t *testing.T) {
	leavesNothing(t, func() {
		for range 15 {
			loops, err := NewLoops(LoopsConfig{N: 2, Logger: silent})
			if err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			for range 4 {
				x, y := joinTCP(t)
				for _, conn := range []net.Conn{x, y} {
					s := newSide(t, media[0], Config{Loops: loops})
					wg.Go(func() {
						if s.Attach(conn) != nil {
							return
						}
						for s.SendOffLoop(t.Context(), chunk(1, 0, 8)) == nil {
						}
						s.over()
						if s.closes.Load() != 1 {
							t.Errorf("OnClose was called %d times", s.closes.Load())
						}
						s.end()
					})
				}
			}
			if err := loops.Close(t.Context()); err != nil {
				t.Errorf("Close() = %v", err)
			}
			if !eventLoops {
				return
			}
			wg.Wait()
		}
	})
}

// TestLoopsCloseWaits: until its ctx ends, for a callback that does not return.
func TestLoopsCloseWaits(t *testing.T) {
	if !eventLoops {
		t.Skip("this system has no event loop")
	}
	leavesNothing(t, func() {
		loops, err := NewLoops(LoopsConfig{N: 1, Logger: silent})
		if err != nil {
			t.Fatal(err)
		}
		a, b := media[0].pair(t, Config{Loops: loops})
		stuck, release := make(chan struct{}), make(chan struct{})
		a.Post(func() { close(stuck); <-release })
		<-stuck
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if err := loops.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Close() = %v, want the ctx's error", err)
		}
		close(release)
		if err := loops.Close(t.Context()); err != nil {
			t.Errorf("the second Close() = %v", err)
		}
		a.end()
		b.end()
	})
}

// TestThousandChannels echo on one Loops, each with its own frames.
func TestThousandChannels(t *testing.T) {
	n := 1000
	if testing.Short() {
		n = 100
	}
	leavesNothing(t, func() {
		loops, err := NewLoops(LoopsConfig{Logger: silent})
		if err != nil {
			t.Fatal(err)
		}
		before, _ := footprint()
		var back atomic.Int64
		sides := make([]*side, 0, 2*n)
		for i := range n {
			m := media[i%2]
			a, b := newSide(t, m, Config{Loops: loops}), newSide(t, m, Config{Loops: loops})
			b.onMessage = func(m *codec.Message, _ []codec.Header) {
				if err := b.Send(&codec.Frame{Kind: codec.KindChunk, Session: m.Session, Payload: m.Payload}); err != nil {
					t.Errorf("Send() = %v", err)
				}
			}
			a.onMessage = func(m *codec.Message, _ []codec.Header) {
				if m.Session != uint64(i) || !whole(m.Payload) {
					t.Errorf("channel %d was given a frame of %d", i, m.Session)
				}
				back.Add(1)
			}
			m.connect(t, a, b)
			sides = append(sides, a, b)
		}
		if now, _ := footprint(); eventLoops && now > before+2 {
			t.Errorf("%d goroutines serve %d channels", now-before, 2*n)
		}
		for round := range 3 {
			for i := range n {
				if err := sides[2*i].SendOffLoop(t.Context(), chunk(uint64(i), round, 50*round)); err != nil {
					t.Errorf("SendOffLoop() = %v", err)
				}
			}
		}
		eventually(t, "all echoes", func() bool { return back.Load() == int64(3*n) })
		for i, s := range sides {
			if i%2 == 0 {
				s.end()
			}
		}
		for i, s := range sides {
			if i%2 == 1 {
				s.wantOver(CodeEOF)
			}
		}
		if err := loops.Close(t.Context()); err != nil {
			t.Errorf("Loops.Close() = %v", err)
		}
	})
}

// busyNeighbour: a channel that is busy with its own posts, and others that send without
// end, do not keep a neighbour on the loop from being read (A28).
func busyNeighbour(t *testing.T) {
	cfg := media[0].shared(t, Config{})
	busy, w := media[0].faced(t, cfg)
	quiet, peer := media[0].faced(t, cfg)
	var stop atomic.Bool
	var again func()
	again = func() {
		if !stop.Load() {
			busy.Post(again)
		}
	}
	busy.Post(again)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for !stop.Load() && busy.SendOffLoop(t.Context(), chunk(1, 0, 64)) == nil {
			}
		})
	}
	wg.Go(func() { _, _ = io.Copy(io.Discard, w) })
	for i := range int64(20) {
		peer.put(peer.frames(chunk(1, 0, 8)))
		eventually(t, fmt.Sprintf("frame %d", i), func() bool { return quiet.messages.Load() == i+1 })
	}
	stop.Store(true)
	quiet.end()
	busy.end()
	wg.Wait()
}

// manyTinyFrames (A28): a read full of tiny frames is delivered whole, a neighbour's
// in between two reads.
func manyTinyFrames(t *testing.T) {
	cfg := media[0].shared(t, Config{})
	s, w := media[0].faced(t, cfg)
	neighbour, peer := media[0].faced(t, cfg)
	const n = 400_000
	var at atomic.Int64
	neighbour.do(func() {
		neighbour.onMessage = func(*codec.Message, []codec.Header) { at.Store(s.messages.Load()) }
	})
	block := make([]byte, 0, 4*n)
	for range n {
		block = append(block, 0x93, codec.V0Heartbeat, 0, 0x90)
	}
	s.do(func() {
		s.onMessage = func(*codec.Message, []codec.Header) {
			if s.messages.Load() == 1 {
				peer.put(peer.frames(chunk(1, 0, 8)))
			}
		}
	})
	go func() { w.put(block) }()
	eventually(t, "all frames", func() bool { return s.messages.Load() == n })
	eventually(t, "the neighbour's", func() bool { return neighbour.messages.Load() == 1 })
	if at.Load() > n/2 {
		t.Errorf("the neighbour's frame waited for %d others", at.Load())
	}
	s.end()
	neighbour.end()
}
