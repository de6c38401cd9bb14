package session_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/internal/invariants"
	"github.com/sluice-rpc/sluice/session"
)

// talk is a conversation of a few sessions, through both faces, that may be cut anywhere.
type talk struct {
	*couple
	clients sync.WaitGroup

	mu   sync.Mutex
	seen map[uint64]bool // numbers that reached the worker
	not  map[uint64]bool // numbers that the engine was told were not sent
	cut  int             // sessions of the engine that were cut
	good int             // sessions that ended well
}

const talkText = "what is said in every session"

func newTalk(t *testing.T, d codec.Dialect, s channel.Script, face func(*session.Session), opts ...option) *talk {
	k := &talk{couple: newCouple(t, d, s, opts...), seen: map[uint64]bool{}, not: map[uint64]bool{}}
	k.wo.invoke = func(s *session.Session) {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.seen[s.ID()] = true
		switch s.Event() {
		case "refuse":
			_ = s.SendError(session.CategoryUser, 7, "no")
			s.SetHandler(tracer{&k.wo.trace})
		case "trace":
			s.SetHandler(tracer{&k.wo.trace})
			_ = s.SendChunk([]byte(talkText))
			_ = s.SendChoke()
		default:
			face(s)
		}
	}
	return k
}

// awaitTerms waits until the engine knows that the worker keeps to what they agreed on, or
// will never know: an engine opens nothing before the handshake.
func (k *talk) awaitTerms() {
	for range 100 {
		pass(10 * ms)
		known := make(chan bool, 1)
		if !k.engine.Channel().Post(func() { known <- session.Confirmed(k.engine) }) || <-known {
			return
		}
	}
}

// run talks until everything is said or the link is gone, at most for a minute.
func (k *talk) run() {
	k.clients.Go(func() { k.blocking("echo", false) })
	k.clients.Go(func() { k.blocking("echo", true) })
	k.clients.Go(func() { k.blocking("refuse", false) })
	k.clients.Go(func() { k.onLoop("trace") })
	k.clients.Go(func() { k.onLoop("echo") })
	talked := make(chan struct{})
	go func() { k.clients.Wait(); close(talked) }()
	select {
	case <-talked:
	case <-time.After(time.Minute):
	}
	closeNow(k.engine)
	closeNow(k.worker)
	k.clients.Wait()
	synctest.Wait()
}

// blocking is a client in a goroutine; it sends its text in pieces and wants it back.
func (k *talk) blocking(event string, fail bool) {
	s, err := k.engine.OpenOffLoop(context.Background(), event, nil, nil)
	if err != nil {
		k.check(0, err)
		return
	}
	k.clients.Go(func() {
		for piece := range strings.FieldsSeq(talkText) {
			if _, err := s.Write([]byte(piece + " ")); err != nil {
				return
			}
		}
		if fail {
			_ = s.Fail(session.CategoryUser, 9, "changed my mind")
			return
		}
		_ = s.Close()
	})
	got := ""
	for {
		p, err := s.Recv(context.Background())
		if got += string(p); err == nil {
			continue
		}
		if !strings.HasPrefix(talkText+" ", got) {
			k.t.Errorf("session %d: got %q, want the beginning of %q", s.ID(), got, talkText)
		}
		if err == io.EOF && !fail && got != talkText+" " {
			k.t.Errorf("session %d: EOF after %q", s.ID(), got)
		}
		if _, again := s.Recv(context.Background()); again != err {
			k.t.Errorf("session %d: Recv() = %v, then %v", s.ID(), err, again)
		}
		if e := (*session.Error)(nil); fail && errors.As(err, &e) && e.Code == session.CodeOverflow {
			err = io.EOF // what took our error for the end of the session needs no credit any more
		}
		k.check(s.ID(), err)
		return
	}
}

// onLoop is a client with a Handler.
func (k *talk) onLoop(event string) {
	h := newReceiver()
	s, err := k.engine.OpenOffLoop(context.Background(), event, nil, h)
	if err != nil {
		k.check(0, err)
		return
	}
	_, _ = s.Write([]byte(talkText))
	_ = s.Close()
	<-h.done
	data, ends := h.snapshot()
	if ends[0] == "choke" {
		if data != talkText {
			k.t.Errorf("session %d: choke after %q", s.ID(), data)
		}
		k.check(s.ID(), io.EOF)
		return
	}
	k.check(s.ID(), s.Err())
}

