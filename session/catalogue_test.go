package session_test

import (
	"testing"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// row is one row of the catalogue of bad inputs and faults; its test runs in a bubble,
// once for each dialect.
type row struct {
	id   string
	what string
	test func(t *testing.T, d codec.Dialect)
}

// TestCatalogue has one subtest for each row that concerns sessions.
func TestCatalogue(t *testing.T) {
	for _, rows := range [][]row{protocolRows, floodRows, creditRows, openingRows, writingRows} {
		for _, r := range rows {
			t.Run(r.id, func(t *testing.T) {
				t.Log(r.what)
				sub(t, r.test)
			})
		}
	}
}

var protocolRows = []row{
	{"B1", "frames for a session that never was", testB1},
	{"B2", "frames behind the end of a direction", testB2},
	{"B3", "late frames for a session that we failed", testB3},
	{"B4", "an invoke with a number that was used", testB4},
	{"B5", "the last session number", testB5},
	{"B6", "an invoke on the control session", testB6},
	{"B7", "control messages on a data session", testB7},
	{"B8", "an unknown message type on a live session", testB8},
	{"B9", "handshakes where none belongs, none where one does", testB9},
	{"B10", "a handshake without a proper uuid", testB10},
	{"B11", "error frames of odd shapes", testB11},
	{"B12", "terminate with sessions in flight", testB12},
	{"B13", "both sides end at the same time", testB13},
}

func testB1(t *testing.T, d codec.Dialect) {
	for _, role := range []session.Role{session.Worker, session.Engine} {
		r := newRig(t, d, role, func(c *session.Config) { c.MaxStrays = 5 })
		r.send(r.typed(7, 6), "choke 8", "error 9 1 2 no")
		r.told()
		r.wantIdle("a stray frame is not answered")
		if got := r.Stats().Unknown; got != 3 {
			t.Errorf("%v: Stats().Unknown = %d, want 3", role, got)
		}
		r.wantAlive("three strays")
		r.send("choke 10", "choke 11")
		r.wantAlive("the budget of strays is spent, not passed")
		r.send("choke 12")
		r.wantClosed(channel.CodeFlood)
	}
	// Ten seconds later the budget is new.
	r := newRig(t, d, session.Worker, func(c *session.Config) { c.MaxStrays = 5 })
	for n := range uint64(50) {
		r.send(r.typed(100+n, 6))
		pass(2100 * ms)
	}
	r.wantAlive("fewer strays than the budget in any ten seconds")
	// The control session never was a session either.
	r.send(r.typed(0, 5, "x"))
	if got := r.Stats().Unknown; got != 51 {
		t.Errorf("Stats().Unknown = %d after a frame on session 0, want 51", got)
	}
}

func testB2(t *testing.T, d codec.Dialect) {
	r := newRig(t, d, session.Worker)
	r.send("invoke 2 e", "chunk 2 a", "choke 2", "chunk 2 b", "choke 2", "error 2 1 2 no")
	r.told("invoke 2 e", "2 chunk a", "2 choke")
	if got := r.Stats().Repeated; got != 3 {
		t.Errorf("Stats().Repeated = %d, want 3", got)
	}
	// A type that does not exist is no worse behind the end than any other.
	r.send(r.typed(2, 99))
	if got := r.Stats(); got.Repeated != 4 || got.Failed != 0 {
		t.Errorf("Stats() = %+v, want 4 repeated and none failed", got)
	}
	r.wantIdle("what comes behind the end is not answered")
	r.wantAlive("behind the end")

	// The same for an answer, behind an error.
	e := newRig(t, d, session.Engine)
	n := e.first()
	e.loop(func() { _, _ = e.Open("e", nil, tracer{&e.owner.trace}) })
	e.send(str("error %d 1 7 no", n), str("chunk %d b", n), str("error %d 1 2 no", n), str("choke %d", n))
	e.told(str("%d error remote 7", n))
	if got := e.Stats().Repeated; got != 3 {
		t.Errorf("engine: Stats().Repeated = %d, want 3", got)
	}
	e.wantAlive("behind the error")
}

func testB3(t *testing.T, d codec.Dialect) {
	r := newRig(t, d, session.Worker)
	r.send("invoke 2 e", r.typed(2, 50))
	r.told("invoke 2 e", "2 error local 204")
	r.wantError(2, session.CategoryWorker, session.CodeUnknownType, "an unknown type")
	r.send("chunk 2 late", "choke 2", "error 2 1 1 no")
	r.told()
	r.wantIdle("late frames are not answered")
	if got := r.Stats(); got.Late != 3 || got.Failed != 1 || got.Completed != 0 || got.Open != 0 {
		t.Errorf("Stats() = %+v, want 3 late, 1 failed, none completed, none open", got)
	}
	r.wantAlive("late frames")
}

func testB4(t *testing.T, d codec.Dialect) {
	r := newRig(t, d, session.Worker)
	r.send("invoke 5 e")
	r.told("invoke 5 e")
	r.send("invoke 4 e")
	if d == codec.V0 {
		r.told("5 error local 0", "close bad_session")
		r.wantClosed(channel.CodeBadSession)
		return
	}
	r.send("invoke 5 f") // reads as a write
	r.told("5 chunk f")
	if got := r.Stats().Late; got != 1 {
		t.Errorf("Stats().Late = %d, want 1", got)
	}
	r.wantAlive("an invoke that reads as a late write")
}

func testB5(t *testing.T, d codec.Dialect) {
	const last = "18446744073709551615"
	r := newRig(t, d, session.Worker)
	r.send("invoke " + last + " e")
	r.told("invoke " + last + " e")
	r.send("chunk "+last+" a", "choke "+last)
	r.told(last+" chunk a", last+" choke")
	r.wantAlive("the last number")
	r.send("invoke 6 e")
	r.wantClosed(channel.CodeExhausted)

	// A number is also used up by a frame that opens nothing; then nobody is left in
	// the dark about the invokes that follow.
	if d == codec.V1 {
		r := newRig(t, d, session.Worker)
		r.send("choke " + last)
		r.wantAlive("a stray on the last number")
		r.send("choke 6", "error 7 1 1 no")
		r.wantAlive("late frames")
		r.send("invoke 8 e")
		r.wantClosed(channel.CodeExhausted)
	}
}

func testB6(t *testing.T, d codec.Dialect) {
	r := newRig(t, d, session.Worker)
	if d == codec.V0 {
		r.send("invoke 0 e")
		r.wantClosed(channel.CodeBadSession)
		return
	}
	r.send("invoke 1 e")
	r.told("heartbeat")
	r.send("invoke 0 e")
	r.told()
	if got := r.Stats(); got.Unknown != 1 || got.Opened != 0 {
		t.Errorf("Stats() = %+v, want 1 unknown, none opened", got)
	}
	r.wantAlive("an invoke on 0 and 1")
}

func testB7(t *testing.T, d codec.Dialect) {
	for typ, args := range [][]any{codec.V0Handshake: {"u"}, codec.V0Heartbeat: nil, codec.V0Terminate: {1, "why"}} {
		for _, role := range []session.Role{session.Worker, session.Engine} {
			if d == codec.V1 {
				continue
			}
			r := newRig(t, d, role)
			r.send(r.typed(3, uint64(typ), args...))
			r.wantClosed(channel.CodeBadSession)
		}
	}
	if d == codec.V1 { // a heartbeat has the bytes of a write, a terminate those of an error
		r := newRig(t, d, session.Worker)
		r.send("invoke 2 e", "invoke 3 e", r.typed(2, codec.V1Terminate, 1, "why"), r.typed(3, codec.V1Heartbeat))
		r.told("invoke 2 e", "invoke 3 e", "2 error remote 1", "3 error local 207")
		r.wantError(3, session.CategoryWorker, session.CodeMalformed, "a write without data")
		r.wantAlive("control messages on data sessions")
	}
}

func testB8(t *testing.T, d codec.Dialect) {
	for _, typ := range []uint64{7, 15, 255, 65535, 1<<32 - 1} {
		r := newRig(t, d, session.Worker)
		r.send("invoke 2 e", "invoke 3 e", r.typed(2, typ, "x"))
		r.told("invoke 2 e", "invoke 3 e", "2 error local 204")
		r.wantError(2, session.CategoryWorker, session.CodeUnknownType, "an unknown type")
		r.send("chunk 3 on")
		r.told("3 chunk on")
		r.wantAlive("an unknown type on another session")

		e := newRig(t, d, session.Engine)
		e.loop(func() { _, _ = e.Open("e", nil, tracer{&e.owner.trace}) })
		e.want(str("invoke %d e", e.first()), "open")
		e.send(e.typed(e.first(), typ, "x"))
		e.told(str("%d error local 204", e.first()))
		e.wantError(e.first(), session.CategoryWorker, session.CodeUnknownType, "an unknown type in an answer")
		e.wantAlive("an unknown type in an answer")
	}
}

func testB9(t *testing.T, d codec.Dialect) {
	firsts := []string{"heartbeat", "terminate 1 why", "chunk 2 x", "choke 3", "error 4 1 1 no", "invoke 2 e"}
	for _, first := range firsts {
		r := newQuietRig(t, channel.Script{}, d, session.Engine)
		r.send(first)
		r.told("close bad_handshake")
		r.wantClosed(channel.CodeBadHandshake)
	}
	for _, session0 := range []uint64{0, 1, 2} { // types of no protocol
		r := newQuietRig(t, channel.Script{}, d, session.Engine)
		r.send(r.typed(session0, 77, "u"))
		r.wantClosed(channel.CodeBadHandshake)
	}
	twice := newRig(t, d, session.Engine)
	twice.send("heartbeat", "handshake u")
	twice.told("heartbeat", "close bad_handshake")
	twice.wantClosed(channel.CodeBadHandshake)

	w := newRig(t, d, session.Worker)
	w.send("handshake u")
	if d == codec.V0 {
		w.wantClosed(channel.CodeBadHandshake)
		return
	}
	w.told("heartbeat")
	w.wantAlive("a handshake that reads as a heartbeat")
}

func testB10(t *testing.T, d codec.Dialect) {
	control := uint64(0)
	if d == codec.V1 {
		control = codec.V1ControlSession
	}
	for name, args := range map[string][]any{
		"none": nil, "empty": {""}, "number": {7}, "nil": {nil}, "array": {[]string{"u"}},
		"oversized": {string(make([]byte, 1025))},
	} {
		r := newQuietRig(t, channel.Script{}, d, session.Engine)
		r.send(r.typed(control, 0, args...))
		if got := r.owner.take(); len(got) != 1 || got[0] != "close bad_handshake" {
			t.Errorf("uuid %s: told %q, want the close alone", name, got)
		}
		r.wantClosed(channel.CodeBadHandshake)
	}
	// The right one is the owner's business; surplus arguments are nobody's.
	r := newQuietRig(t, channel.Script{}, d, session.Engine)
	r.send(r.typed(control, 0, "u", 5, "x"))
	r.told("handshake u")
	r.wantAlive("surplus arguments")
}

func testB11(t *testing.T, d codec.Dialect) {
	typ := uint64(codec.V0Error)
	if d == codec.V1 {
		typ = codec.V1Error
	}
	for _, c := range []struct {
		args    []any
		cat     int64
		code    int64
		message string
	}{
		{nil, 0, 0, "malformed"},
		{[]any{"x"}, 0, 0, "malformed"},
		{[]any{nil, nil}, 0, 0, "malformed"},
		{[]any{[]any{1}, "m"}, 0, 0, "malformed"},
		{[]any{[]any{1, 2, 3}, "m"}, 0, 0, "malformed"},
		{[]any{[]any{"1", 2}, "m"}, 0, 0, "malformed"},
		{[]any{1, 2}, 0, 0, "malformed"},
		{[]any{1.5, "m"}, 0, 0, "malformed"},
		{[]any{[]any{1, 2}, "m"}, 1, 2, "m"},
		{[]any{[]any{-1, -2}, "m"}, -1, -2, "m"},
		{[]any{[]any{1, 2}}, 1, 2, ""},
		{[]any{7, "m"}, 0, 7, "m"},
		{[]any{7}, 0, 7, ""},
	} {
		r := newRig(t, d, session.Worker)
		var s *session.Session
		r.owner.invoke = func(got *session.Session) { s = got }
		r.send("invoke 2 e", r.typed(2, typ, c.args...))
		got := s.Err()
		if got == nil || !got.Remote || got.Category != c.cat || got.Code != c.code || got.Message != c.message {
			t.Errorf("error%v: Err() = %v, want remote [%d, %d] %s", c.args, got, c.cat, c.code, c.message)
		}
		r.wantAlive("an odd error")
	}
}

func testB12(t *testing.T, d codec.Dialect) {
	r := newRig(t, d, session.Worker)
	r.owner.terminate = func() {
		r.End(session.CodeTerminating, "terminated")
		r.Channel().Drain(&channel.CloseError{Code: channel.CodeTerminated}, false, 0)
	}
	r.send("invoke 2 e", "invoke 3 e", "invoke 4 e", "choke 4", "terminate 1 enough")
	got := r.owner.take()
	want := map[string]int{"terminate 1 enough": 1, "2 error local 205": 1, "3 error local 205": 1, "4 error local 205": 1,
		"invoke 2 e": 1, "invoke 3 e": 1, "invoke 4 e": 1, "4 choke": 1, "close terminated": 1}
	for _, line := range got {
		want[line]--
	}
	for line, n := range want {
		if n != 0 {
			t.Errorf("%q was told %d times too few, of %q", line, n, got)
		}
	}
	for range 3 {
		if frame := r.next(time.Second); frame == "" {
			t.Fatal("fewer than three sessions were answered")
		}
		if d == codec.V0 {
			r.next(time.Second) // the choke
		}
	}
	if err := r.wantClosed(channel.CodeTerminated); err.Undelivered != 0 {
		t.Errorf("%d bytes undelivered, want none", err.Undelivered)
	}
	if st := r.Stats(); st.Completed != 0 {
		t.Errorf("Stats().Completed = %d, want 0: every session was cut", st.Completed)
	}
}

func testB13(t *testing.T, d codec.Dialect) {
	c := newCouple(t, d, channel.Script{AtoB: channel.Path{Latency: 10 * ms}, BtoA: channel.Path{Latency: 10 * ms}})
	c.wo.invoke = func(s *session.Session) { s.SetHandler(tracer{&c.wo.trace}); go pass100AndClose(s) }
	h := newReceiver()
	s, err := c.engine.OpenOffLoop(t.Context(), "e", nil, h)
	if err != nil {
		t.Fatal(err)
	}
	pass100AndClose(s)
	pass(100 * ms)
	if _, ends := h.snapshot(); len(ends) != 1 || ends[0] != "choke" {
		t.Errorf("the engine's handler was told %q, want one choke", ends)
	}
	c.wantEmpty()
	if e, w := c.engine.Stats(), c.worker.Stats(); e.Completed != 1 || w.Completed != 1 || e.Late+w.Late+e.Repeated+w.Repeated != 0 {
		t.Errorf("engine %+v, worker %+v, want one completed each and nothing dropped", e, w)
	}
}
