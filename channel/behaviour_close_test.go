package channel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/codec"
)

// The end: what was accepted is delivered or counted, and one channel's end is no
// other's.

// closeDrains (C12): Close delivers what was accepted to a peer that reads slowly,
// however much it is.
func closeDrains(t *testing.T) {
	over(t, func(t *testing.T, m medium) {
		n := 64 // MiB
		if m.virtual || testing.Short() {
			n = 8
		}
		s, w := m.faced(t, Config{HighWaterBytes: -1})
		for i := range n {
			if err := s.SendOffLoop(t.Context(), chunk(1, i, 1<<20)); err != nil {
				t.Fatal(err)
			}
		}
		closed := make(chan error, 1)
		go func() { closed <- s.Close(context.Background()) }()
		eventually(t, "closing", func() bool { return s.State() == Closing })
		if err := s.SendOffLoop(t.Context(), chunk(1, 0, 8)); err == nil {
			t.Error("a frame was taken behind Close")
		}
		for i := range n {
			if m := w.mustNext(); number(m.Payload) != i || len(m.Payload) != 1<<20 {
				t.Fatalf("frame %d of %d bytes came, want %d", number(m.Payload), len(m.Payload), i)
			}
			if i%8 == 0 {
				elapse(time.Millisecond)
			}
		}
		if _, err := w.next(); err != io.EOF {
			t.Errorf("behind the last frame: %v, want EOF", err)
		}
		_ = w.Close()
		if err := await(t, "Close", closed); err != nil {
			t.Errorf("Close() = %v", err)
		}
		s.wantOver(CodeClosed)
	})
}

// closeReports (C12): what could not be delivered is counted exactly: by the drain's
// own bound, or by the ctx of Close.
func closeReports(t *testing.T) {
	over(t, func(t *testing.T, m medium) {
		for _, how := range []string{"bound", "ctx", "ctx that is over", "reset"} {
			cfg := Config{HighWaterBytes: 1 << 20, DrainTimeout: 30 * time.Millisecond, StallTimeout: -1}
			ctx, cancel := context.WithCancel(t.Context())
			switch how {
			case "ctx":
				cfg.DrainTimeout = -1
				go func() { elapse(30 * time.Millisecond); cancel() }()
			case "ctx that is over":
				cfg.DrainTimeout = -1
				cancel()
			case "reset":
				cfg.DrainTimeout = -1
			}
			s, w := m.tight().faced(t, cfg)
			n := s.fill(1000)
			if how == "reset" {
				go func() { elapse(30 * time.Millisecond); _ = w.Close() }()
			}
			err := s.Close(ctx)
			cancel()
			var ce *CloseError
			if !errors.As(err, &ce) || ce.Undelivered < 1<<20-256<<10 {
				t.Fatalf("%s: Close() = %v, want what was not delivered", how, err)
			}
			if want := map[bool]Code{false: CodeClosed, true: CodeReset}[how == "reset"]; ce.Code != want {
				t.Errorf("%s: Close() = %v, want %v", how, ce, want)
			}
			if !strings.Contains(ce.Error(), fmt.Sprint(ce.Undelivered, " bytes undelivered")) {
				t.Errorf("%s: %q does not say how much", how, ce)
			}
			if how != "reset" && !m.noLoop { // what the net.Conn has been lent may have gone
				list, err := w.rest()
				whole, part := len(list)*len(w.frames(chunk(1, 0, 1000))), len(w.buf)
				if total := n * len(w.frames(chunk(1, 0, 1000))); int64(total-whole-part) != ce.Undelivered {
					t.Errorf("%s: %d of %d bytes came (%v), %d undelivered", how, whole+part, total, err, ce.Undelivered)
				}
			}
			if again := s.Close(t.Context()); again != err {
				t.Errorf("%s: the second Close() = %v, want the same", how, again)
			}
			_ = w.Close()
		}
	})
}

