package session_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/internal/invariants"
	"github.com/sluice-rpc/sluice/session"
)

// heapInUse is what lives on the heap.
func heapInUse() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc) // HeapInuse counts the holes of spans that other tests broke up
}

var openingRows = []row{
	{"B26", "headers that are none, or too many", testB26},
	{"B27", "trace headers of odd shapes", testB27},
	{"B29", "many goroutines open sessions at once", testB29},
	{"B30", "a peer of the other dialect", testB30},
}

var writingRows = []row{
	{"C4", "a sender that waits for room and is cancelled", testC4},
	{"C7", "a caller that changes its slice after the send", testC7},
	{"C8", "a handler that keeps a borrowed chunk", testC8},
	{"C13", "many sessions with one small chunk each", testC13},
	{"C14", "one session streams, another pings", testC14},
	{"C17", "empty and too large chunks", testC17},
}

// withHeaders is a v1 frame that invokes e on session n with a raw header array.
func withHeaders(n uint64, headers []byte) string {
	b := codec.AppendUint(append([]byte{0x94}, codec.AppendUint(nil, n)...), codec.V1Invoke)
	return fmt.Sprintf("raw %x", append(append(b, 0x91, 0xa1, 'e'), headers...))
}

func testB26(t *testing.T, d codec.Dialect) {
	if d == codec.V0 {
		return // v0 has no headers
	}
	big := codec.AppendRaw([]byte{0x91, 0x93, 0xc2, 0xa1, 'n'}, make([]byte, 1<<20))
	for name, headers := range map[string][]byte{
		"index 0":              {0x91, 0x00},
		"index beyond":         {0x91, 0x53},
		"name index beyond":    {0x91, 0x93, 0xc2, 0x53, 0xa1, 'v'},
		"no array":             {0x91, 0xa1, 'x'},
		"two elements":         {0x91, 0x92, 0xc2, 0xa1, 'n'},
		"value is a number":    {0x91, 0x93, 0xc2, 0xa1, 'n', 0x05},
		"1 MiB":                big,
		"33 headers":           append([]byte{0xdc, 0, 33}, bytes.Repeat([]byte{0x93, 0xc2, 0xa1, 'n', 0xa1, 'v'}, 33)...),
		"a bomb of one header": append([]byte{0x92, 0x93, 0xc3, 0xa1, 'n', 0xda, 0x1f, 0xff}, append(make([]byte, 8191), 0x53)...),
	} {
		r := newRig(t, d, session.Worker)
		r.send("invoke 2 e", withHeaders(3, headers))
		if got := r.owner.take(); !slices.Equal(got, []string{"invoke 2 e", "2 error local 0", "close bad_header"}) {
			t.Errorf("%s: told %q, want the close", name, got)
		}
	}
	// 10^5 insertions into the table of the peer: bounded, and still served.
	r := newRig(t, d, session.Worker)
	r.dropOutput()
	var last []codec.Header
	r.owner.invoke = func(s *session.Session) {
		last = s.Headers()
		_ = s.SendChoke()
		s.Ignore()
	}
	before := heapInUse()
	var b []byte
	n := scaled(100_000)
	r.flood(n, func(i uint64) []byte {
		b = codec.AppendUint(append(b[:0], 0x94), 2+i)
		b = append(b, codec.V1Invoke, 0x91, 0xa1, 'e', 0x91, 0x93, 0xc3)
		return codec.AppendString(codec.AppendString(b, str("name-%d", i)), "value")
	})
	if want := str("name-%d", n-1); len(last) != 1 || string(last[0].Name) != want {
		t.Errorf("the last headers are %q, want %s", last, want)
	}
	wantHeap(t, before, 4<<20) // each is more than 50 bytes
	r.wantAlive("insertions")
}

