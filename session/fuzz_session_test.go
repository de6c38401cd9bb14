package session_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// FuzzSession runs a program of operations of both peers over a link with random faults.
// Every session ends once at each end, chunks come in order and at most once, and
// nothing is left.
func FuzzSession(f *testing.F) {
	f.Add(uint64(1), []byte{0, 0, 1, 0, 9, 1, 0, 9, 2, 0, 4, 0, 5, 5, 0})
	f.Add(uint64(2), []byte{0, 1, 0, 2, 0, 3, 1, 0, 200, 1, 1, 200, 1, 2, 200, 9, 4, 2, 0, 3, 1, 5, 2})
	f.Add(uint64(3), []byte{0, 2, 1, 0, 255, 1, 0, 255, 1, 0, 255, 1, 0, 255, 9, 60, 2, 0, 7, 1, 3, 9})
	f.Add(uint64(8), []byte{0, 0, 4, 0, 100, 6, 0, 1, 0, 9, 8, 1, 2, 3, 10, 0, 0, 1})
	f.Add(uint64(44), []byte{0, 3, 0, 3, 4, 0, 250, 4, 1, 250, 4, 0, 250, 5, 0, 5, 1, 2, 0, 2, 1, 11, 0})
	f.Add(uint64(25), []byte("B08820B008002")) // garbage opens a session and writes to it
	for policy := range uint64(5) {            // full at once, on both faces
		f.Add(policy<<8|3, []byte{0, 2, 1, 0, 255, 7, 1, 0, 255, 7, 7, 0, 255, 7, 7, 0, 255, 7, 1, 0, 255, 7, 9, 60, 7, 0, 200, 7, 2, 0, 9, 9})
		f.Add(policy<<8|4, []byte{0, 0, 0, 1, 12, 8, 0, 255, 7, 8, 0, 255, 7, 4, 1, 255, 7, 4, 0, 250, 7, 8, 1, 255, 7, 11, 0, 0, 1, 5, 1, 6, 0})
	}
	f.Fuzz(func(t *testing.T, seed uint64, data []byte) {
		if len(data) > 600 {
			return
		}
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, seed, data)
			w.run()
			w.verify()
		})
	})
}

// world is two tables, what was sent in each session, and what came.
type world struct {
	*couple
	p *program

	policy session.Policy // of every session

	mu    sync.Mutex
	sides [2]map[uint64]*half // by session: what the engine, and what the worker, saw
	list  []uint64
	wg    sync.WaitGroup
}

// half is one end of one session.
type half struct {
	w    *world
	s    *session.Session
	kind int // who reads: 0 a Handler, 1 a goroutine, 2 a slow one, 3 nobody until the end

	sent    uint32 // chunks that were accepted, numbered from 0
	closed  bool   // a choke was accepted
	got     uint32 // the next number
	count   int    // of chunks
	ends    []string
	settled int
}

func newWorld(t *testing.T, seed uint64, data []byte) *world {
	w := &world{p: &program{data}, sides: [2]map[uint64]*half{{}, {}}, policy: session.Policy(seed >> 8 % 5)}
	d := codec.Dialect(seed & 1)
	side := 0 // joinTables makes the engine first
	w.couple = newCouple(t, d, channel.RandomScript(seed), quiet, func(c *session.Config) {
		c.Channel.HighWaterBytes = 1 + int(seed>>1%8)<<10
		c.InboxBytes = 1 + int(seed>>4%8)<<9
		c.Channel.NoEventLoop = seed>>7&1 == 1
		at := side
		side++
		c.OnSettled = func(s *session.Session) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if h := w.sides[at][s.ID()]; h != nil {
				h.settled++
			}
		}
	})
	kinds := map[string]int{"0": 0, "1": 1, "2": 2}
	w.wo.invoke = func(s *session.Session) {
		kind, ok := kinds[s.Event()]
		if !ok {
			kind = 3
		}
		w.begin(1, s, kind)
	}
	return w
}

// begin notes a session and has it read. On the loop for a Handler.
func (w *world) begin(side int, s *session.Session, kind int) *half {
	h := &half{w: w, s: s, kind: kind}
	if kind == 0 && side == 1 {
		s.SetHandler(h)
	}
	w.setPolicy(s)
	w.mu.Lock()
	w.sides[side][s.ID()] = h
	w.mu.Unlock()
	if kind == 1 || kind == 2 {
		w.wg.Go(func() { h.read(time.Duration(kind-1) * time.Second) })
	}
	return h
}

