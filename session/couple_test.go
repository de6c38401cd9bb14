package session_test

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// couple is an engine's table and a worker's over one link.
type couple struct {
	t              testing.TB
	engine, worker *session.Table
	eo, wo         *owner
}

// newCouple joins two tables over a pair; it must run in a bubble.
func newCouple(t testing.TB, d codec.Dialect, s channel.Script, opts ...option) *couple {
	t.Helper()
	a, b := channel.Pair(s)
	c := joinTables(t, d, a, b, opts...)
	t.Cleanup(func() {
		closeNow(c.engine)
		closeNow(c.worker)
	})
	return c
}

// joinTables puts an engine on a and a worker on b, and shakes hands.
func joinTables(t testing.TB, d codec.Dialect, a, b net.Conn, opts ...option) *couple {
	t.Helper()
	c := &couple{t: t}
	c.engine, c.eo = newTable(t, d, session.Engine, opts...)
	c.worker, c.wo = newTable(t, d, session.Worker, opts...)
	offer := c.worker.Offer()
	if err := c.engine.Channel().Attach(a); err != nil {
		t.Fatal(err)
	}
	if err := c.worker.Channel().Attach(b); err != nil {
		t.Fatal(err)
	}
	_ = c.worker.Channel().SendOffLoop(context.Background(), &codec.Frame{Kind: codec.KindHandshake, Text: "u", Headers: offer}) // or it was cut
	return c
}

// open invokes event from this goroutine.
func (c *couple) open(event string) *session.Session {
	c.t.Helper()
	s, err := c.engine.OpenOffLoop(context.Background(), event, nil, nil)
	if err != nil {
		c.t.Fatalf("OpenOffLoop() = %v", err)
	}
	return s
}

// wantEmpty checks that no session is left at either end.
func (c *couple) wantEmpty() {
	c.t.Helper()
	synctest.Wait()
	if e, w := c.engine.Stats(), c.worker.Stats(); e.Open != 0 || w.Open != 0 {
		c.t.Errorf("open sessions: engine %d, worker %d, want none", e.Open, w.Open)
	}
}

// echoLoop answers on the loop, and keeps what found no room.
type echoLoop struct {
	held  [][]byte
	ended bool
}

func (h *echoLoop) OnChunk(s *session.Session, p []byte) {
	if len(h.held) > 0 || s.SendChunk(p) == channel.ErrFull {
		h.held = append(h.held, append([]byte(nil), p...))
	}
}

func (h *echoLoop) OnWritable(s *session.Session) {
	for len(h.held) > 0 {
		if s.SendChunk(h.held[0]) == channel.ErrFull {
			return
		}
		h.held = h.held[1:]
	}
	if h.ended {
		_ = s.SendChoke()
	}
}

func (h *echoLoop) OnChoke(s *session.Session) {
	if h.ended = true; len(h.held) == 0 {
		_ = s.SendChoke()
	}
}

func (h *echoLoop) OnError(s *session.Session, e *session.Error) {
	_ = s.SendError(session.CategoryUser, e.Code, "so be it")
}

// echoGo answers in a goroutine.
func echoGo(s *session.Session) {
	ctx, cancel := s.Bind(context.Background())
	defer cancel()
	for chunk, err := range s.Chunks(ctx) {
		if err != nil {
			_ = s.Fail(session.CategoryUser, 1, err.Error())
			return
		}
		if _, err := s.Write(chunk); err != nil {
			return
		}
	}
	_ = s.Close()
}

// echoes are the two faces that a worker may answer with.
var echoes = map[string]func(s *session.Session){
	"loop":      func(s *session.Session) { s.SetHandler(&echoLoop{}) },
	"goroutine": func(s *session.Session) { go echoGo(s) },
}

// receiver is a client's Handler that keeps all that it is told.
type receiver struct {
	mu     sync.Mutex
	data   []byte
	chunks int
	ends   []string
	done   chan struct{} // closed at the first end
}

func newReceiver() *receiver { return &receiver{done: make(chan struct{})} }

func (h *receiver) OnChunk(_ *session.Session, p []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.data = append(h.data, p...)
	h.chunks++
}

func (h *receiver) OnChoke(*session.Session) { h.end("choke") }

func (h *receiver) OnError(_ *session.Session, e *session.Error) { h.end(errText(e)) }

func (h *receiver) end(how string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ends = append(h.ends, how); len(h.ends) == 1 {
		close(h.done)
	}
}

func (h *receiver) snapshot() (data string, ends []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return string(h.data), append([]string(nil), h.ends...)
}

// pass lets time pass: virtual time in a bubble.
func pass(d time.Duration) {
	t := time.NewTimer(d)
	<-t.C
}

// pattern is n bytes that tell where they belong.
func pattern(seed, n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i*7 + i>>8 + seed*31)
	}
	return p
}

// bothFaces runs f for each dialect and each echo.
func bothFaces(t *testing.T, f func(t *testing.T, d codec.Dialect, echo func(*session.Session))) {
	t.Helper()
	for name, echo := range echoes {
		for _, d := range []codec.Dialect{codec.V0, codec.V1} {
			t.Run(fmt.Sprintf("%v-%s", d, name), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { f(t, d, echo) })
			})
		}
	}
}
