package worker_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
	"github.com/sluice-rpc/sluice/worker"
)

// program reads actions of an engine from bytes; past the end all is zero.
type program struct {
	code []byte
	at   int
}

func (p *program) next() byte {
	if p.at >= len(p.code) {
		return 0
	}
	p.at++
	return p.code[p.at-1]
}

// fuzzEvents are what a program may invoke.
var fuzzEvents = []string{
	"echo", "loop", "ping", "fail", "panic", "nobody", "exit", "hang", "deaf", "pour", "loop pour", "loop panic", "sleep", "early", "nil", "slow",
}

func fuzzHandlers(w *worker.Worker) {
	handle := func(event string, h worker.Handler) { w.Handle(event, h) }
	handle("exit", func(context.Context, *worker.Session) error { runtime.Goexit(); return nil })
	handle("hang", func(ctx context.Context, _ *worker.Session) error { <-ctx.Done(); return context.Cause(ctx) })
	handle("deaf", func(context.Context, *worker.Session) error { time.Sleep(3 * time.Second); return errors.New("deaf") })
	handle("pour", func(_ context.Context, s *worker.Session) error {
		for range 20 {
			if _, err := s.Write(make([]byte, 3000)); err != nil {
				return err
			}
		}
		return nil
	})
	handle("sleep", func(ctx context.Context, s *worker.Session) error {
		select {
		case <-time.After(700 * time.Millisecond):
		case <-ctx.Done():
		}
		return ctx.Err()
	})
	handle("early", func(_ context.Context, s *worker.Session) error {
		_ = s.Close()
		_, err := s.Write([]byte("late"))
		return err
	})
	handle("nil", func(context.Context, *worker.Session) error { return (*session.Error)(nil) })
	handle("slow", func(ctx context.Context, s *worker.Session) error {
		for chunk, err := range s.Chunks(ctx) {
			if err != nil {
				return err
			}
			time.Sleep(300 * time.Millisecond)
			if _, err := s.Write(chunk); err != nil {
				return err
			}
		}
		return nil
	})
	w.HandleFunc("loop pour", func(s *worker.Session) session.Handler {
		left := 20
		pour := func(s *worker.Session) {
			for ; left > 0; left-- {
				if s.SendChunk(make([]byte, 3000)) != nil {
					return
				}
			}
			_ = s.SendChoke()
		}
		pour(s)
		return onLoop{writable: pour}
	})
	w.HandleFunc("loop panic", func(*worker.Session) session.Handler {
		return onLoop{
			chunk: func(*worker.Session, []byte) { panic("chunk") },
			choke: func(*worker.Session) { panic("choke") },
			err:   func(*worker.Session, *session.Error) { panic("error") },
		}
	})
}

// fuzzRun is one program at work.
type fuzzRun struct {
	*link
	p       program
	last    int          // sessions that were opened
	due     map[int]bool // sessions that must have an answer, unless the channel is lost
	garbage bool         // the stream of the engine is no stream of frames any more
	closed  bool         // one side closed on purpose
	ending  bool         // either side has asked for the end
	held    bool
	trace   []string
}

func (r *fuzzRun) note(format string, args ...any) {
	r.trace = append(r.trace, fmt.Sprintf(format, args...))
}

// write sends what still can be sent. The engine's writes do not wait: a worker that
// takes no more is one that has paused, and the rest is written beside.
func (r *fuzzRun) post(frame []byte) {
	r.note("> %.40x", frame)
	_ = r.conn.SetWriteDeadline(time.Now().Add(time.Second))
	if n, err := r.conn.Write(frame); err != nil && n != len(frame) {
		r.note("took %d bytes: %v", n, err)
		r.garbage = r.garbage || n > 0
		if n == 0 && frame[0] != 0 {
			r.garbage = true // a frame is missing
		}
	}
}

// said reports whether the worker has said terminate: nothing is answered behind it.
func (r *fuzzRun) said() bool {
	synctest.Wait()
	return r.w.Stats().Channel.State != channel.Open
}

func isTerminate(d codec.Dialect, f []byte) bool {
	if d == codec.V0 {
		return f[1] == codec.V0Terminate
	}
	return f[1] == codec.V1ControlSession && f[2] == codec.V1Terminate
}