func testB27(t *testing.T, d codec.Dialect) {
	if d == codec.V0 {
		return
	}
	raw := func(parts ...[]byte) []byte { return slices.Concat(parts...) }
	full := func(index byte, value byte) []byte {
		return []byte{0x93, 0xc2, index, 0xa8, value, 0, 0, 0, 0, 0, 0, 0}
	}
	for name, c := range map[string]struct {
		headers []byte
		trace   bool
	}{
		"all three":      {raw([]byte{0x93}, full(80, 7), full(81, 7), full(82, 0)), true},
		"one missing":    {raw([]byte{0x92}, full(80, 7), full(81, 7)), false},
		"only one":       {raw([]byte{0x91}, full(82, 7)), false},
		"a short one":    {raw([]byte{0x93}, full(80, 7), []byte{0x93, 0xc2, 81, 0xa1, 7}, full(82, 0)), false},
		"zero and parts": {raw([]byte{0x93}, full(80, 0), full(81, 7), full(82, 0)), false},
		"static zeros":   {[]byte{0x93, 80, 81, 82}, false},
	} {
		r := newRig(t, d, session.Worker)
		var got *session.Session
		r.owner.invoke = func(s *session.Session) { got = s; s.SetHandler(&echoLoop{}) }
		r.send(withHeaders(2, c.headers), "chunk 2 a")
		r.want("chunk 2 a", "the request is served")
		if _, ok := codec.TraceOf(got.Headers()); ok != c.trace {
			t.Errorf("%s: TraceOf(%q) = %v, want %v", name, got.Headers(), ok, c.trace)
		}
		r.wantAlive(name)
	}
}

func testB29(t *testing.T, d codec.Dialect) {
	r := newRig(t, d, session.Engine, func(c *session.Config) { c.Channel.HighWaterBytes = 4 << 10 })
	var wg sync.WaitGroup
	const each = 50
	for g := range 20 {
		wg.Go(func() {
			for i := range each {
				s, err := r.OpenOffLoop(t.Context(), "e", nil, nil)
				if err != nil {
					t.Errorf("OpenOffLoop() = %v", err)
					return
				}
				if _, err := s.Write([]byte("x")); err != nil {
					t.Errorf("Write() = %v", err)
				}
				if i%2 == 0 {
					_ = s.Close()
				}
				if g == 0 { // and the loop does the same
					r.loop(func() {
						if s, err := r.Open("l", nil, nil); err == nil {
							_ = s.SendChoke()
						}
					})
				}
			}
		})
	}
	seen, next, opened := map[uint64]int{}, r.first(), 0
	for {
		text := r.next(time.Second)
		if text == "" {
			break
		}
		var n uint64
		var word, rest string
		if _, err := fmt.Sscanf(text+" -", "%s %d %s", &word, &n, &rest); err != nil {
			t.Fatalf("frame %q: %v", text, err)
		}
		switch {
		case word == "invoke" && n != next:
			t.Fatalf("session %d was opened, want %d: numbers grow by one", n, next)
		case word == "invoke":
			next++
			opened++
		case n >= next:
			t.Fatalf("%q before its session was opened", text)
		case seen[n] == 2:
			t.Fatalf("%q behind the end of its session", text)
		case word == "choke":
			seen[n] = 2
		}
	}
	if opened < 20*each {
		t.Errorf("%d sessions were opened, want %d and those of the loop", opened, 20*each)
	}
	if st := r.Stats(); st.Open != opened || int(st.Opened) != opened {
		t.Errorf("Stats() = %+v, want %d open", st, opened)
	}
}

func testB30(t *testing.T, d codec.Dialect) {
	// 93 01 00 90 reads as a heartbeat in both dialects, so the first frame tells nothing.
	r := newRig(t, d, session.Worker)
	r.send("raw 93010090")
	r.told("heartbeat")
	e := newQuietRig(t, channel.Script{}, d, session.Engine)
	e.send("raw 93010090")
	e.wantClosed(channel.CodeBadHandshake)
	if d == codec.V1 {
		// v0's frames are well formed in v1: what they open is unknown, and dropped.
		r.send("raw 930301a165", "raw 930401") // [3, 1, …: no array, so
		r.wantClosed(channel.CodeBadFrame)
		r = newRig(t, d, session.Worker)
		r.send("raw 93030191a165", "raw 93040191a178", "raw 93060190")
		r.told()
		if got := r.Stats().Unknown; got != 3 {
			t.Errorf("Stats().Unknown = %d, want 3", got)
		}
		return
	}
	// v1's frames have one element more than any of v0's.
	for _, frame := range []string{"9402009165a90", "94020091a16590", "9401009090", "940200900"} {
		if len(frame)%2 != 0 {
			continue
		}
		r := newRig(t, d, session.Worker)
		r.send("raw " + frame)
		r.wantClosed(channel.CodeBadFrame)
	}
	// Elements of the future are tolerated: five and more.
	r.send("raw 95010090c0c0")
	r.told("heartbeat")
	r.wantAlive("a longer frame")
}

