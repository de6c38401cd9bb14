package worker_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
	"github.com/sluice-rpc/sluice/worker"
)

const uuid = "0d9d1ae1-6b44-4d61-9a3e-8d7a0e9a0001"

// both runs f in a bubble for each dialect.
func both(t *testing.T, f func(t *testing.T, d codec.Dialect)) {
	t.Helper()
	for _, d := range []codec.Dialect{codec.V0, codec.V1} {
		t.Run(d.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { f(t, d) })
		})
	}
}

// engine is the other end of a worker's link, by hand: what it sends and wants is
// compared byte for byte. A goroutine reads all the time, unless it is on hold.
type engine struct {
	t    testing.TB
	d    codec.Dialect
	conn net.Conn

	mu     sync.Mutex
	echo   bool     // answers heartbeats, and hides them
	beats  int      // heartbeats that were answered
	frames [][]byte // received, not yet wanted
	bytes  int      // received
	end    error    // of reading
	held   chan struct{}
	gone   chan struct{}
	more   chan struct{} // something came
}

func newEngine(t testing.TB, d codec.Dialect, conn net.Conn) *engine {
	e := &engine{t: t, d: d, conn: conn, echo: true, gone: make(chan struct{}), more: make(chan struct{}, 1)}
	go e.read()
	return e
}

func (e *engine) read() {
	defer close(e.gone)
	scan := codec.NewScanner(e.d, codec.Limits{})
	var buf []byte
	for {
		e.mu.Lock()
		held := e.held
		e.mu.Unlock()
		if held != nil {
			<-held
		}
		piece := make([]byte, 64<<10)
		n, err := e.conn.Read(piece)
		buf = append(buf, piece[:n]...)
		for len(buf) > 0 {
			var m codec.Message
			used, bad := scan.Next(buf, &m)
			if bad != nil {
				e.t.Errorf("the worker sent what is no frame: %v", bad)
				return
			}
			if used == 0 {
				break
			}
			e.got(bytes.Clone(buf[:used]))
			buf = buf[used:]
		}
		e.mu.Lock()
		e.bytes += n
		e.end = err
		e.mu.Unlock()
		select {
		case e.more <- struct{}{}:
		default:
		}
		if err != nil {
			return
		}
	}
}

// got takes one frame. A heartbeat is answered.
func (e *engine) got(frame []byte) {
	beat := encode(e.d, codec.Frame{Kind: codec.KindHeartbeat})
	e.mu.Lock()
	echo := e.echo && bytes.Equal(frame, beat)
	if echo {
		e.beats++
	} else {
		e.frames = append(e.frames, frame)
	}
	e.mu.Unlock()
	if echo {
		_, _ = e.conn.Write(beat)
	}
}

// hold stops reading, resume goes on.
func (e *engine) hold() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.held = make(chan struct{})
}

func (e *engine) resume() {
	e.mu.Lock()
	defer e.mu.Unlock()
	close(e.held)
	e.held = nil
}

// silent has the engine no longer answer heartbeats; they come as frames.
func (e *engine) silent() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.echo = false
}

// answered counts the heartbeats that were answered.
func (e *engine) answered() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.beats
}

func encode(d codec.Dialect, f codec.Frame) []byte { return codec.AppendFrame(nil, d, &f) }

// send writes frames of the engine.
func (e *engine) send(frames ...codec.Frame) {
	e.t.Helper()
	var p []byte
	for _, f := range frames {
		p = append(p, encode(e.d, f)...)
	}
	e.write(p)
}

func (e *engine) write(p []byte) {
	e.t.Helper()
	if _, err := e.conn.Write(p); err != nil {
		e.t.Fatalf("engine: Write() = %v", err)
	}
}

// take returns the next frame of the worker, nil at the end of the stream or if
// everything is idle.
func (e *engine) take() []byte {
	synctest.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.frames) == 0 {
		return nil
	}
	f := e.frames[0]
	e.frames = e.frames[1:]
	return f
}

// want takes one frame and compares it.
func (e *engine) want(f codec.Frame) {
	e.t.Helper()
	e.wantBytes(encode(e.d, f))
}

func (e *engine) wantBytes(want []byte) {
	e.t.Helper()
	if got := e.take(); !bytes.Equal(got, want) {
		e.t.Fatalf("the worker sent %s, want %s", show(got), show(want))
	}
}

