package session_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
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

// trace is what a table's owner and handlers were told, in order.
type trace struct {
	mu    sync.Mutex
	lines []string
}

func (t *trace) add(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = append(t.lines, fmt.Sprintf(format, args...))
}

// take returns what was told since the last take.
func (t *trace) take() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := t.lines
	t.lines = nil
	return lines
}

// owner is the Owner of a table. What it is told goes into the trace; invoke says what
// becomes of a session, the default is a tracer.
type owner struct {
	trace
	invoke    func(s *session.Session)
	heartbeat func()
	terminate func()
	room      func() // OnWritable
	closed    chan *channel.CloseError
}

func (o *owner) OnOpen() {}

func (o *owner) OnInvoke(s *session.Session) {
	if o.invoke != nil {
		o.invoke(s)
		return
	}
	o.add("invoke %d %s", s.ID(), s.Event())
	s.SetHandler(tracer{&o.trace})
}

func (o *owner) OnHandshake(uuid []byte) { o.add("handshake %s", short(uuid)) }

func (o *owner) OnHeartbeat() {
	if o.heartbeat != nil {
		o.heartbeat()
		return
	}
	o.add("heartbeat")
}

func (o *owner) OnTerminate(code int64, reason []byte) {
	o.add("terminate %d %s", code, reason)
	if o.terminate != nil {
		o.terminate()
	}
}

func (o *owner) OnWritable(s *session.Session) {
	if s == nil && o.room != nil {
		o.room()
	}
}

func (o *owner) OnClose(err *channel.CloseError) {
	o.add("close %v", err.Code)
	o.closed <- err
}

// tracer is a Handler that writes down what it is told.
type tracer struct{ t *trace }

func (h tracer) OnChunk(s *session.Session, p []byte) { h.t.add("%d chunk %s", s.ID(), short(p)) }
func (h tracer) OnChoke(s *session.Session)           { h.t.add("%d choke", s.ID()) }
func (h tracer) OnError(s *session.Session, e *session.Error) {
	h.t.add("%d error %s", s.ID(), errText(e))
}

// errText is an *Error in a form that both dialects share.
func errText(e *session.Error) string {
	who := "local"
	if e.Remote {
		who = "remote"
	}
	return fmt.Sprintf("%s %d", who, e.Code)
}

// short is a payload as it is compared and printed.
func short(p []byte) string {
	if len(p) > 40 {
		return fmt.Sprintf("<%d bytes>", len(p))
	}
	return string(p)
}

// rig is a table on one end of a local pair and raw frames on the other.
type rig struct {
	t *testing.T
	*session.Table
	owner *owner
	d     codec.Dialect
	role  session.Role
	conn  *channel.End // the peer's end

	scan    codec.Scanner
	buf     []byte
	highest uint64 // number that the peer has seen
	got     map[uint64]int
	ended   map[uint64]bool
	eof     error
}

type option func(*session.Config)

// newRig must run in a bubble. The peer of an Engine has shaken hands.
func newRig(t *testing.T, d codec.Dialect, role session.Role, opts ...option) *rig {
	t.Helper()
	return newRigOver(t, "", d, role, opts...)
}

func newRigOver(t *testing.T, script string, d codec.Dialect, role session.Role, opts ...option) *rig {
	t.Helper()
	s, err := channel.ParseScript(script)
	if err != nil {
		t.Fatal(err)
	}
	r := newQuietRig(t, s, d, role, opts...)
	if role == session.Engine {
		r.send("handshake u")
		r.told("handshake u")
	}
	return r
}

// newQuietRig is newRig without a handshake.
func newQuietRig(t *testing.T, s channel.Script, d codec.Dialect, role session.Role, opts ...option) *rig {
	t.Helper()
	a, b := channel.Pair(s)
	r := &rig{t: t, d: d, role: role, conn: b}
	r.Table, r.owner = newTable(t, d, role, opts...)
	r.scan.Init(d, codec.Limits{})
	if err := r.Channel().Attach(a); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = b.Close()
		closeNow(r.Table)
	})
	return r
}

func newTable(t testing.TB, d codec.Dialect, role session.Role, opts ...option) (*session.Table, *owner) {
	t.Helper()
	o := &owner{closed: make(chan *channel.CloseError, 1)}
	cfg := session.Config{Role: role, Owner: o, Channel: channel.Config{Dialect: d}}
	for _, f := range opts {
		f(&cfg)
	}
	table, err := session.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return table, o
}