func testC4(t *testing.T, d codec.Dialect) {
	r := newRigOver(t, "a>b capacity=1024", d, session.Worker, func(c *session.Config) {
		c.Channel.HighWaterBytes, c.Channel.StallTimeout = 8<<10, -1
	})
	var s *session.Session
	r.owner.invoke = func(got *session.Session) { s = got }
	r.send("invoke 2 e")
	ctx, cancel := context.WithCancelCause(t.Context())
	payload := bytes.Repeat([]byte("x"), 1000)
	sent, why := 0, errors.New("enough")
	done := make(chan error)
	go func() {
		for {
			if err := s.Send(ctx, payload); err != nil {
				done <- err
				return
			}
			sent++
		}
	}()
	synctest.Wait()
	start := time.Now()
	cancel(why)
	if err := <-done; err != why || time.Since(start) != 0 {
		t.Errorf("Send() = %v after %v, want the cause at once", err, time.Since(start))
	}
	// A ctx that is done does no harm while there is room.
	got := 0
	for range sent {
		r.want("chunk 2 <1000 bytes>", "whole chunks only")
		got++
	}
	r.wantIdle("nothing of the cancelled chunk is sent")
	if err := s.Send(ctx, payload); err != nil {
		t.Errorf("Send() with room = %v, want nil: what needs no waiting beats a ctx that is done", err)
	}
	r.want("chunk 2 <1000 bytes>", "after the cancel")
}

func testC7(t *testing.T, d codec.Dialect) {
	r := newRig(t, d, session.Worker)
	var s *session.Session
	r.owner.invoke = func(got *session.Session) { s = got }
	r.send("invoke 2 e")
	p := []byte("original")
	if _, err := s.Write(p); err != nil {
		t.Fatal(err)
	}
	copy(p, "changed!")
	r.want("chunk 2 original", "Write copies")
	r.loop(func() {
		copy(p, "original")
		_ = s.SendChunk(p)
		copy(p, "changed!")
	})
	r.want("chunk 2 original", "SendChunk copies")
}

// keeper keeps what it must not.
type keeper struct{ kept [][]byte }

func (h *keeper) OnChunk(_ *session.Session, p []byte)         { h.kept = append(h.kept, p) }
func (h *keeper) OnChoke(*session.Session)                     {}
func (h *keeper) OnError(_ *session.Session, _ *session.Error) {}
func (h *keeper) has(text string) bool {
	return slices.ContainsFunc(h.kept, func(p []byte) bool { return string(p) == text })
}

func testC8(t *testing.T, d codec.Dialect) {
	if !invariants.Enabled {
		t.Skip("borrowed bytes are overwritten under -tags invariants only")
	}
	r := newRig(t, d, session.Worker)
	h := &keeper{}
	r.owner.invoke = func(s *session.Session) { s.SetHandler(h) }
	r.send("invoke 2 e", "chunk 2 borrowed")
	if len(h.kept) != 1 || h.has("borrowed") {
		t.Errorf("the kept chunk reads %q, want it overwritten", h.kept)
	}
	// What Recv lends is dead at the next Recv, and not before.
	var s *session.Session
	r.owner.invoke = func(got *session.Session) { s = got }
	r.send("invoke 3 e", "chunk 3 lent", "chunk 3 more")
	p, err := s.Recv(t.Context())
	r.send("chunk 3 next")
	if string(p) != "lent" || err != nil {
		t.Errorf("Recv() = %q, %v, want it whole until the next Recv", p, err)
	}
	if _, err := s.Recv(t.Context()); err != nil || string(p) == "lent" {
		t.Errorf("the chunk before reads %q at the next Recv, want it overwritten", p)
	}
	if p, err := s.Recv(t.Context()); string(p) != "next" || err != nil {
		t.Errorf("Recv() = %q, %v, want next", p, err)
	}
}

