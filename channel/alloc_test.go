package channel

import (
	"testing"
	"time"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/internal/invariants"
)

// noAllocs checks that f makes none, once it is warm.
func noAllocs(t *testing.T, what string, f func()) {
	t.Helper()
	if invariants.Race {
		t.Skip("the race detector allocates where others do not")
	}
	for range 100 {
		f()
	}
	if n := testing.AllocsPerRun(1000, f); n != 0 {
		t.Errorf("%s: %v allocations, want 0", what, n)
	}
}

// hot are the frames of the steady state.
func hot() []*codec.Frame {
	return []*codec.Frame{
		{Kind: codec.KindChunk, Session: 300, Payload: make([]byte, 64)},
		{Kind: codec.KindChunk, Session: 300, Payload: make([]byte, 4000)},
		{Kind: codec.KindChoke, Session: 300},
		{Kind: codec.KindError, Session: 300, Code: 1, Text: "no"},
		{Kind: codec.KindHeartbeat},
	}
}

// TestSendAllocs: sending from the loop and from elsewhere, and writing it.
func TestSendAllocs(t *testing.T) {
	for _, d := range []codec.Dialect{codec.V0, codec.V1} {
		f, _ := newFake(t, Config{Dialect: d}, nil)
		f.keep = false
		p := new(party)
		for _, frame := range hot() {
			noAllocs(t, "Send of "+frame.Kind.String(), func() {
				for range 10 {
					if err := f.SendOf(p, frame, 0); err != nil {
						t.Fatal(err)
					}
				}
				f.turn()
			})
			ctx := t.Context()
			noAllocs(t, "SendOffLoop of "+frame.Kind.String(), func() {
				for range 10 {
					if err := f.SendOffLoop(ctx, frame); err != nil {
						t.Fatal(err)
					}
				}
				f.turn()
			})
		}
		noAllocs(t, "SendHeartbeat", func() {
			if err := f.SendHeartbeat(); err != nil {
				t.Fatal(err)
			}
			f.turn()
		})
		ends := make([]party, 1100)
		next := 0
		noAllocs(t, "an error that ends its session", func() {
			next++
			if err := f.SendOf(&ends[next%len(ends)], hot()[3], Last); err != nil && err != ErrFinished {
				t.Fatal(err)
			}
			f.turn()
		})
	}
}

// TestBuffersComeBack: also when the pool has seen enough to judge sizes, which it does
// every 42,000 buffers.
func TestBuffersComeBack(t *testing.T) {
	f, _ := newFake(t, Config{}, nil)
	f.keep = false
	frame := hot()[0]
	turn := func() {
		for range 90 {
			if err := f.Send(frame); err != nil {
				t.Fatal(err)
			}
		}
		f.turn()
	}
	for range 45_000 {
		turn()
	}
	noAllocs(t, "a turn of 90 frames", turn)
}

// TestOpenAllocs: a session costs what its Party costs.
func TestOpenAllocs(t *testing.T) {
	f, _ := newFake(t, Config{}, nil)
	f.keep = false
	p := new(party)
	invoke := &codec.Frame{Kind: codec.KindInvoke, Text: "event"}
	noAllocs(t, "SendOf with First", func() {
		if err := f.SendOf(p, invoke, First); err != nil {
			t.Fatal(err)
		}
		f.turn()
	})
	ctx := t.Context()
	noAllocs(t, "SendOfOffLoop with First", func() {
		if err := f.SendOfOffLoop(ctx, p, invoke, First); err != nil {
			t.Fatal(err)
		}
		f.turn()
	})
}

// TestReceiveAllocs: reading and handing out, whole frames and cut ones.
func TestReceiveAllocs(t *testing.T) {
	for _, d := range []codec.Dialect{codec.V0, codec.V1} {
		f, _ := newFake(t, Config{Dialect: d}, nil)
		f.h = &counter{}
		var p []byte
		for range 20 {
			for _, frame := range hot() {
				p = codec.AppendFrame(p, d, frame)
			}
		}
		noAllocs(t, "a read of whole frames", func() { f.feed(p) })
		noAllocs(t, "reads that end within a frame", func() {
			f.feed(p[:len(p)/2-3])
			f.feed(p[len(p)/2-3:])
		})
	}
}

// TestTurnAllocs: posts and timers of the steady state.
func TestTurnAllocs(t *testing.T) {
	f, _ := newFake(t, Config{}, nil)
	ran := 0
	run := func() { ran++ }
	noAllocs(t, "Post", func() {
		for range 10 {
			f.Post(run)
		}
		f.turn()
	})
	tm := f.NewTimer(run)
	noAllocs(t, "Timer.Reset", func() { tm.Reset(time.Hour); tm.Stop(); tm.Reset(time.Hour) })
	tm.Stop()
	if ran == 0 {
		t.Error("no post ran")
	}
}

// TestEchoAllocs: a round trip over each transport.
func TestEchoAllocs(t *testing.T) {
	for _, m := range media {
		t.Run(m.name, func(t *testing.T) {
			e := newEcho(t, m, 64)
			t.Cleanup(e.stop)
			noAllocs(t, "an echo from elsewhere", func() {
				if err := e.a.SendOffLoop(e.ctx, e.frame); err != nil {
					t.Fatal(err)
				}
				<-e.back
			})
		})
	}
}