// step carries out one action.
func (r *fuzzRun) step() {
	op := r.p.next()
	// One of the sessions, or the control session. A number above them would be used up
	// in v1, and the invoke that has it next would be late.
	some := func() uint64 { return r.id(int(r.p.next()) % (r.last + 1)) }
	switch op % 16 {
	case 0, 1, 2, 3:
		r.invoke()
	case 4, 5:
		r.post(encode(r.d, codec.Frame{Kind: codec.KindChunk, Session: some(), Payload: make([]byte, int(r.p.next())*64)}))
	case 6, 7:
		r.post(encode(r.d, codec.Frame{Kind: codec.KindChoke, Session: some()}))
	case 8:
		r.post(encode(r.d, codec.Frame{Kind: codec.KindError, Session: some(), Category: 42, Code: int64(r.p.next()), Text: "fuzz"}))
	case 9:
		r.post(encode(r.d, codec.Frame{Kind: codec.KindHeartbeat}))
	case 10:
		d := time.Duration(r.p.next()) * 100 * time.Millisecond
		r.note("sleep %v", d)
		time.Sleep(d)
	case 11:
		r.toggleHold()
	case 12:
		r.post(encode(r.d, codec.Frame{Kind: codec.KindCall, Session: some(), Type: uint64(r.p.next() % 10), Args: []byte{0x91, r.p.next() & 0x7f}}))
	case 13:
		synctest.Wait()
	case 14:
		r.rarely()
	case 15:
		r.post(encode(r.d, codec.Frame{Kind: codec.KindChunk, Session: some(), Payload: make([]byte, int(r.p.next())<<9)}))
	}
}

func (r *fuzzRun) invoke() {
	event := fuzzEvents[int(r.p.next())%len(fuzzEvents)]
	var headers []codec.Header
	if r.d == codec.V1 && r.p.next()%4 == 0 {
		headers = timeout(time.Duration(r.p.next()) * 50 * time.Millisecond)
	}
	r.last++
	r.due[r.last] = !r.said()
	r.note("invoke %d %s", r.last, event)
	r.post(encode(r.d, codec.Frame{Kind: codec.KindInvoke, Session: r.id(r.last), Text: event, Headers: headers}))
	if r.ending {
		r.forgive()
	}
}

// forgive takes invokes that the worker has not read from those that must be answered:
// they cross its own terminate, or come behind the engine's.
func (r *fuzzRun) forgive() {
	synctest.Wait()
	s := r.w.Stats()
	for n := int(s.Invoked + s.Sessions.Refused); n < r.last; n++ {
		r.due[n+1] = false
	}
}

func (r *fuzzRun) toggleHold() {
	r.note("hold or resume")
	if r.held = !r.held; r.held {
		r.hold()
	} else {
		r.resume()
	}
}

// rarely is what a program does not do all the time.
func (r *fuzzRun) rarely() {
	what := r.p.next() % 12
	r.note("rarely %d", what)
	switch what {
	case 2, 3, 5:
		r.forgive()
		r.ending = true
	}
	switch what {
	case 0, 1:
		r.ending = true
		r.post(encode(r.d, codec.Frame{Kind: codec.KindTerminate, Code: int64(r.p.next() % 3), Text: "fuzz"}))
	case 2:
		r.w.Terminate(false, "fuzz")
	case 3:
		r.w.Terminate(true, "fuzz")
	case 4:
		r.w.Close()
		r.closed = true
	case 5:
		r.cancel()
	case 6:
		_ = r.conn.Close()
		r.closed = true
	case 7:
		r.garbage = true
		n := min(int(r.p.next()), len(r.p.code)-r.p.at)
		r.post(append([]byte{0x93}, r.p.code[r.p.at:r.p.at+n]...))
	case 8:
		_ = r.w.Stats()
	case 9:
		r.silent()
	case 10:
		_ = r.conn.(*channel.End).CloseWrite()
		r.closed = true
	}
}

// finish has the engine end as a good one does, and checks what came.
func (r *fuzzRun) finish(t *testing.T) {
	defer func() {
		if t.Failed() {
			t.Logf("the program:\n%s\nthe log:\n%s", strings.Join(r.trace, "\n"), r.log)
		}
	}()
	if r.held {
		r.toggleHold()
	}
	for n := range r.last {
		r.post(encode(r.d, codec.Frame{Kind: codec.KindChoke, Session: r.id(n + 1)}))
	}
	r.post(encode(r.d, codec.Frame{Kind: codec.KindTerminate, Code: 1, Text: "the program is over"}))
	time.Sleep(2 * time.Minute) // each session that is not read may stop the channel for 5 s
	_ = r.conn.Close()
	time.Sleep(grace(r.d) + time.Second) // handlers that do not look at their context
	synctest.Wait()
	err := r.result()
	lost := err != nil || r.garbage || r.closed || strings.Contains(r.log.String(), "before all was answered")
	ends := make(map[uint64]string)
	terminates := 0
	for f := r.take(); f != nil; f = r.take() {
		var m codec.Message
		if _, err := codec.NewScanner(r.d, codec.Limits{}).Next(f, &m); err != nil {
			t.Fatal(err)
		}
		if isTerminate(r.d, f) {
			terminates++
			continue
		}
		if m.Session <= codec.V1ControlSession && (r.d == codec.V1 || m.Session == 0) {
			continue
		}
		if terminates > 0 {
			t.Fatalf("behind its terminate the worker sent %s", show(f))
		}
		ends[m.Session] += string(rune('0' + m.Type))
	}
	if terminates > 1 {
		t.Errorf("the worker said terminate %d times", terminates)
	}
	for n := range r.last {
		if why := wrongEnd(r.d, ends[r.id(n+1)], r.due[n+1] && !lost); why != "" {
			t.Errorf("session %d: %s (types %q; Run() = %v)", n+1, why, ends[r.id(n+1)], err)
		}
	}
	if s := r.w.Stats(); s.Sessions.Open != 0 || s.Running != 0 || s.Waiting != 0 || s.State != worker.Closed {
		t.Errorf("Stats() after the end = %+v", s)
	}
}