func (w *world) setPolicy(s *session.Session) {
	s.SetOverflow(session.Overflow{Policy: w.policy, MaxChunks: 3})
}

// lossy says that what was accepted may be dropped.
func (w *world) lossy() bool {
	return w.policy == session.DropNewest || w.policy == session.DropOldest
}

// read takes chunks until the end.
func (h *half) read(pause time.Duration) {
	for {
		p, err := h.s.Recv(context.Background())
		if err != nil {
			h.end(h.s, err)
			return
		}
		h.chunk(h.s, p)
		if pause > 0 {
			pass(pause)
		}
	}
}

func (h *half) chunk(s *session.Session, p []byte) {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	if len(h.ends) > 0 {
		h.w.t.Errorf("session %d: a chunk after %q", s.ID(), h.ends)
	}
	if s.ID() >= garbageID { // its chunks are not numbered
		return
	}
	if len(p) < 4 || binary.BigEndian.Uint32(p) != h.got && (!h.w.lossy() || binary.BigEndian.Uint32(p) < h.got) {
		h.w.t.Errorf("session %d: chunk %x…, want number %d", s.ID(), p[:min(len(p), 4)], h.got)
		return
	}
	h.got = binary.BigEndian.Uint32(p) + 1
	h.count++
}

func (h *half) end(s *session.Session, err error) {
	how := "choke"
	if err != io.EOF {
		how = "error"
		var e *session.Error
		if !errors.As(err, &e) {
			h.w.t.Errorf("session %d ended with %v, want an *Error", s.ID(), err)
		}
	}
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	if n := len(h.ends); n > 1 || n == 1 && (how == "choke" || h.ends[0] == "error") {
		h.w.t.Errorf("session %d: %s after %q", s.ID(), how, h.ends)
	}
	h.ends = append(h.ends, how)
}

func (h *half) OnChunk(s *session.Session, p []byte)         { h.chunk(s, p) }
func (h *half) OnChoke(s *session.Session)                   { h.end(s, io.EOF) }
func (h *half) OnError(s *session.Session, e *session.Error) { h.end(s, e) }

// half picks a session that this side knows.
func (w *world) half(side int) *half {
	n := w.p.next(8)
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.list) == 0 {
		return nil
	}
	return w.sides[side][w.list[n%len(w.list)]]
}

// run executes the program, then ends both channels.
func (w *world) run() {
	for !w.p.done() {
		switch op := w.p.next(14); op {
		case 0:
			w.open(w.p.next(4))
		case 1, 4:
			w.send(op/4, false)
		case 2, 5:
			w.finish(op/5, true)
		case 3, 6:
			w.finish(op/6, false)
		case 7, 8:
			w.send(op-7, true)
		case 9:
			pass(time.Duration(w.p.next(64)) * 100 * ms)
		case 10:
			w.garbage(w.p.next(2))
		case 11:
			w.loopOp(w.p.next(2))
		case 12:
			synctest.Wait()
		case 13:
			w.stop(w.p.next(4))
		}
	}
	pass(30 * time.Second)
	closeNow(w.engine)
	closeNow(w.worker)
	w.wg.Wait()
	synctest.Wait()
}

func (w *world) open(kind int) {
	var handler session.Handler
	h := &half{w: w, kind: kind}
	if kind == 0 {
		handler = h
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Second)
	defer cancel()
	event := str("%d", w.p.next(4))
	s, err := w.engine.OpenOffLoop(ctx, event, nil, handler)
	if err != nil {
		return
	}
	w.setPolicy(s)
	w.mu.Lock()
	h.s = s
	w.sides[0][s.ID()] = h
	w.list = append(w.list, s.ID())
	w.mu.Unlock()
	if kind == 1 || kind == 2 {
		w.wg.Go(func() { h.read(time.Duration(kind-1) * time.Second) })
	}
}

// send writes the next chunk of a session, from a goroutine or on the loop.
func (w *world) send(side int, onLoop bool) {
	h := w.half(side)
	size := 4 + w.p.next(256)*w.p.next(8)
	if h == nil {
		return
	}
	p := make([]byte, size)
	binary.BigEndian.PutUint32(p, h.sent)
	var err error
	if onLoop {
		err = errors.New("not run")
		w.post(side, func() { err = h.s.SendChunk(p) })
	} else {
		ctx, cancel := context.WithTimeout(w.t.Context(), time.Second)
		err = h.s.Send(ctx, p)
		cancel()
	}
	if err == nil {
		if h.closed {
			w.t.Errorf("session %d: a chunk was taken behind the choke", h.s.ID())
		}
		h.sent++
	}
}