// check takes the end of one of the engine's sessions.
func (k *talk) check(n uint64, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var e *session.Error
	switch {
	case err == io.EOF:
		k.good++
		return
	case !errors.As(err, &e):
		k.t.Errorf("session %d ended with %v, want EOF or an *Error", n, err)
		return
	case e.Remote:
		k.good++
		return
	}
	k.cut++
	if !errors.As(err, new(*channel.CloseError)) {
		k.t.Errorf("session %d ended with %v, want the CloseError in it", n, err)
	}
	if e.Delivery == session.NotSent && n != 0 {
		k.not[n] = true
	}
}

// verify checks what must hold after any cut.
func (k *talk) verify() {
	k.t.Helper()
	if k.good+k.cut != 5 {
		k.t.Errorf("%d sessions ended well and %d were cut, want 5 in all", k.good, k.cut)
	}
	for n := range k.not {
		if k.seen[n] {
			k.t.Errorf("session %d was not sent, and reached the worker", n)
		}
	}
	k.wantEmpty()
	checkTold(k.t, k.wo.sessionLines(), 0)
	for _, o := range []*owner{k.eo, k.wo} {
		if len(o.closed) != 1 {
			k.t.Errorf("OnClose was called %d times, want once", len(o.closed))
		}
	}
}

// sessionLines takes what the handlers were told.
func (o *owner) sessionLines() []string {
	var lines []string
	for _, line := range o.take() {
		if line[0] >= '0' && line[0] <= '9' {
			lines = append(lines, line)
		}
	}
	return lines
}

// TestCutAnywhere cuts a conversation at every byte, in either direction, in every way:
// one face at the even bytes, the other at the odd ones. Over the net.Conn transport it
// cuts at some bytes, and likewise where credit, cancel and compression are agreed on, with
// windows so small that grants go to and fro.
func TestCutAnywhere(t *testing.T) {
	step := int64(2)
	if invariants.Race {
		step = 12
	}
	bothFacesOutside(t, func(t *testing.T, d codec.Dialect, loop int64, face func(*session.Session)) {
		cutAnywhere(t, d, face, loop, step, false)
	})
	t.Run("conn", func(t *testing.T) {
		bothFacesOutside(t, func(t *testing.T, d codec.Dialect, loop int64, face func(*session.Session)) {
			cutAnywhere(t, d, face, loop, 5*step, false, func(c *session.Config) { c.Channel.NoEventLoop = true })
		})
	})
	t.Run("agreed", func(t *testing.T) {
		for loop, name := range []string{"goroutine", "loop"} {
			t.Run(name, func(t *testing.T) { cutAnywhere(t, codec.V1, echoes[name], int64(loop), 3*step, true, agreeing) })
		}
	})
}

// agreeing has both ends agree on all there is.
func agreeing(c *session.Config) {
	c.Extensions = session.Extensions{Offer: true, SessionWindow: 12, ChannelWindow: 200, Compress: session.CompressAlways, MinCompress: -1}
}

func cutAnywhere(t *testing.T, d codec.Dialect, face func(*session.Session), from, step int64, offered bool, opts ...option) {
	cut, not, good := 0, 0, 0
	try := func(script string) (total [2]int64) {
		s, err := channel.ParseScript(script)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Test(t, func(t *testing.T) {
			k := newTalk(t, d, s, face, opts...)
			if offered {
				k.awaitTerms()
			}
			k.run()
			k.verify()
			total = [2]int64{k.engine.Channel().Written(), k.worker.Channel().Written()}
			cut, not, good = cut+k.cut, not+len(k.not), good+k.good
			if t.Failed() {
				t.Fatalf("script: %s", script)
			}
		})
		return total
	}
	const path = "a<>b capacity=40 slice=9,0,3,1 "
	total := try(path)
	if good != 5 {
		t.Fatalf("%d sessions ended well without a cut, want 5", good)
	}
	for way, bytes := range total {
		for at := from; at < bytes; at += step {
			for _, how := range []string{"cut=%d:fin", "cut=%d:rst", "stall=%d:forever", "stall=%d:200ms"} {
				try(path + []string{"a>b ", "b>a "}[way] + fmt.Sprintf(how, at))
			}
		}
	}
	if cut == 0 || not == 0 || good == 5 {
		t.Errorf("%d sessions were cut, %d of them not sent, %d ended well, want some of each", cut, not, good)
	}
}

// bothFacesOutside is bothFaces without a bubble. loop is 1 for the face on the loop.
func bothFacesOutside(t *testing.T, f func(t *testing.T, d codec.Dialect, loop int64, echo func(*session.Session))) {
	t.Helper()
	for loop, name := range []string{"goroutine", "loop"} {
		for _, d := range []codec.Dialect{codec.V0, codec.V1} {
			t.Run(fmt.Sprintf("%v-%s", d, name), func(t *testing.T) { f(t, d, int64(loop), echoes[name]) })
		}
	}
}
