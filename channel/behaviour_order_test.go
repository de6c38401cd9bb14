package channel

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sluice-rpc/sluice/codec"
)

// Order: of frames, of numbers, and within a session.

// TestOneOrder sends from the loop and from 100 goroutines at once. Each sender's
// frames come in its order, all of them once, and few writes carry them.
func TestOneOrder(t *testing.T) {
	const senders, each = 100, 50
	over(t, func(t *testing.T, m medium) {
		a, b := newSide(t, m, Config{}), newSide(t, m, Config{})
		var next [senders + 1]int
		left := (senders + 1) * each
		all := make(chan struct{})
		b.onMessage = func(m *codec.Message, _ []codec.Header) {
			if got := number(m.Payload); got != next[m.Session] || !whole(m.Payload) {
				t.Errorf("sender %d: frame %d came, want %d", m.Session, got, next[m.Session])
			}
			next[m.Session]++
			if left--; left == 0 {
				close(all)
			}
		}
		m.connect(t, a, b)
		var wg sync.WaitGroup
		for id := range uint64(senders) {
			wg.Go(func() {
				for i := range each {
					if err := a.SendOffLoop(t.Context(), chunk(id, i, 8+i)); err != nil {
						t.Errorf("SendOffLoop() = %v", err)
					}
				}
			})
		}
		var onLoop func()
		sent := 0
		onLoop = func() {
			if err := a.Send(chunk(senders, sent, 8+sent)); err != nil {
				t.Errorf("Send() = %v", err)
			}
			if sent++; sent < each {
				a.Post(onLoop)
			}
		}
		a.Post(onLoop)
		wg.Wait()
		await(t, "the last frame", all)
		a.queuedSoon()
		a.end()
		b.over()
		if s := a.Stats(); s.FramesOut != (senders+1)*each || s.Writes > s.FramesOut/4 {
			t.Errorf("%d frames went in %d writes, want %d in far fewer", s.FramesOut, s.Writes, (senders+1)*each)
		}
		if s := b.Stats(); s.FramesIn != (senders+1)*each || s.BytesIn != a.Stats().BytesOut {
			t.Errorf("%d frames and %d bytes came, want %d and %d", s.FramesIn, s.BytesIn, (senders+1)*each, a.Stats().BytesOut)
		}
		b.end()
	})
}

// TestOrderAcross: one goroutine sends in turns from outside and on the loop. There is
// one order, whichever way a frame went.
func TestOrderAcross(t *testing.T) {
	const n = 300
	over(t, func(t *testing.T, m medium) {
		s, w := m.faced(t, Config{})
		for i := 0; i < n; i += 3 {
			err := s.SendOffLoop(t.Context(), chunk(1, i, 8))
			s.do(func() { err = errors.Join(err, s.Send(chunk(1, i+1, 8)), s.SendHeartbeat()) })
			if err = errors.Join(err, s.SendOffLoop(t.Context(), chunk(1, i+2, 8))); err != nil {
				t.Fatal(err)
			}
		}
		s.do(func() {})
		beats := int(s.Stats().HeartbeatsMerged)
		for next := 0; next < n || beats < n/3; {
			m := w.mustNext()
			switch got := number(m.Payload); {
			case beat(m, codec.V0):
				beats++ // it overtakes what has not left
			case got != next:
				t.Fatalf("frame %d came, want %d", got, next)
			default:
				next++
			}
		}
		s.end()
	})
}

// numbersGrow (B29): however many goroutines open sessions, and the loop too, the
// numbers on the wire only grow, and sessions are installed in their order, before a
// byte of them is written.
func numbersGrow(t *testing.T) {
	const openers, each = 50, 40
	over(t, func(t *testing.T, m medium) {
		a, b := newSide(t, m, Config{FirstSession: 7}), newSide(t, m, Config{})
		var last, installed uint64 = 6, 6
		left := (openers + 1) * each
		all := make(chan struct{})
		b.onMessage = func(m *codec.Message, _ []codec.Header) {
			if m.Session <= last {
				t.Errorf("number %d came behind %d", m.Session, last)
			}
			last = m.Session
			if left--; left == 0 {
				close(all)
			}
		}
		m.connect(t, a, b)
		open := func() *party {
			p := new(party)
			p.onOpened = func() {
				if p.id != installed+1 {
					t.Errorf("session %d was installed behind %d", p.id, installed)
				}
				installed = p.id
				if p.at < a.Written() {
					t.Errorf("session %d at byte %d was installed when %d were written", p.id, p.at, a.Written())
				}
			}
			return p
		}
		f := func() *codec.Frame { return &codec.Frame{Kind: codec.KindInvoke, Text: "event"} }
		var wg sync.WaitGroup
		for range openers {
			wg.Go(func() {
				for range each {
					if err := a.SendOfOffLoop(t.Context(), open(), f(), First); err != nil {
						t.Errorf("SendOfOffLoop() = %v", err)
					}
				}
			})
		}
		var onLoop func()
		sent := 0
		onLoop = func() {
			p := open()
			if err := a.SendOf(p, f(), First); err != nil || !p.opened.Load() {
				t.Errorf("SendOf() = %v, opened %v", err, p.opened.Load())
			}
			if sent++; sent < each {
				a.Post(onLoop)
			}
		}
		a.Post(onLoop)
		wg.Wait()
		await(t, "the last number", all)
		if last != 6+(openers+1)*each {
			t.Errorf("the last number is %d, want %d", last, 6+(openers+1)*each)
		}
		a.end()
		b.end()
	})
}