// closeNow ends a table's channel without waiting for its output.
func closeNow(table *session.Table) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = table.Channel().Close(ctx)
}

// loop runs f on the table's loop and waits for it.
func (r *rig) loop(f func()) { onLoop(r.t, r.Table, f) }

func onLoop(t testing.TB, table *session.Table, f func()) {
	t.Helper()
	done := make(chan struct{})
	if !table.Channel().Post(func() { defer close(done); f() }) {
		t.Fatal("Post() = false, want the loop")
	}
	<-done
}

// first is the number of the first session that an Engine opens.
func (r *rig) first() uint64 {
	if r.d == codec.V0 {
		return 1
	}
	return 2
}

// frame encodes one frame from its text:
//
//	handshake UUID · heartbeat · terminate CODE REASON · invoke N EVENT
//	chunk N DATA · error N CATEGORY CODE TEXT · choke N · raw HEX
func (r *rig) frame(text string) []byte {
	word, rest, _ := strings.Cut(text, " ")
	number := func() uint64 {
		var s string
		s, rest, _ = strings.Cut(rest, " ")
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			r.t.Fatalf("frame %q: %v", text, err)
		}
		return n
	}
	var f codec.Frame
	switch word {
	case "handshake":
		f = codec.Frame{Kind: codec.KindHandshake, Text: rest}
	case "heartbeat":
		f = codec.Frame{Kind: codec.KindHeartbeat}
	case "terminate":
		f = codec.Frame{Kind: codec.KindTerminate, Code: int64(number()), Text: rest}
	case "invoke":
		f = codec.Frame{Kind: codec.KindInvoke, Session: number(), Text: rest}
	case "chunk":
		f = codec.Frame{Kind: codec.KindChunk, Session: number(), Payload: []byte(rest)}
	case "error":
		f = codec.Frame{Kind: codec.KindError, Session: number(), Category: int64(number()), Code: int64(number()), Text: rest}
	case "choke":
		f = codec.Frame{Kind: codec.KindChoke, Session: number()}
	case "raw":
		b, err := hex.DecodeString(strings.ReplaceAll(rest, " ", ""))
		if err != nil {
			r.t.Fatalf("frame %q: %v", text, err)
		}
		return b
	default:
		r.t.Fatalf("frame %q: unknown kind", text)
	}
	return codec.AppendFrame(nil, r.d, &f)
}

// typed is a frame of any type with the given encoded arguments.
func (r *rig) typed(session, typ uint64, args ...any) string {
	f := codec.Frame{Kind: codec.KindCall, Session: session, Type: typ, Args: codec.Args(args...).Bytes()}
	return "raw " + hex.EncodeToString(codec.AppendFrame(nil, r.d, &f))
}

// send writes frames at once, and waits until the table has done what it does.
func (r *rig) send(frames ...string) {
	r.t.Helper()
	var b []byte
	for _, text := range frames {
		b = append(b, r.frame(text)...)
	}
	if _, err := r.conn.Write(b); err != nil {
		r.t.Fatalf("send(%q): %v", frames, err)
	}
	synctest.Wait()
}

// next reads one frame of the table; "" after wait without one, and the error's text at
// the end of the stream.
func (r *rig) next(wait time.Duration) string {
	r.t.Helper()
	m := r.nextMessage(wait)
	switch {
	case m != nil:
		return r.text(m)
	case r.eof != nil:
		return r.eof.Error()
	}
	return ""
}

// nextMessage is next, undecoded; nil if there is none.
func (r *rig) nextMessage(wait time.Duration) *codec.Message {
	r.t.Helper()
	for {
		m := new(codec.Message)
		n, err := r.scan.Next(r.buf, m)
		if err != nil {
			r.t.Fatalf("the table sent no frame: %v", err)
		}
		if n > 0 {
			r.buf = r.buf[n:]
			return m
		}
		_ = r.conn.SetReadDeadline(time.Now().Add(wait))
		chunk := make([]byte, 64<<10)
		n, err = r.conn.Read(chunk)
		r.buf = append(r.buf, chunk[:n]...)
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			r.eof = err
		}
		if err != nil {
			return nil
		}
	}
}