func testC13(t *testing.T, d codec.Dialect) {
	n := scaled(100_000)
	c := newCouple(t, d, channel.Script{}, func(c *session.Config) { c.MaxSessions = -1 })
	c.wo.invoke = func(s *session.Session) { s.SetHandler(&echoLoop{}) }
	var order []uint64
	h := &counter{done: make(chan struct{}), want: n, order: &order}
	opener := &openMany{c: c, left: n, h: h}
	c.eo.room = opener.run
	onLoop(t, c.engine, opener.run)
	<-h.done
	// The answers come in the order of the questions: nobody waits for another's turn.
	if !slices.IsSorted(order) {
		t.Error("answers came out of the order in which the chunks were sent")
	}
	c.wantEmpty()
	takeTurns(t, d)
}

// openMany opens sessions on the loop, a chunk and a choke in each, as there is room.
type openMany struct {
	c    *couple
	left int
	h    session.Handler
}

func (o *openMany) run() {
	for o.left > 0 {
		s, err := o.c.engine.Open("e", nil, o.h)
		if errors.Is(err, channel.ErrFull) {
			return // OnWritable follows
		}
		if err != nil {
			o.c.t.Errorf("Open() = %v", err)
			return
		}
		o.left--
		if err := s.SendChunk([]byte("x")); err != nil && err != channel.ErrFull {
			o.c.t.Errorf("SendChunk() = %v", err)
		}
		_ = s.SendChoke()
	}
}

// counter closes done when so many sessions have ended.
type counter struct {
	done  chan struct{}
	want  int
	order *[]uint64
}

func (h *counter) OnChunk(*session.Session, []byte) {}
func (h *counter) OnChoke(s *session.Session) {
	*h.order = append(*h.order, s.ID())
	if h.want--; h.want == 0 {
		close(h.done)
	}
}
func (h *counter) OnError(*session.Session, *session.Error) { panic("no session fails") }

func testC17(t *testing.T, d codec.Dialect) {
	r := newRig(t, d, session.Worker, func(c *session.Config) { c.Channel.Limits.MaxPayloadBytes = 1 << 20 })
	var s *session.Session
	r.owner.invoke = func(got *session.Session) { s = got }
	r.send("invoke 2 e")
	for _, p := range [][]byte{{}, nil} {
		if n, err := s.Write(p); n != 0 || err != nil {
			t.Errorf("Write(empty) = %d, %v", n, err)
		}
		r.want("chunk 2 ", "an empty chunk, once")
		r.wantIdle("an empty chunk, once")
	}
	if _, err := s.Write(make([]byte, 1<<20)); err != nil {
		t.Errorf("Write(the limit) = %v", err)
	}
	r.want("chunk 2 <1048576 bytes>", "the limit")
	for _, p := range [][]byte{make([]byte, 1<<20+1), huge(t, 2<<30+1)} {
		if _, err := s.Write(p); !errors.Is(err, channel.ErrTooLarge) {
			t.Errorf("Write(%d bytes) = %v, want ErrTooLarge", len(p), err)
		}
		r.loop(func() {
			if err := s.SendChunk(p); !errors.Is(err, channel.ErrTooLarge) {
				t.Errorf("SendChunk(%d bytes) = %v, want ErrTooLarge", len(p), err)
			}
		})
	}
	r.wantIdle("nothing of what is too large is sent")
	// An error goes out whatever it says, or the peer would wait for ever.
	if err := s.Fail(1, 2, string(bytes.Repeat([]byte("é"), 1<<20))); err != nil {
		t.Errorf("Fail(a long message) = %v, want it cut short", err)
	}
	r.wantError(2, 1, 2, "a long message")
}
