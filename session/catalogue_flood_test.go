package session_test

import (
	"context"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

const ms = time.Millisecond

// str is fmt.Sprintf, short: frames are many.
func str(format string, args ...any) string { return fmt.Sprintf(format, args...) }

func pass100AndClose(s *session.Session) {
	pass(100 * ms)
	_ = s.Close()
}

var floodRows = []row{
	{"B14", "the 1 025th session", testB14},
	{"B15", "cancels as fast as possible", testB15},
	{"B16", "frames that make us fail each session", testB16},
	{"B17", "chunks without payload", testB17},
	{"B18", "heartbeats as fast as possible", testB18},
	{"B19", "control messages that nobody asked for", testB19},
	{"B20", "a handler that never reads its chunks", testB20},
	{"B22", "control messages of no protocol, credit for unknown sessions", testB22},
	{"B25", "a million refused sessions", testB25},
}

// flood sends frame(i) until the table closes the channel or n were sent, and returns
// how many went out.
func (r *rig) flood(n int, frame func(i uint64) []byte) int {
	var b []byte
	sent := 0
	for i := range n {
		b = append(b, frame(uint64(i))...)
		if len(b) < 16<<10 && i < n-1 {
			continue
		}
		if _, err := r.conn.Write(b); err != nil {
			break
		}
		sent, b = i+1, b[:0]
	}
	synctest.Wait()
	return sent
}

// dropOutput reads and forgets what the table sends.
func (r *rig) dropOutput() { go func() { _, _ = io.Copy(io.Discard, r.conn) }() }

func testB14(t *testing.T, d codec.Dialect) {
	r := newRig(t, d, session.Worker)
	r.owner.invoke = func(s *session.Session) { s.SetHandler(tracer{&r.owner.trace}) }
	if sent := r.flood(1024, func(i uint64) []byte { return r.frame(str("invoke %d e", 2+i)) }); sent != 1024 {
		t.Fatalf("%d invokes were taken, want 1024", sent)
	}
	r.wantIdle("1024 sessions")
	r.send("invoke 1026 e")
	r.wantError(1026, session.CategoryWorker, session.CodeTooManySessions, "the 1 025th")
	r.send("chunk 1026 late", "choke 1026")
	if st := r.Stats(); st.Open != 1024 || st.Refused != 1 || st.Late != 2 {
		t.Errorf("Stats() = %+v, want 1024 open, 1 refused, 2 late", st)
	}
	r.loop(func() { r.End(1, "enough") })
	if got := len(r.owner.take()); got != 1024 {
		t.Errorf("%d handlers were told of the end, want 1024", got)
	}
	r.send("invoke 1027 e", "chunk 1027 on")
	r.told("1027 chunk on")
	r.wantAlive("after the limit")
}

func testB15(t *testing.T, d codec.Dialect) {
	invoked := 0
	busy := func(r *rig) func(*session.Session) { // each takes its time, whatever the peer wants
		return func(s *session.Session) {
			invoked++
			go func() {
				pass(time.Second)
				_ = s.Close()
			}()
		}
	}
	pair := func(r *rig) func(i uint64) []byte {
		return func(i uint64) []byte {
			return append(r.frame(str("invoke %d e", 2+i)), r.frame(str("error %d 1 1 cancel", 2+i))...)
		}
	}
	r := newRig(t, d, session.Worker, func(c *session.Config) { c.MaxSessions = 10 })
	r.dropOutput()
	r.owner.invoke = busy(r)
	r.flood(1_000_000, pair(r))
	r.wantClosed(channel.CodeFlood)
	if invoked != 10 { // a session counts until it was answered
		t.Errorf("%d handlers ran at once, want 10", invoked)
	}
	if st := r.Stats(); st.Cancelled+st.Refused != 1001 {
		t.Errorf("Stats() = %+v, want 1001 cancelled or refused", st)
	}
	// Cancels that go with completed sessions, or that are rare, are none of an attack.
	r = newRig(t, d, session.Worker)
	r.dropOutput()
	r.owner.invoke = echoes["loop"]
	both := func(i uint64) []byte {
		b := append(r.frame(str("invoke %d e", 2+2*i)), r.frame(str("error %d 1 1 cancel", 2+2*i))...)
		return append(append(b, r.frame(str("invoke %d e", 3+2*i))...), r.frame(str("choke %d", 3+2*i))...)
	}
	r.flood(3000, both)
	for i := range uint64(3000) {
		r.send(str("invoke %d e", 10_000+i), str("error %d 1 1 cancel", 10_000+i))
		pass(11 * ms)
	}
	r.wantAlive("cancels within the budget")
	if st := r.Stats(); st.Cancelled != 6000 || st.Completed != 3000 || st.Open != 0 {
		t.Errorf("Stats() = %+v, want 6000 cancelled, 3000 completed, none open", st)
	}
}

func testB16(t *testing.T, d codec.Dialect) {
	for name, bad := range map[string]func(r *rig, n uint64) []byte{
		"unknown type": func(r *rig, n uint64) []byte { return r.frame(r.typed(n, 9)) },
		"malformed":    func(r *rig, n uint64) []byte { return r.frame(r.typed(n, map[codec.Dialect]uint64{codec.V0: 4}[d], 1)) },
	} {
		r := newRig(t, d, session.Worker)
		r.dropOutput()
		r.flood(1_000_000, func(i uint64) []byte { return append(r.frame(str("invoke %d e", 2+i)), bad(r, 2+i)...) })
		r.wantClosed(channel.CodeFlood)
		if st := r.Stats(); st.Failed != 1001 || st.Completed != 0 {
			t.Errorf("%s: Stats() = %+v, want 1001 failed, none completed", name, st)
		}
	}
}

func testB17(t *testing.T, d codec.Dialect) {
	r := newRig(t, d, session.Worker)
	r.owner.invoke = func(s *session.Session) { s.SetHandler(&echoLoop{}) }
	r.dropOutput()
	r.send("invoke 2 e")
	r.flood(5000, func(i uint64) []byte {
		if i%1001 == 1000 {
			return r.frame("chunk 2 x")
		}
		return r.frame("chunk 2 ")
	})
	r.wantAlive("1000 in a row without payload, and one with it")
	before := r.Channel().Stats().FramesIn
	r.flood(1_000_000, func(uint64) []byte { return r.frame("chunk 2 ") })
	r.wantClosed(channel.CodeFlood)
	// 996 came behind the last one with payload.
	if got := r.Channel().Stats().FramesIn - before; got != 1000-996+1 {
		t.Errorf("%d more were taken, want 4, and one that is too much", got)
	}
}

func testB18(t *testing.T, d codec.Dialect) {
	r := newRigOver(t, "a>b capacity=64", d, session.Worker)
	beats := 0
	r.owner.heartbeat = func() { beats++; _ = r.Channel().SendHeartbeat() }
	for range 100 {
		r.send("heartbeat")
	}
	if got, want := r.Channel().Stats().FramesOut, 64/uint64(len(r.frame("heartbeat")))+1; got != want {
		t.Errorf("%d replies to a peer that reads nothing, want %d: what the path holds and one", got, want)
	}
	pass(time.Second)
	for range 300 { // ten a second are no flood
		r.send("heartbeat")
		pass(100 * ms)
	}
	if s := r.Channel().State(); s != channel.Open || beats != 400 {
		t.Fatalf("the channel is %v after %d heartbeats, want open after 400", s, beats)
	}
	pass(time.Second)
	r.flood(1_000_000, func(uint64) []byte { return r.frame("heartbeat") })
	r.wantClosed(channel.CodeFlood)
	if beats > 400+201 { // the window is that of the first in it
		t.Errorf("the owner heard %d heartbeats of the flood, want at most two windows", beats-400)
	}
}

func testB19(t *testing.T, d codec.Dialect) {
	r := newRig(t, d, session.Worker)
	r.send("heartbeat", "heartbeat")
	r.told("heartbeat", "heartbeat")
	control := r.first() - 1
	r.send(r.typed(control, 1, "odd", 5)) // v0: a heartbeat with arguments; v1: a terminate of odd ones
	if d == codec.V0 {
		r.told("heartbeat")
		r.wantAlive("heartbeats")
		return
	}
	r.told("close bad_frame")
	r.wantClosed(channel.CodeBadFrame)
	r = newRig(t, d, session.Worker)
	r.send(r.typed(control, 0, 1, "odd", 5))
	r.told("heartbeat")
	r.wantIdle("a heartbeat is the owner's to answer")
}

func testB20(t *testing.T, d codec.Dialect) {
	r := newRig(t, d, session.Worker)
	var deaf *session.Session
	r.owner.invoke = func(s *session.Session) {
		if s.Event() == "deaf" {
			deaf = s // never read
			return
		}
		go echoGo(s)
	}
	r.send("invoke 2 deaf", "invoke 3 echo")
	go func() { // 4 MiB: far more than the inbox and the path hold
		for range 64 {
			_, _ = r.conn.Write(r.frame("chunk 2 " + string(pattern(0, 64<<10))))
		}
		_, _ = r.conn.Write(append(r.frame("chunk 3 on"), r.frame("choke 3")...))
	}()
	synctest.Wait()
	r.loop(func() {
		if ch := r.Channel(); !ch.Paused() || ch.Received() > 1<<20 {
			t.Errorf("paused: %v after %d bytes, want a pause before 1 MiB", ch.Paused(), ch.Received())
		}
	})
	start := time.Now()
	r.wantError(2, session.CategoryWorker, session.CodeOverflow, "nobody reads")
	if got := time.Since(start); got != 5*time.Second {
		t.Errorf("the session failed after %v, want 5 s", got)
	}
	r.want("chunk 3 on", "the other session goes on")
	r.want("choke 3", "the other session goes on")
	if e := deaf.Err(); e == nil || e.Remote || e.Code != session.CodeOverflow {
		t.Errorf("Err() = %v, want a local overflow", e)
	}
	read := 0 // what was there is still there, then comes the end
	for {
		p, err := deaf.Recv(context.Background())
		if err != nil {
			if e, ok := err.(*session.Error); !ok || e.Code != session.CodeOverflow {
				t.Errorf("Recv() = %v, want the overflow", err)
			}
			break
		}
		read += len(p)
	}
	if read < 256<<10 || read > 320<<10 {
		t.Errorf("%d bytes were kept, want 256 KiB and at most one chunk", read)
	}
	if _, err := deaf.Write([]byte("x")); err != error(deaf.Err()) {
		t.Errorf("Write() = %v, want the overflow", err)
	}
	r.wantAlive("an overflow")
	if d == codec.V1 {
		creditB20(t)
	}
}

func testB22(t *testing.T, d codec.Dialect) {
	r := newRig(t, d, session.Worker)
	for _, typ := range []uint64{7, 8, 65535, 1<<32 - 1} {
		r.send(r.typed(r.first()-1, typ, 5, "x"))
	}
	r.told()
	if got := r.Stats().Unknown; got != 4 {
		t.Errorf("Stats().Unknown = %d, want 4", got)
	}
	r.wantAlive("unknown control messages")
	notAgreed(t, d, 77, 5)
	if d == codec.V1 {
		creditB22(t)
	}
}

func testB25(t *testing.T, d codec.Dialect) {
	r := newRig(t, d, session.Worker, func(c *session.Config) { c.MaxSessions, c.MaxCancels = 1, -1 })
	r.dropOutput()
	r.send("invoke 2 e")
	before := heapInUse()
	n := scaled(1_000_000)
	frame := codec.Frame{Kind: codec.KindInvoke, Text: "e"}
	var b []byte
	sent := r.flood(n, func(i uint64) []byte {
		frame.Session = 3 + i
		b = codec.AppendFrame(b[:0], d, &frame)
		return b
	})
	st := r.Stats()
	if sent != n || st.Refused != uint64(n) || st.Open != 1 || st.Opened != 1 {
		t.Fatalf("%d sent, Stats() = %+v, want all refused and the first open", sent, st)
	}
	wantHeap(t, before, 8<<20) // ten bytes of each would be more
	r.owner.take()
	r.loop(func() { r.End(1, "enough") })
	if got := r.Stats().Open; got != 0 {
		t.Errorf("Stats().Open = %d, want 0", got)
	}
}