// text is the inverse of frame.
func (r *rig) text(m *codec.Message) string {
	control := uint64(0)
	if r.d == codec.V1 {
		control = codec.V1ControlSession
	}
	if m.Session == control {
		switch {
		case m.Type == codec.V0Terminate && r.d == codec.V0, m.Type == codec.V1Terminate && r.d == codec.V1:
			args := m.Reader()
			return fmt.Sprintf("terminate %d %s", args.Int64(), args.String())
		case m.NumArgs == 0:
			return "heartbeat"
		}
		return "handshake " + string(m.Payload)
	}
	typ := m.Type
	if r.d == codec.V1 {
		if typ += codec.V0Chunk; r.role == session.Engine && m.Session > r.highest {
			r.highest, typ = m.Session, codec.V0Invoke
		}
	}
	switch typ {
	case codec.V0Invoke:
		return fmt.Sprintf("invoke %d %s", m.Session, m.Payload)
	case codec.V0Chunk:
		return fmt.Sprintf("chunk %d %s", m.Session, short(m.Payload))
	case codec.V0Error:
		category, code, message, _ := codec.DecodeError(m)
		return fmt.Sprintf("error %d %d %d %s", m.Session, category, code, message)
	case codec.V0Choke:
		return fmt.Sprintf("choke %d", m.Session)
	}
	return fmt.Sprintf("type %d on %d", m.Type, m.Session)
}

// want reads one frame, which must be the given one.
func (r *rig) want(frame, why string) {
	r.t.Helper()
	if got := r.next(time.Minute); got != frame {
		r.t.Fatalf("%s: got frame %q, want %q", why, got, frame)
	}
}

// wantError reads an error frame; in v0 it has no category, and a choke behind it.
func (r *rig) wantError(n uint64, category, code int64, why string) {
	r.t.Helper()
	if r.d == codec.V0 {
		category = 0
	}
	want := fmt.Sprintf("error %d %d %d ", n, category, code)
	if got := r.next(time.Minute); !strings.HasPrefix(got, want) {
		r.t.Fatalf("%s: got frame %q, want %q", why, got, want+"…")
	}
	if r.d == codec.V0 {
		r.want(fmt.Sprintf("choke %d", n), why)
	}
}

// wantIdle checks that the table has sent nothing more.
func (r *rig) wantIdle(why string) {
	r.t.Helper()
	synctest.Wait()
	if got := r.next(time.Nanosecond); got != "" {
		r.t.Fatalf("%s: got frame %q, want none", why, got)
	}
}

// told checks what the owner and the handlers were told since the last time.
func (r *rig) told(want ...string) {
	r.t.Helper()
	synctest.Wait()
	if got := r.owner.take(); !slices.Equal(got, want) {
		r.t.Fatalf("told\n\t%q, want\n\t%q", got, want)
	}
}

// wantClosed checks that the channel ended for this reason.
func (r *rig) wantClosed(code channel.Code) *channel.CloseError {
	r.t.Helper()
	synctest.Wait()
	select {
	case err := <-r.owner.closed:
		if err.Code != code {
			r.t.Fatalf("the channel closed with %v, want %v", err, code)
		}
		if n := r.Stats().Open; n != 0 {
			r.t.Fatalf("Stats().Open = %d after the channel closed, want 0", n)
		}
		return err
	default:
		r.t.Fatalf("the channel is %v, want it closed with %v", r.Channel().State(), code)
	}
	return nil
}

// wantAlive checks that the channel still works.
func (r *rig) wantAlive(why string) {
	r.t.Helper()
	if s := r.Channel().State(); s != channel.Open {
		r.t.Fatalf("%s: the channel is %v, want it open", why, s)
	}
	r.owner.take()
	r.send("heartbeat")
	r.told("heartbeat")
}

// sub runs f for each dialect, in a bubble of its own.
func sub(t *testing.T, f func(t *testing.T, d codec.Dialect)) {
	t.Helper()
	for _, d := range []codec.Dialect{codec.V0, codec.V1} {
		t.Run(d.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { f(t, d) })
		})
	}
}

// quiet has a table log nothing.
func quiet(c *session.Config) { c.Logger = slog.New(slog.DiscardHandler) }

// scaled is n, or a tenth of it under the race detector.
func scaled(n int) int {
	if invariants.Race {
		return n / 10
	}
	return n
}
