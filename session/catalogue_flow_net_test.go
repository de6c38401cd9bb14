package session_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// socketKinds are the transports that are not the local pair.
var socketKinds = []socketKind{{"tcp", false}, {"unix", false}, {"tcp", true}, {"unix", true}}

type socketKind struct {
	network string
	conn    bool // without the event loop
}

func (k socketKind) String() string { return fmt.Sprintf("%s-conn=%v", k.network, k.conn) }

func (k socketKind) option(c *session.Config) { c.Channel.NoEventLoop = k.conn }

// TestFlowOverSockets has the rows of the catalogue that are about a slow or lying peer of a
// session over sockets. Over the local pair they are in TestCatalogue, where time is known.
func TestFlowOverSockets(t *testing.T) {
	for _, k := range socketKinds {
		t.Run(k.String(), func(t *testing.T) {
			t.Run("B20", k.testB20)
			t.Run("B21", k.testB21)
			t.Run("B22", k.testB22)
			t.Run("B23", k.testB23)
			t.Run("C13", k.testC13)
			for _, agreed := range []bool{true, false} {
				t.Run(fmt.Sprintf("one slow of 1000, agreed=%v", agreed), func(t *testing.T) { k.oneSlow(t, agreed) })
			}
		})
	}
}

// agreed is a couple over such sockets whose offer was taken.
func (k socketKind) agreed(t *testing.T, serve func(*session.Session), perSession, perChannel int) *couple {
	t.Helper()
	c := netCouple(t, k.network, codec.V1, serve, windows(perSession, perChannel), k.option, quiet)
	c.awaitAgreed()
	return c
}

func (c *couple) awaitAgreed() {
	c.t.Helper()
	eventually(c.t, func() (ok bool) {
		onLoop(c.t, c.engine, func() { ok = session.Confirmed(c.engine) })
		return ok
	})
}

// pourInto sends chunks of so many bytes until one has to wait for d, or the session is cut.
func pourInto(s *session.Session, size int, d time.Duration) (sent int, err error) {
	cut, release := s.Bind(context.Background())
	defer release()
	for ; ; sent++ {
		ctx, cancel := context.WithTimeout(cut, d)
		err = s.Send(ctx, make([]byte, size))
		cancel()
		if err == nil {
			err = context.Cause(cut) // the peer's error leaves our direction open
		}
		if err != nil {
			return sent, err
		}
	}
}

// testB20 has a handler that does not read: a sender of ours stops at its window and loses
// nothing, a plain one is paused, and then loses that session and no other.
func (k socketKind) testB20(t *testing.T) {
	var deaf atomic.Pointer[session.Session]
	serve := func(s *session.Session) {
		if s.Event() == "deaf" {
			deaf.Store(s)
			return
		}
		s.SetHandler(&echoLoop{})
	}
	c := k.agreed(t, serve, 10_000, 1<<20)
	s := c.open("deaf")
	if n, err := pourInto(s, 3000, 200*ms); n != 4 || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%d chunks of 3,000 bytes went into a window of 10,000, then %v, want 4", n, err)
	}
	if err := ask(t.Context(), c, pattern(1, 9000)); err != nil {
		t.Error(err)
	}
	if st := c.worker.Stats(); st.Parked != 0 || st.Failed != 0 {
		t.Errorf("Stats() = %+v, want no pause and no failure", st)
	}
	for range 4 {
		if p, err := deaf.Load().Recv(t.Context()); len(p) != 3000 || err != nil {
			t.Fatalf("Recv() = %d bytes, %v", len(p), err)
		}
	}
	if err := s.Send(t.Context(), make([]byte, 3000)); err != nil {
		t.Errorf("Send() = %v when all was read", err)
	}

	const inbox, size = 64 << 10, 16 << 10
	c = netCouple(t, k.network, codec.V1, serve, k.option, quiet, func(cfg *session.Config) {
		cfg.InboxBytes, cfg.MaxPause = inbox, 300*ms
	})
	s = c.open("deaf")
	var e *session.Error
	if _, err := pourInto(s, size, 20*time.Second); !errors.As(err, &e) || !e.Remote || e.Code != session.CodeOverflow {
		t.Errorf("Send() = %v, want the overflow", err)
	}
	if n := session.Held(deaf.Load()); n > 2*inbox+2*size+1000 {
		t.Errorf("%d bytes were kept for one who does not read, want at most two inboxes", n)
	}
	if err := ask(t.Context(), c, pattern(1, 9000)); err != nil {
		t.Error(err)
	}
}

