package session

import (
	"context"
	"io"
	"runtime"
	"testing"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/internal/invariants"
)

// still is an Owner and a Handler that does nothing, or echoes.
type still struct {
	t    *Table
	echo bool
	inv  func(s *Session)
}

func (o *still) OnOpen()                     {}
func (o *still) OnInvoke(s *Session)         { o.inv(s) }
func (o *still) OnHandshake([]byte)          {}
func (o *still) OnHeartbeat()                { _ = o.t.ch.SendHeartbeat() }
func (o *still) OnTerminate(int64, []byte)   {}
func (o *still) OnClose(*channel.CloseError) {}
func (o *still) OnChunk(s *Session, p []byte) {
	if o.echo {
		_ = s.SendChunk(p)
	}
}
func (o *still) OnChoke(*Session)         {}
func (o *still) OnError(*Session, *Error) {}

// newStill returns a worker's table whose peer reads and forgets; f runs on its loop.
func newStill(t testing.TB, d codec.Dialect) (o *still, peer *channel.End, onLoop func(f func())) {
	t.Helper()
	o = &still{}
	o.inv = func(s *Session) { s.SetHandler(o) }
	table, err := New(Config{Owner: o, MaxHeartbeats: -1, MaxSessions: -1, MaxCancels: -1, Channel: channel.Config{Dialect: d}})
	if err != nil {
		t.Fatal(err)
	}
	o.t = table
	a, b := channel.Pair(channel.Script{})
	if err := table.ch.Attach(a); err != nil {
		t.Fatal(err)
	}
	drained := make(chan struct{})
	go func() { _, _ = io.Copy(io.Discard, b); close(drained) }()
	t.Cleanup(func() {
		_ = b.Close()
		_ = table.ch.Close(context.Background())
		<-drained
	})
	return o, b, func(f func()) {
		done := make(chan struct{})
		if !table.ch.Post(func() { defer close(done); f() }) {
			t.Fatal("Post() = false")
		}
		<-done
	}
}

// message is a decoded frame.
func message(t testing.TB, d codec.Dialect, f codec.Frame) *codec.Message {
	t.Helper()
	var s codec.Scanner
	s.Init(d, codec.Limits{})
	m := new(codec.Message)
	if n, err := s.Next(codec.AppendFrame(nil, d, &f), m); n == 0 || err != nil {
		t.Fatalf("Next() = %d, %v", n, err)
	}
	return m
}

// TestDispatchAllocs: a message on the loop costs no allocation.
func TestDispatchAllocs(t *testing.T) {
	if invariants.Race {
		t.Skip("the race detector allocates")
	}
	for _, d := range []codec.Dialect{codec.V0, codec.V1} {
		o, _, onLoop := newStill(t, d)
		const sessions = 3000
		e := events{o.t}
		invoke := message(t, d, codec.Frame{Kind: codec.KindInvoke, Text: "event"})
		chunk := message(t, d, codec.Frame{Kind: codec.KindChunk, Session: 2, Payload: make([]byte, 100)})
		choke := message(t, d, codec.Frame{Kind: codec.KindChoke})
		fault := message(t, d, codec.Frame{Kind: codec.KindError, Code: 7, Text: "no"})
		beat := message(t, d, codec.Frame{Kind: codec.KindHeartbeat})
		late := message(t, d, codec.Frame{Kind: codec.KindChunk, Session: 2, Payload: make([]byte, 100)})
		next := func(m *codec.Message) { m.Session++; e.OnMessage(m, nil) }
		for _, c := range []struct {
			what string
			echo bool
			f    func()
			want float64
		}{
			{"invoke", false, func() { next(invoke) }, 2}, // the session, its event
			{"chunk", false, func() { e.OnMessage(chunk, nil) }, 0},
			{"chunk and echo", true, func() { e.OnMessage(chunk, nil) }, 0},
			{"heartbeat and answer", false, func() { e.OnMessage(beat, nil) }, 0},
			{"our choke", false, func() { next(late); _ = o.t.ids.get(late.Session).SendChoke() }, 0},
			{"choke", false, func() { next(choke) }, 0},
			{"late chunk", false, func() { e.OnMessage(late, nil) }, 0},
			{"error", false, func() { next(fault) }, 0},
		} {
			invoke.Session, choke.Session, late.Session, fault.Session = max(invoke.Session, 1), 2, 2, sessions/2
			onLoop(func() {
				o.echo = c.echo
				if got := testing.AllocsPerRun(sessions/3, c.f); got > c.want {
					t.Errorf("%v: %s makes %v allocations, want %v", d, c.what, got, c.want)
				}
				if c.what == "invoke" {
					for range sessions {
						next(invoke)
					}
				}
			})
		}
	}
}