// show makes a frame readable.
func show(frame []byte) string {
	if frame == nil {
		return "nothing"
	}
	if len(frame) > 200 {
		return fmt.Sprintf("%x… (%d bytes)", frame[:200], len(frame))
	}
	return fmt.Sprintf("%x %q", frame, frame)
}

// wantEOF wants the worker to have closed, with nothing left to be taken.
func (e *engine) wantEOF() {
	e.t.Helper()
	if f := e.take(); f != nil {
		e.t.Fatalf("the worker sent %s, want nothing more", show(f))
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.end != io.EOF {
		e.t.Fatalf("the worker's stream ended with %v, want EOF", e.end)
	}
}

// id is the n-th session of an engine that counts in sequence.
func (e *engine) id(n int) uint64 {
	if e.d == codec.V1 {
		return uint64(n) + 1
	}
	return uint64(n)
}

// play runs a script, a step a line:
//
//	> FRAME    the engine sends it
//	< FRAME    the worker must have sent it as its next; "< nothing": it sent nothing,
//	           "< eof": it closed
//	sleep 5s   time passes
//
// FRAME is handshake, heartbeat, terminate CODE TEXT, invoke N EVENT, chunk N TEXT,
// error N CODE TEXT, choke N, fail N CODE TEXT (an error that ends a direction: in v0
// a choke is behind it), or hex BYTES. N counts sessions from 1 in both dialects.
// Nothing may be left at the end.
func (e *engine) play(script string) {
	e.t.Helper()
	e.steps(script)
	if f := e.take(); f != nil {
		e.t.Fatalf("the script is over, the worker sent %s", show(f))
	}
}

// steps is play with a script that goes on.
func (e *engine) steps(script string) {
	e.t.Helper()
	for line := range strings.Lines(script) {
		verb, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch {
		case verb == "":
		case verb == "sleep":
			d, err := time.ParseDuration(rest)
			if err != nil {
				e.t.Fatal(err)
			}
			time.Sleep(d)
		case verb == ">":
			e.write(bytes.Join(e.parse(rest), nil))
		case verb == "<" && rest == "eof":
			e.wantEOF()
		case verb == "<" && rest == "nothing":
			if f := e.take(); f != nil {
				e.t.Fatalf("the worker sent %s, want nothing", show(f))
			}
		case verb == "<":
			for _, want := range e.parse(rest) {
				if got := e.take(); !bytes.Equal(got, want) {
					e.t.Fatalf("%q: the worker sent %s, want %s", rest, show(got), show(want))
				}
			}
		default:
			e.t.Fatalf("script: %q", line)
		}
	}
}

// parse returns the frames of a step.
func (e *engine) parse(step string) [][]byte {
	e.t.Helper()
	next := func() (word string) {
		word, step, _ = strings.Cut(step, " ")
		return word
	}
	number := func() int {
		n, err := strconv.Atoi(next())
		if err != nil {
			e.t.Fatalf("script: %v", err)
		}
		return n
	}
	text := func() string {
		if s, err := strconv.Unquote(step); err == nil {
			return s
		}
		return step
	}
	var f codec.Frame
	switch kind := next(); kind {
	case "handshake":
		f = codec.Frame{Kind: codec.KindHandshake, Text: uuid}
	case "heartbeat":
		f = codec.Frame{Kind: codec.KindHeartbeat}
	case "terminate":
		f = codec.Frame{Kind: codec.KindTerminate, Code: int64(number()), Text: text()}
	case "invoke":
		f = codec.Frame{Kind: codec.KindInvoke, Session: e.id(number()), Text: text()}
	case "chunk":
		f = codec.Frame{Kind: codec.KindChunk, Session: e.id(number()), Payload: []byte(text())}
	case "choke":
		f = codec.Frame{Kind: codec.KindChoke, Session: e.id(number())}
	case "error", "fail":
		f = codec.Frame{Kind: codec.KindError, Session: e.id(number()), Category: 42, Code: int64(number()), Text: text()}
		if kind == "fail" && e.d == codec.V0 {
			return [][]byte{encode(e.d, f), encode(e.d, codec.Frame{Kind: codec.KindChoke, Session: f.Session})}
		}
	case "hex":
		p, err := hex.DecodeString(step)
		if err != nil {
			e.t.Fatal(err)
		}
		return [][]byte{p}
	default:
		e.t.Fatalf("script: no frame %q", kind)
	}
	return [][]byte{encode(e.d, f)}
}

// link is a worker that runs, and its engine.
type link struct {
	*engine
	w      *worker.Worker
	cancel context.CancelFunc // of Run's context
	ended  chan struct{}      // Run has returned
	err    error              // what it returned
	log    *logBuffer
}

// options of a link. The zero value is a plain one.
type options struct {
	cfg    worker.Config
	script channel.Script // a is the worker's end
	ctx    context.Context
	mute   bool // the engine answers no heartbeat from the start
	raw    bool // the handshake is still to be taken
	bare   bool // without the handlers of register
}

// connect runs a worker over a local pair. When the test ends both ends are closed,
// and the bubble sees to it that nothing is left.
func connect(t testing.TB, d codec.Dialect, o options, setup func(w *worker.Worker)) *link {
	t.Helper()
	a, b := channel.Pair(o.script)
	cfg, log := o.cfg, &logBuffer{}
	cfg.Dialect, cfg.Conn = d, a
	if cfg.UUID == "" {
		cfg.UUID = uuid
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	w, err := worker.New(cfg)
	if err != nil {
		t.Fatalf("New() = %v", err)
	}
	if !o.bare {
		register(w)
	}
	if setup != nil {
		setup(w)
	}
	if o.ctx == nil {
		o.ctx = context.Background()
	}
	ctx, cancel := context.WithCancel(o.ctx)
	l := &link{engine: newEngine(t, d, b), w: w, cancel: cancel, ended: make(chan struct{}), log: log}
	if o.mute {
		l.silent()
	}
	go func() {
		defer close(l.ended)
		l.err = w.Run(ctx)
	}()
	t.Cleanup(func() {
		_ = b.Close()
		cancel()
		<-l.ended
		<-l.gone
	})
	if !o.raw {
		l.want(codec.Frame{Kind: codec.KindHandshake, Text: uuid})
	}
	return l
}

// register adds the handlers that most tests use.
func register(w *worker.Worker) {
	w.Handle("echo", echo)
	w.Handle("fail", func(context.Context, *worker.Session) error { return worker.Errorf(7, "told to fail") })
	w.Handle("panic", func(context.Context, *worker.Session) error { panic("told to panic") })
	w.HandleFunc("ping", func(s *worker.Session) session.Handler {
		_ = s.SendChunk([]byte("pong"))
		_ = s.SendChoke()
		return nil
	})
	w.HandleFunc("loop", func(*worker.Session) session.Handler { return loopEcho{} })
}

func echo(ctx context.Context, s *worker.Session) error {
	for chunk, err := range s.Chunks(ctx) {
		if err != nil {
			return err
		}
		if _, err := s.Write(chunk); err != nil {
			return err
		}
	}
	return nil
}

// loopEcho is echo on the loop.
type loopEcho struct{}

func (loopEcho) OnChunk(s *worker.Session, p []byte)           { _ = s.SendChunk(p) }
func (loopEcho) OnChoke(s *worker.Session)                     { _ = s.SendChoke() }
func (loopEcho) OnError(s *worker.Session, err *session.Error) {}

// result waits for Run.
func (l *link) result() error {
	<-l.ended
	return l.err
}

// wantResult wants Run to have returned by now.
func (l *link) wantResult(want error) {
	l.t.Helper()
	synctest.Wait()
	select {
	case <-l.ended:
	default:
		l.t.Fatalf("Run() has not returned, want %v; state %v", want, l.w.State())
	}
	if !errors.Is(l.err, want) {
		l.t.Fatalf("Run() = %v, want %v", l.err, want)
	}
}

// wantRunning wants Run not to have returned.
func (l *link) wantRunning() {
	l.t.Helper()
	synctest.Wait()
	select {
	case <-l.ended:
		l.t.Fatalf("Run() = %v, want it to go on", l.err)
	default:
	}
}

// wantEmpty wants no session to be open and no handler to run.
func (l *link) wantEmpty() {
	l.t.Helper()
	if s := l.w.Stats(); s.Sessions.Open != 0 || s.Running != 0 || s.Waiting != 0 {
		l.t.Fatalf("Stats() = %d open, %d running, %d waiting, want none", s.Sessions.Open, s.Running, s.Waiting)
	}
}

// logBuffer collects what is logged.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// wantLog wants a line with all the words.
func (l *link) wantLog(words ...string) {
	l.t.Helper()
	for line := range strings.Lines(l.log.String()) {
		all := true
		for _, w := range words {
			all = all && strings.Contains(line, w)
		}
		if all {
			return
		}
	}
	l.t.Fatalf("no line of the log has all of %q:\n%s", words, l.log)
}