// wrongEnd says what is wrong with the types of a session's frames.
func wrongEnd(d codec.Dialect, types string, must bool) string {
	chunk, fault, choke := "0", "1", "2"
	if d == codec.V0 {
		chunk, fault, choke = "4", "5", "6"
	}
	end := strings.TrimLeft(types, chunk)
	switch {
	case end == choke, d == codec.V1 && end == fault, d == codec.V0 && end == fault+choke:
		return ""
	case end == "" && !must:
		return ""
	case d == codec.V0 && end == fault && !must: // cut off between the two
		return ""
	case end == "":
		return "no answer"
	}
	return "more than one end"
}

// FuzzEngine takes bytes for a program of an engine against a worker. Run returns,
// nothing is left, and every session that was opened is answered by exactly one end
// unless the channel was lost.
func FuzzEngine(f *testing.F) {
	for _, seed := range []string{
		"\x00\x00\x00\x00\x00\x04\x01\x10\x06\x01",                         // echo
		"\x01\x00\x01\x00\x02\x00\x03\x00\x04\x00\x05\x00\x06",             // one of each
		"\x02\x00\x07\x00\x07\x00\x07\x08\x01\x0a\x05\x0e\x00\x01\x0a\x60", // hang, cancel, terminate
		"\x07\x0b\x00\x09\x00\x0a\x00\x00\x04\x00\xff\x0a\x10\x0b\x06\x00", // pour to an engine that does not read
		"\x0f\x0b\x00\x09\x0e\x05\x0a\xff",
		"\x10\x00\x0c\x00\x0f\x0f\x01\xff\x0f\x01\xff\x0a\x20",
		"\x03\x00\x08\x0e\x03\x0a\x50", "\x03\x00\x08\x0e\x04", "\x03\x00\x08\x0e\x06", "\x03\x00\x00\x0e\x07\x04\x01\x02\x03\x04",
		"\x21\x00\x0b\x04\x01\x01\x00\x0b\x06\x02\x00\x0b\x08\x03\x00",
		"\x01\x0e\x09\x0a\xff\x0a\xff\x0a\xff",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, code []byte) {
		if len(code) > 400 {
			return
		}
		synctest.Test(t, func(t *testing.T) { runProgram(t, code) })
	})
}

func runProgram(t *testing.T, code []byte) {
	r := &fuzzRun{p: program{code: code}, due: make(map[int]bool)}
	setup := r.p.next()
	d := codec.Dialect(setup & 1)
	cfg := worker.Config{Concurrency: int(setup >> 1 & 3), StrictDisown: setup&8 != 0}
	if setup&16 != 0 {
		cfg.Sessions = session.Config{InboxBytes: 4 << 10, MaxSessions: 6, Channel: channel.Config{HighWaterBytes: 8 << 10}}
	}
	r.link = connect(t, d, options{cfg: cfg, script: channel.Script{BtoA: channel.Path{SliceBytes: []int{int(setup >> 5)}}}}, fuzzHandlers)
	for range 100 {
		if r.p.at >= len(r.p.code) {
			break
		}
		r.step()
	}
	r.finish(t)
}

// TestPrograms runs a few hundred random programs.
func TestPrograms(t *testing.T) {
	for seed := range uint64(scaled(300)) {
		x := seed*0x9e3779b97f4a7c15 + 1
		code := make([]byte, 20+seed%180)
		for i := range code {
			x ^= x << 13
			x ^= x >> 7
			x ^= x << 17
			code[i] = byte(x >> 32)
		}
		synctest.Test(t, func(t *testing.T) { runProgram(t, code) })
		if t.Failed() {
			t.Fatalf("program %d: %q", seed, code)
		}
	}
}