// finish ends one direction: well, or with an error.
func (w *world) finish(side int, well bool) {
	h := w.half(side)
	if h == nil {
		return
	}
	w.wg.Go(func() { // it may wait for room
		var err error
		if well {
			err = h.s.Close()
		} else {
			err = h.s.Fail(1, 2, "no")
		}
		var e *session.Error
		if err != nil && err != session.ErrClosed && !errors.As(err, &e) {
			w.t.Errorf("the end of session %d: %v", h.s.ID(), err)
		}
	})
	synctest.Wait()
	h.closed = h.s.Direction().Closed()
}

// garbageID is the first of the sessions that only garbage opens.
const garbageID = 1_000_000

// garbage sends a frame past the table of the given side.
func (w *world) garbage(side int) {
	args := w.p.args()
	f := codec.Frame{
		Kind:    codec.KindCall,
		Session: pick(w.p, 0, 1, garbageID, garbageID+1, garbageID+2, uint64(2)),
		Type:    pick(w.p, 0, 1, 2, 7, 8, 9, 65535, uint64(70)),
		Args:    args,
	}
	if f.Session == 2 {
		f.Type += 100 // of no protocol, on a live session
	}
	_ = w.table(side).Channel().SendOffLoop(channel.NoWait, &f)
}

// loopOp does what only the loop may.
func (w *world) loopOp(side int) {
	h := w.half(side)
	op := w.p.next(4)
	w.post(side, func() {
		switch {
		case op == 0:
			w.table(side).End(9, "end")
		case h == nil || h.kind != 0:
		case op == 1:
			_ = h.s.SendChoke()
		case op == 2:
			_ = h.s.SendError(1, 3, "no")
		}
	})
	if h != nil {
		synctest.Wait()
		h.closed = h.closed || h.s.Direction().Closed()
	}
}

// stop ends a channel, gently or not.
func (w *world) stop(how int) {
	table := w.table(how & 1)
	if how&2 == 0 {
		closeNow(table)
		return
	}
	w.wg.Go(func() { _ = table.Channel().Close(context.Background()) })
}

func (w *world) table(side int) *session.Table {
	if side == 0 {
		return w.engine
	}
	return w.worker
}

// post runs f on a side's loop, if there is one, and waits for it.
func (w *world) post(side int, f func()) {
	done := make(chan struct{})
	ch := w.table(side).Channel()
	if ch.Post(func() { defer close(done); f() }) {
		select {
		case <-done:
		case <-ch.Done():
		}
	}
}

// verify checks the end of the world.
func (w *world) verify() {
	w.wantEmpty()
	for _, o := range []*owner{w.eo, w.wo} {
		if err := <-o.closed; err.Code == channel.CodePanic {
			w.t.Errorf("a callback panicked: %v", err)
		}
	}
	for side := range w.sides {
		for n, h := range w.sides[side] {
			if h.kind == 3 {
				h.read(0)
			}
			if len(h.ends) == 0 {
				w.t.Errorf("side %d: session %d has no end", side, n)
				continue
			}
			if h.settled > 1 {
				w.t.Errorf("side %d: session %d settled %d times", side, n, h.settled)
			}
			w.compare(side, n, h)
		}
	}
}

// compare holds what one side got against what the other sent.
func (w *world) compare(side int, n uint64, h *half) {
	peer := w.sides[1-side][n]
	switch {
	case peer == nil && h.got > 0:
		w.t.Errorf("session %d: %d chunks of nobody", n, h.got)
	case peer == nil:
	case h.got > peer.sent:
		w.t.Errorf("side %d: session %d got %d chunks, %d were sent", side, n, h.got, peer.sent)
	case h.ends[0] == "choke" && h.count+int(peer.s.Dropped()) != int(peer.sent):
		w.t.Errorf("side %d: session %d got a choke after %d chunks, %d were sent and %d dropped", side, n, h.count, peer.sent, peer.s.Dropped())
	}
	if e := h.s.Err(); side == 0 && peer != nil && e != nil && e.Delivery == session.NotSent {
		w.t.Errorf("session %d was not sent, and reached the worker", n)
	}
}
