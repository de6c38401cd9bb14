package channel

import (
	"testing"
	"time"
)

// fake is a transport under the test's thumb, on the test's goroutine: it takes what
// room says and keeps it, and gives the input that it is fed.
type fake struct {
	*Channel
	t       testing.TB
	l       loop
	took    []byte
	keep    bool // of what was taken
	room    int  // -1: all there is
	err     error
	paused  bool
	halved  bool
	gone    bool
	wakes   int
	written int
}

// newFake opens a channel for s on a fake.
func newFake(t testing.TB, cfg Config, s *side) (*fake, *side) {
	t.Helper()
	if s == nil {
		s = &side{}
	}
	s.t = t
	s.opens.Store(0)
	s.closes.Store(0)
	cfg.Logger = silent
	c, err := New(cfg, s)
	if err != nil {
		t.Fatal(err)
	}
	s.Channel = c
	f := &fake{Channel: c, t: t, room: -1, keep: true}
	f.l.wake = func() { f.wakes++ }
	c.loop, c.stream = &f.l, f
	c.fire(Idle, evConnect)
	c.fire(Connecting, evAttach)
	c.wasOpen = true
	c.h.OnOpen(c)
	return f, s
}

// turn runs one turn of the loop.
func (f *fake) turn() {
	f.l.runPosts()
	f.l.endTurn()
}

// feed reads p in as few reads as it takes, each a turn.
func (f *fake) feed(p []byte) {
	for len(p) > 0 && !f.gone {
		n := copy(f.readSpace(), p)
		p = p[n:]
		f.gotInput(n)
		f.l.endTurn()
	}
}

// alive notices calls of a transport that was given back.
func (f *fake) alive(what string) {
	f.t.Helper()
	if f.gone {
		f.t.Errorf("%s of a transport that was closed", what)
	}
}

func (f *fake) write(p []byte) (int, bool, error) {
	f.alive("write")
	if f.err != nil {
		return 0, false, f.err
	}
	n := len(p)
	if f.room >= 0 {
		n = min(n, f.room)
		f.room -= n
	}
	if f.keep {
		f.took = append(f.took, p[:n]...)
	}
	f.written += n
	return n, false, nil
}

func (f *fake) setPaused(paused bool) { f.alive("setPaused"); f.paused = paused }
func (f *fake) unread() bool          { return false }
func (f *fake) poll()                 { f.alive("poll") }
func (f *fake) closeWrite()           { f.alive("closeWrite"); f.halved = true }
func (f *fake) close()                { f.alive("close"); f.gone = true }
func (f *fake) wait()                 {}

// use calls every method of the loop on a dead channel.
func use(s *side) {
	_ = s.Send(chunk(1, 0, 8))
	_ = s.SendOf(&party{}, chunk(1, 0, 8), First|Last)
	_ = s.SendHeartbeat()
	s.Pause()
	s.Resume()
	s.Poll()
	_ = s.Unread()
	s.Drain(&CloseError{}, true, time.Second)
	s.Fail(&CloseError{})
	s.endTurn()
	_ = s.Written()
}