// rawLink is an engine over such sockets whose raw peer has agreed on windows of 1,000 bytes
// a session and 4,000 a channel, with two sessions, 2 and 3.
type rawLink struct {
	t     *testing.T
	table *session.Table
	owner *owner
	rig   *rig // for its frames
	conn  net.Conn
}

func (k socketKind) raw(t *testing.T) *rawLink {
	t.Helper()
	ours, theirs := sockets(t, k.network)
	l := &rawLink{t: t, conn: theirs, rig: &rig{t: t, d: codec.V1}}
	l.table, l.owner = newTable(t, codec.V1, session.Engine, windows(1000, 4000), k.option, quiet)
	if err := l.table.Channel().Attach(ours); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = theirs.Close()
		closeNow(l.table)
	})
	l.send(offering(codec.Frame{Kind: codec.KindHandshake, Text: "u"}, offerText), l.rig.typed(0, 0, offerText))
	eventually(t, func() (ok bool) {
		onLoop(t, l.table, func() { ok = session.Confirmed(l.table) })
		return ok
	})
	for range 2 {
		if _, err := l.table.OpenOffLoop(t.Context(), "e", nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, func() (ok bool) { // or what is sent for them would be too early
		onLoop(t, l.table, func() { ok = session.SessionOf(l.table, 3) != nil })
		return ok
	})
	return l
}

func (l *rawLink) send(frames ...string) {
	l.t.Helper()
	var b []byte
	for _, text := range frames {
		b = append(b, l.rig.frame(text)...)
	}
	if _, err := l.conn.Write(b); err != nil {
		l.t.Fatal(err)
	}
}

// wantClosed waits for the end of the channel.
func (l *rawLink) wantClosed(why string, code channel.Code) {
	l.t.Helper()
	select {
	case err := <-l.owner.closed:
		if err.Code != code || !err.Remote {
			l.t.Errorf("%s: the channel ended with %v, want %v of the peer", why, err, code)
		}
	case <-time.After(patience):
		l.t.Errorf("%s: the channel lives, want %v", why, code)
	}
}

// wantAlive checks that what was sent has been taken in, and has not cost the channel.
func (l *rawLink) wantAlive(why string) {
	l.t.Helper()
	before := l.table.Stats().Heartbeats
	l.send("heartbeat")
	eventually(l.t, func() bool { return l.table.Stats().Heartbeats > before || l.table.Channel().Err() != nil })
	if err := l.table.Channel().Err(); err != nil {
		l.t.Errorf("%s: the channel ended with %v", why, err)
	}
}

func (k socketKind) testB21(t *testing.T) {
	for _, pairs := range [][]any{{2, 0}, {2, -1}, {2, uint64(1) << 63}, {0, int64(1)<<40 + 1}, {2, "x"}, {3, 5, 2, 0}} {
		l := k.raw(t)
		l.send(grantOf(pairs...))
		l.wantClosed(fmt.Sprint("credit ", pairs), channel.CodeBadCredit)
	}
	l := k.raw(t)
	l.send(grantOf(2, int64(1)<<39), grantOf(2, int64(1)<<39))
	l.wantClosed("a sum of 2^40 and a window", channel.CodeBadCredit)
}

func (k socketKind) testB22(t *testing.T) {
	l := k.raw(t)
	l.send(grantOf(77, 5), grantOf(uint64(1)<<63, 5), grantOf(77, 5, 3, 7))
	l.wantAlive("credit for unknown sessions")
	onLoop(t, l.table, func() {
		if left, _, _ := session.AccountOf(session.SessionOf(l.table, 3)); left != 1007 {
			t.Errorf("%d bytes are left to the session, want 1007: the pair behind the unknown one counts", left)
		}
	})
}