// TestFirstReasonStands: Close, even one that does not wait, does not change why a
// channel that is ending ends.
func TestFirstReasonStands(t *testing.T) {
	over(t, func(t *testing.T, m medium) {
		s, _ := m.tight().faced(t, Config{HighWaterBytes: 100_000})
		s.fill(1000)
		s.do(func() { s.Drain(&CloseError{Code: CodeTerminated, Reason: "asked to"}, true, 0) })
		s.end()
		if err := s.wantOver(CodeTerminated); err.Reason != "asked to" || err.Undelivered == 0 {
			t.Errorf("%+v, want the reason of Drain, and what was lost", err)
		}
	})
}

// TestCloseBesideStuck: a callback that does not return does not keep Close for ever.
func TestCloseBesideStuck(t *testing.T) {
	// It takes a second where time is real; and where it is not, a goroutine that waits
	// for the turn of a stuck one stops it.
	for _, m := range []medium{media[0], media[3], media[5]} {
		t.Run(m.name, func(t *testing.T) { m.run(t, closeBesideStuck) })
	}
}

func closeBesideStuck(t *testing.T, m medium) {
	s, w := m.faced(t, Config{})
	stuck, release := make(chan struct{}), make(chan struct{})
	s.Post(func() { close(stuck); <-release })
	<-stuck
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	start := time.Now()
	if err := s.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Close() = %v, want the ctx's error", err)
	}
	if took := time.Since(start); took < lingerTimeout || took > patience/2 {
		t.Errorf("Close() took %v, want a second", took)
	}
	close(release)
	s.wantOver(CodeClosed)
	if err := s.Close(t.Context()); err != nil {
		t.Errorf("the second Close() = %v", err)
	}
	_ = w.Close()
}