// TestNothingBehindLast: whoever sends the last frame of a direction, and whoever else
// sends in it at the same time, nothing of it is on the wire behind the last frame.
func TestNothingBehindLast(t *testing.T) {
	over(t, func(t *testing.T, m medium) {
		a, b := newSide(t, m, Config{}), newSide(t, m, Config{})
		ended := map[uint64]bool{}
		chunks := map[uint64]int{}
		b.onMessage = func(m *codec.Message, _ []codec.Header) {
			if ended[m.Session] {
				t.Errorf("session %d: type %d behind the last frame", m.Session, m.Type)
			}
			switch m.Type {
			case codec.V0Chunk:
				chunks[m.Session]++
			case codec.V0Choke:
				ended[m.Session] = true
			}
		}
		m.connect(t, a, b)
		for round := range 100 {
			p, accepted := endInARace(t, a, round%2 == 0)
			eventually(t, "the last frame", func() (got bool) {
				b.do(func() { got = ended[p.id] })
				return got
			})
			b.do(func() {
				if chunks[p.id] != accepted {
					t.Errorf("%d chunks came, %d were accepted", chunks[p.id], accepted)
				}
			})
		}
		a.end()
		b.end()
	})
}

// endInARace opens a session on a, and has goroutines and the loop send chunks in it
// while one of them, or both kinds, send the last frame. It returns how many chunks were
// accepted.
func endInARace(t *testing.T, a *side, both bool) (p *party, chunks int) {
	p = new(party)
	if err := a.SendOfOffLoop(t.Context(), p, &codec.Frame{Kind: codec.KindInvoke, Text: "e"}, First); err != nil {
		t.Fatal(err)
	}
	a.do(func() {
		if !p.opened.Load() {
			t.Error("a post behind the open finds no session")
		}
	})
	choke := &codec.Frame{Kind: codec.KindChoke, Session: p.id}
	var accepted, last atomic.Int32
	count := func(err error, c *atomic.Int32) {
		if err == nil {
			c.Add(1)
		} else if !errors.Is(err, ErrFinished) {
			t.Errorf("sending: %v", err)
		}
	}
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for range 10 {
				count(a.SendOfOffLoop(t.Context(), p, chunk(p.id, 0, 8), 0), &accepted)
			}
		})
	}
	wg.Go(func() {
		a.do(func() {
			for range 5 {
				count(a.SendOf(p, chunk(p.id, 0, 8), 0), &accepted)
			}
			if both {
				count(a.SendOf(p, choke, Last), &last)
			}
			count(a.SendOf(p, chunk(p.id, 0, 8), 0), &accepted)
		})
	})
	wg.Go(func() { count(a.SendOfOffLoop(t.Context(), p, choke, Last), &last) })
	wg.Wait()
	a.do(func() {})
	if last.Load() != 1 || p.finished.Load() != 1 || !p.Direction().Closed() {
		t.Fatalf("%d last frames, Finished called %d times", last.Load(), p.finished.Load())
	}
	return p, int(accepted.Load())
}

// TestSendInFinished: a session's end may be the moment to send, and to open the next
// one, while others open and end theirs. All are told once, and installed in order.
func TestSendInFinished(t *testing.T) {
	const openers, each = 8, 200
	over(t, func(t *testing.T, m medium) {
		a, b := newSide(t, m, Config{HighWaterBytes: -1}), newSide(t, m, Config{})
		m.connect(t, a, b)
		var installed uint64
		opened := func(p *party) func() {
			return func() {
				if p.id != installed+1 {
					t.Errorf("session %d was installed behind %d", p.id, installed)
				}
				installed = p.id
			}
		}
		invoke := func() *codec.Frame { return &codec.Frame{Kind: codec.KindInvoke, Text: "e"} }
		var list tally[*party]
		var wg sync.WaitGroup
		for range openers {
			wg.Go(func() {
				for range each {
					p := new(party)
					p.onOpened = opened(p)
					p.onFinish = func() {
						next := new(party)
						next.onOpened = opened(next)
						if err := a.SendOf(next, invoke(), First|Last); err != nil {
							t.Errorf("SendOf() = %v", err)
						}
						list.add(next)
					}
					f := invoke()
					err := a.SendOfOffLoop(t.Context(), p, f, First)
					err = errors.Join(err, a.SendOfOffLoop(t.Context(), p, &codec.Frame{Kind: codec.KindChoke, Session: f.Session}, Last))
					if err != nil {
						t.Errorf("SendOfOffLoop() = %v", err)
					}
					list.add(p)
				}
			})
		}
		wg.Wait()
		a.do(func() {})
		for _, p := range list.all() {
			if !p.opened.Load() || p.finished.Load() != 1 {
				t.Fatalf("session %d: opened %v, %d times finished", p.id, p.opened.Load(), p.finished.Load())
			}
		}
		if installed != 2*openers*each {
			t.Errorf("%d sessions were installed, want %d", installed, 2*openers*each)
		}
		a.end()
		b.end()
	})
}