func (k socketKind) testB23(t *testing.T) {
	l := k.raw(t)
	big := strings.Repeat("x", 999)
	l.send("chunk 2 "+big, "chunk 2 "+big)
	l.wantAlive("a window is passed by one chunk")
	l.send("chunk 2 " + big)
	l.wantAlive("one session that was overdrawn")
	want := hex.EncodeToString(codec.AppendFrame(nil, codec.V1, &codec.Frame{Kind: codec.KindError, Session: 2,
		Category: session.CategoryWorker, Code: session.CodeOverflow, Text: "more was sent than there was credit for"}))
	got := ""
	_ = l.conn.SetReadDeadline(time.Now().Add(patience))
	for p := make([]byte, 4096); !strings.Contains(got, want); {
		n, err := l.conn.Read(p)
		if got += hex.EncodeToString(p[:n]); err != nil {
			t.Fatalf("the peer got %s, then %v, want %s in it", got, err, want)
		}
	}
	l.send("chunk 3 "+big, "chunk 3 "+big, "chunk 3 "+big)
	l.wantClosed("another one", channel.CodeBadCredit)
}

// testC13 has many sessions send one small chunk each, at once: the answers come in the
// order of the questions, so that nobody waits for another's turn.
func (k socketKind) testC13(t *testing.T) {
	n := scaled(20_000)
	c := netCouple(t, k.network, codec.V1, func(s *session.Session) { s.SetHandler(&echoLoop{}) }, k.option)
	var order []uint64
	h := &counter{done: make(chan struct{}), want: n, order: &order}
	opener := &openMany{c: c, left: n, h: h}
	onLoop(t, c.engine, func() {
		c.eo.room = opener.run
		opener.run()
	})
	select {
	case <-h.done:
	case <-time.After(patience):
		t.Fatal("not all sessions were answered in a minute")
	}
	if !slices.IsSorted(order) {
		t.Error("answers came out of the order in which the chunks were sent")
	}
	c.awaitEmpty()
}

// oneSlow has a thousand sessions exchange chunks beside one that is not read. Reading is
// never paused for that with credit, and once without, which is when the others wait; and no
// side keeps more than a window, or an inbox, and the water mark. How long the others take is
// up to the machine: TestSlowReaderCredit and TestSlowReaderPlain have the figures.
func (k socketKind) oneSlow(t *testing.T, agreed bool) {
	const window, inbox, mark, size = 256 << 10, 64 << 10, 256 << 10, 16 << 10
	var slow atomic.Pointer[session.Session]
	c := netCouple(t, k.network, codec.V1, func(s *session.Session) {
		if s.Event() == "slow" {
			slow.Store(s)
			return
		}
		s.SetHandler(&echoLoop{})
	}, k.option, quiet, func(cfg *session.Config) {
		cfg.Extensions = session.Extensions{Offer: agreed, SessionWindow: window, ChannelWindow: 4 * window}
		cfg.Channel.HighWaterBytes, cfg.InboxBytes, cfg.MaxPause = mark, inbox, 500*ms
	})
	if agreed {
		c.awaitAgreed()
	}
	crowd := &crowd{couple: c}
	for range 1000 {
		crowd.all = append(crowd.all, c.open("echo"))
	}
	crowd.round(func() {})
	s := c.open("slow")
	go func() { _, _ = pourInto(s, size, time.Hour) }()
	eventually(t, func() bool { return slow.Load() != nil && session.Held(slow.Load()) >= inbox })
	most := window + size + 16*(window/size+2)
	if !agreed {
		most = 2*inbox + 2*size + 16*(2*inbox/size+2)
	}
	check := func() {
		for _, table := range []*session.Table{c.engine, c.worker} {
			if q := table.Channel().Stats().QueuedBytes; q > mark+size+100 {
				t.Errorf("%d bytes are queued, want at most the water mark and a chunk", q)
			}
		}
	}
	for range 2 {
		crowd.round(check)
	}
	pauses := c.engine.Channel().Stats().Pauses + c.worker.Channel().Stats().Pauses
	if want := map[bool]uint64{false: 1}[agreed]; pauses != want {
		t.Errorf("reading was paused %d times for one that is not read, want %d", pauses, want)
	}
	if n := session.Held(slow.Load()); n > most || n < inbox {
		t.Errorf("%d bytes are kept for one that is not read, want %d to %d", n, inbox, most)
	}
	if st := c.worker.Stats(); agreed && st.Parked+st.Failed != 0 || !agreed && st.Parked == 0 {
		t.Errorf("Stats() = %+v, want a pause for a plain peer and none for one of ours", st)
	}
	closeNow(c.engine)
	closeNow(c.worker)
}