// TestRecvWriteAllocs: chunks through the blocking face cost no allocation each.
func TestRecvWriteAllocs(t *testing.T) {
	if invariants.Race {
		t.Skip("the race detector allocates")
	}
	for _, d := range []codec.Dialect{codec.V0, codec.V1} {
		o, peer, _ := newStill(t, d)
		got := make(chan *Session, 1)
		o.inv = func(s *Session) { got <- s }
		b := codec.AppendFrame(nil, d, &codec.Frame{Kind: codec.KindInvoke, Session: 2, Text: "e"})
		if _, err := peer.Write(b); err != nil {
			t.Fatal(err)
		}
		s := <-got
		ctx := context.Background()
		for _, size := range []int{10, 1000, 30_000} {
			p := make([]byte, size)
			frame := codec.AppendFrame(nil, d, &codec.Frame{Kind: codec.KindChunk, Session: 2, Payload: p})
			const runs = 5000
			go func() {
				for range runs + runs/10 + 1 {
					_, _ = peer.Write(frame)
				}
			}()
			for range runs / 10 {
				if _, err := s.Recv(ctx); err != nil {
					t.Fatal(err)
				}
			}
			if n := testing.AllocsPerRun(runs, func() {
				if p, err := s.Recv(ctx); err != nil || len(p) != size {
					t.Fatalf("Recv() = %d bytes, %v", len(p), err)
				}
			}); n != 0 {
				t.Errorf("%v: Recv of %d bytes makes %v allocations, want 0", d, size, n)
			}
			if n := testing.AllocsPerRun(runs, func() {
				if _, err := s.Write(p); err != nil {
					t.Fatal(err)
				}
			}); n != 0 {
				t.Errorf("%v: Write of %d bytes makes %v allocations, want 0", d, size, n)
			}
		}
	}
}

// BenchmarkDispatchChunk is a decoded chunk on its way to a Handler, and back into the
// output if that echoes.
func BenchmarkDispatchChunk(b *testing.B) {
	for _, c := range []struct {
		name string
		echo bool
	}{{"take", false}, {"echo", true}} {
		b.Run(c.name, func(b *testing.B) {
			o, _, onLoop := newStill(b, codec.V1)
			o.echo = c.echo
			e := events{o.t}
			onLoop(func() {
				e.OnMessage(message(b, codec.V1, codec.Frame{Kind: codec.KindInvoke, Session: 2, Text: "e"}), nil)
			})
			m := message(b, codec.V1, codec.Frame{Kind: codec.KindChunk, Session: 2, Payload: make([]byte, 100)})
			b.ReportAllocs()
			b.ResetTimer()
			for left := b.N; left > 0; left -= 1000 { // in turns of 1000 messages
				onLoop(func() {
					for range min(left, 1000) {
						e.OnMessage(m, nil)
					}
				})
				for o.t.ch.Stats().QueuedBytes > 256<<10 {
					runtime.Gosched()
				}
			}
		})
	}
}

// BenchmarkDispatch is a decoded message on its way to the owner or a Handler: the two that
// end a session, each for one of its own, and a heartbeat with its answer.
func BenchmarkDispatch(b *testing.B) {
	for _, f := range []codec.Frame{
		{Kind: codec.KindChoke}, {Kind: codec.KindError, Category: 42, Code: 7, Text: "told to fail"}, {Kind: codec.KindHeartbeat},
	} {
		b.Run(f.Kind.String(), func(b *testing.B) {
			o, _, onLoop := newStill(b, codec.V1)
			e := events{o.t}
			invoke, m := message(b, codec.V1, codec.Frame{Kind: codec.KindInvoke, Text: "e"}), message(b, codec.V1, f)
			at := uint64(1)
			b.ReportAllocs()
			for left := b.N; left > 0; left -= 1000 { // in turns of 1000 messages
				n := uint64(min(left, 1000))
				b.StopTimer()
				onLoop(func() {
					o.t.End(1, "") // what is left of the sessions of the last turn
					for invoke.Session = at + 1; m.Type != codec.V1Heartbeat && invoke.Session <= at+n; invoke.Session++ {
						e.OnMessage(invoke, nil)
					}
				})
				for o.t.ch.Stats().QueuedBytes > 0 {
					runtime.Gosched()
				}
				b.StartTimer()
				onLoop(func() {
					for range n {
						if at++; m.Session != codec.V1ControlSession {
							m.Session = at
						}
						e.OnMessage(m, nil)
					}
				})
			}
		})
	}
}