// TestBothDrain: both ends close at the same time, one of them with much still to say;
// all of it arrives.
func TestBothDrain(t *testing.T) {
	over(t, func(t *testing.T, m medium) {
		a, b := newSide(t, m, Config{}), newSide(t, m, Config{})
		cameA, cameB := a.inOrder(), b.inOrder()
		a.onOpen = a.Pause // until it has closed its own direction
		m.tight().connect(t, a, b)
		const nA, nB = 3, 90
		for i := range nB {
			err := b.SendOffLoop(NoWait, chunk(1, i, 10_000))
			if i < nA {
				err = errors.Join(err, a.SendOffLoop(t.Context(), chunk(1, i, 10_000)))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		errs := make(chan error, 2)
		for _, s := range []*side{b, a} {
			go func() { errs <- s.Close(context.Background()) }()
			eventually(t, "closing", func() bool { return s.State() >= Closing })
		}
		for range 2 {
			if err := await(t, "Close", errs); err != nil {
				t.Errorf("Close() = %v", err)
			}
		}
		a.wantOver(CodeClosed)
		b.wantOver(CodeClosed)
		if cameA() != nB || cameB() != nA {
			t.Errorf("%d and %d frames came, want %d and %d", cameA(), cameB(), nB, nA)
		}
	})
}

// TestLinger: after our end the peer's is awaited for the given time and not longer, and
// what it still sends is delivered, also to a channel that was paused.
func TestLinger(t *testing.T) {
	overVirtual(t, func(t *testing.T, m medium) {
		for _, tt := range []struct {
			linger, answer, want time.Duration
		}{
			{30 * time.Second, -1, 30 * time.Second},
			{30 * time.Second, 10 * time.Second, 10 * time.Second},
			{0, -1, 0},
		} {
			s, w := m.faced(t, Config{})
			mine := &CloseError{Code: CodeTerminated, Reason: "orderly"}
			start := time.Now()
			s.do(func() {
				s.Pause()
				_ = s.Send(chunk(1, 0, 8))
				s.Drain(mine, true, tt.linger)
				if s.State() != Closing || s.Send(chunk(1, 0, 8)) == nil {
					t.Errorf("State() = %v, and a frame was taken", s.State())
				}
			})
			if list, err := w.rest(); len(list) != 1 || err != io.EOF {
				t.Errorf("%d frames and %v, want one and EOF", len(list), err)
			}
			if tt.answer >= 0 {
				elapse(tt.answer)
				w.put(w.frames(chunk(1, 1, 8)))
				_ = w.Close()
			}
			err := s.wantOver(CodeTerminated)
			if took := time.Since(start); took != tt.want || err.Reason != "orderly" || err.Undelivered != 0 {
				t.Errorf("over after %v with %+v, want %v", took, err, tt.want)
			}
			if got, want := s.messages.Load(), map[bool]int64{true: 1}[tt.answer >= 0]; got != want {
				t.Errorf("%d messages in the linger, want %d", got, want)
			}
			s.end()
			_ = w.Close()
		}
	})
}

// TestLastWords: a peer that says something and is gone is heard, though our next write
// fails before we read it.
func TestLastWords(t *testing.T) {
	over(t, func(t *testing.T, m medium) {
		s := newSide(t, m, Config{})
		came := s.inOrder()
		w := m.face(t, s)
		var sealed error
		s.do(func() {
			w.put(w.frames(chunk(1, 0, 100), chunk(1, 1, 100)))
			_ = w.Close()
			for i := 0; sealed == nil && i < 10_000; i++ { // a socket takes some before it finds out
				sealed = s.Send(chunk(1, 0, writeAhead))
				if m.noLoop && sealed == ErrFull {
					break
				}
			}
		})
		err := s.over()
		if err.Code != CodeReset && err.Code != CodeEOF || !err.Remote {
			t.Errorf("the channel ended with %+v", err)
		}
		if err.Undelivered == 0 {
			t.Error("nothing is undelivered")
		}
		if came() != 2 && err.Errno != syscall.ECONNRESET { // a reset takes what is in the socket
			t.Errorf("%d of the last 2 frames came: %+v", came(), err)
		}
		s.end()
	})
}

// TestLastWordsBound: hearing the peer out takes a second at most.
func TestLastWordsBound(t *testing.T) {
	f, s := newFake(t, Config{}, nil)
	f.err = syscall.EPIPE
	synctest.Test(t, func(t *testing.T) {
		_ = f.Send(chunk(1, 0, 8))
		f.turn()
		if f.gone || f.State() != Open {
			t.Fatalf("State() = %v at once", f.State())
		}
		writes := f.stats.writes
		var ce *CloseError
		if err := f.Send(chunk(1, 0, 8)); !errors.As(err, &ce) || ce.Code != CodeReset {
			t.Errorf("Send() = %v, want reset", err)
		}
		if err := f.SendHeartbeat(); !errors.As(err, &ce) {
			t.Errorf("SendHeartbeat() = %v, want reset", err)
		}
		f.turn()
		elapse(time.Second)
		synctest.Wait()
		f.turn()
		if !f.gone || s.closes.Load() != 1 || f.stats.writes != writes {
			t.Errorf("after a second: gone %v, %d OnClose, %d writes after the error", f.gone, s.closes.Load(), f.stats.writes-writes)
		}
		if err := f.Err(); err.Code != CodeReset || err.Errno != syscall.EPIPE || err.Undelivered == 0 {
			t.Errorf("Err() = %+v", err)
		}
	})
}

// TestPanic: a panic in any callback ends that channel, after which OnClose says so;
// its neighbours on the loop live.
func TestPanic(t *testing.T) {
	over(t, func(t *testing.T, m medium) {
		cfg := m.shared(t, Config{HighWaterBytes: 1, LowWaterBytes: 1})
		good, peer := m.pair(t, cfg)
		for _, where := range []string{"open", "message", "writable", "post", "timer", "close", "opened"} {
			s := newSide(t, m, cfg)
			boom := func() { panic("boom in " + where) }
			switch where {
			case "open":
				s.onOpen = boom
			case "message":
				s.onMessage = func(*codec.Message, []codec.Header) { boom() }
			case "writable":
				s.onWritable = boom
			case "close":
				s.onClose = func(*CloseError) { boom() }
			}
			w := m.face(t, s)
			want := CodePanic
			switch where {
			case "message":
				w.put(w.frames(chunk(1, 0, 8), chunk(1, 1, 8)))
			case "writable":
				s.do(func() {
					for s.Send(chunk(1, 0, 8)) == nil {
					}
				})
			case "post":
				s.Post(boom)
			case "timer":
				s.do(func() { s.NewTimer(boom).Reset(time.Millisecond) })
			case "close":
				_ = w.Close()
				want = CodeEOF
			case "opened":
				p := &party{onOpened: boom}
				if err := s.SendOfOffLoop(t.Context(), p, &codec.Frame{Kind: codec.KindInvoke}, First); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.wantOver(want); want == CodePanic && !strings.Contains(err.Reason, where) {
				t.Errorf("%s: %+v, want the panic's value", where, err)
			}
			if where == "message" && s.messages.Load() != 1 {
				t.Errorf("%d messages, want none behind the panic", s.messages.Load())
			}
			s.end()
		}
		if err := good.SendOffLoop(t.Context(), chunk(1, 0, 8)); err != nil {
			t.Errorf("the neighbour's SendOffLoop() = %v", err)
		}
		eventually(t, "the neighbour's frame", func() bool { return peer.messages.Load() == 1 })
		good.end()
		peer.end()
	})
}

// TestPostOrder: posts run in order, never beside a callback, and never after the end.
func TestPostOrder(t *testing.T) {
	const n = 2000 // more than gnet's queue keeps in order
	over(t, func(t *testing.T, m medium) {
		s, w := m.faced(t, Config{})
		next := 0
		for i := range n {
			if !s.Post(func() {
				if i != next {
					t.Errorf("post %d ran, want %d", i, next)
				}
				next++
			}) {
				t.Fatal("Post() = false")
			}
		}
		s.do(func() {})
		if next != n {
			t.Errorf("%d posts ran, want %d", next, n)
		}
		s.do(func() { s.Fail(&CloseError{Code: CodeClosed}) })
		s.over()
		if s.Post(func() { t.Error("a post ran after the end") }) {
			t.Error("Post() = true after the end")
		}
		_ = w.Close()
		s.end()
	})
}

// TestTimer: runs once, at its time, on the loop; not after Stop, a later Reset or the
// end.
func TestTimer(t *testing.T) {
	overVirtual(t, func(t *testing.T, m medium) {
		s, w := m.faced(t, Config{})
		var fired []time.Duration
		start := time.Now()
		tm := s.NewTimer(func() { fired = append(fired, time.Since(start)) })
		s.do(func() {
			tm.Stop()
			tm.Reset(time.Second)
			tm.Reset(2 * time.Second) // instead
			if !tm.Active() {
				t.Error("Active() = false after Reset")
			}
		})
		elapse(1500 * time.Millisecond)
		s.do(func() { tm.Reset(time.Second) })
		elapse(5 * time.Second)
		s.do(func() {
			if tm.Active() || len(fired) != 1 || fired[0] != 2500*time.Millisecond {
				t.Errorf("fired at %v, Active() = %v, want once at 2.5 s", fired, tm.Active())
			}
			tm.Reset(time.Second)
			tm.Stop()
			tm.Stop()
		})
		elapse(5 * time.Second)
		s.do(func() {
			if len(fired) != 1 {
				t.Errorf("fired at %v after Stop", fired)
			}
			tm.Reset(-1) // at once, but not within this call
			if len(fired) != 1 {
				t.Error("fired within Reset")
			}
		})
		synctest.Wait()
		s.do(func() {
			if len(fired) != 2 {
				t.Errorf("fired at %v, want at once", fired)
			}
			tm.Reset(time.Second)
			s.Fail(&CloseError{Code: CodeClosed})
		})
		elapse(5 * time.Second)
		if len(fired) != 2 {
			t.Errorf("fired at %v after the end", fired)
		}
		s.end()
		_ = w.Close()
	})
}

// TestTimerLate: a firing that was under way when Reset or Stop came is none.
func TestTimerLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _ := newFake(t, Config{}, nil)
		fired := 0
		tm := f.NewTimer(func() { fired++ })
		for _, change := range []func(){tm.Stop, func() { tm.Reset(time.Hour) }} {
			tm.Reset(time.Second)
			elapse(time.Second)
			synctest.Wait() // it is posted, and its turn has not come
			change()
			f.turn()
			if fired != 0 {
				t.Errorf("fired %d times, want none", fired)
			}
		}
		elapse(time.Hour)
		synctest.Wait()
		f.turn()
		if fired != 1 || tm.Active() {
			t.Errorf("fired %d times, want 1; Active() = %v", fired, tm.Active())
		}
	})
}
