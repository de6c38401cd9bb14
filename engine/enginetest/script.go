package enginetest

import (
	"bytes"
	"encoding/hex"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
)

// patience is how long Expect waits; virtual in a bubble. It is longer than any timeout
// of the protocol that a test may want to see pass.
const patience = time.Minute

// Engine is a scripted engine: the other end of one worker. It answers heartbeats, which
// are not among the frames that the test expects, and does nothing else by itself. Its
// methods are for the test's goroutine; they fail the test. It ends with the test.
type Engine struct {
	t       testing.TB
	dialect codec.Dialect
	ours    net.Conn
	theirs  net.Conn // nil if the test has its own
	frames  chan []byte
	over    chan struct{} // closed when the test has ended
	done    chan struct{} // closed when the worker has closed, or the test has ended
	next    uint64        // session to be opened

	mu    sync.Mutex // guards the following
	mute  bool
	beats int
}

// New returns an engine over a perfect local pair, whose other end is Conn.
func New(t testing.TB, d codec.Dialect) *Engine {
	ours, theirs := channel.Pair(channel.Script{})
	e := On(t, d, ours)
	e.theirs = theirs
	return e
}

// On returns an engine at our end of a link, which it owns: of a pair with a script of
// its own, or an accepted socket.
func On(t testing.TB, d codec.Dialect, ours net.Conn) *Engine {
	e := &Engine{
		t: t, dialect: d, ours: ours, next: 1,
		frames: make(chan []byte, 64), over: make(chan struct{}), done: make(chan struct{}),
	}
	if d == codec.V1 {
		e.next = 2 // 1 is the control session
	}
	go e.read()
	t.Cleanup(func() {
		close(e.over)
		_ = ours.Close()
		<-e.done
	})
	return e
}

// Conn returns the worker's end of the pair, to be attached by the worker. It is nil for
// an engine made by On.
func (e *Engine) Conn() net.Conn { return e.theirs }

// read cuts what the worker sends into frames, and answers heartbeats.
func (e *Engine) read() {
	defer close(e.done)
	scan := codec.NewScanner(e.dialect, codec.Limits{})
	beat := codec.AppendFrame(nil, e.dialect, &codec.Frame{Kind: codec.KindHeartbeat})
	var m codec.Message
	var held []byte
	buf := make([]byte, 64<<10)
	for {
		n, err := e.ours.Read(buf)
		held = append(held, buf[:n]...)
		for len(held) > 0 {
			size, bad := scan.Next(held, &m)
			if bad != nil {
				e.t.Errorf("enginetest: the worker's bytes are no frames: %v", bad)
				return
			}
			if size == 0 {
				break
			}
			if !e.got(held[:size], beat) {
				return
			}
			held = held[size:]
		}
		if err != nil {
			return
		}
	}
}

// got takes one frame; it waits for the test to want it, and reports false if the test
// has ended.
func (e *Engine) got(frame, beat []byte) bool {
	if bytes.Equal(frame, beat) {
		e.gotBeat(beat)
		return true
	}
	select {
	case e.frames <- bytes.Clone(frame):
		return true
	case <-e.over:
		return false
	}
}

func (e *Engine) gotBeat(answer []byte) {
	e.mu.Lock()
	e.beats++
	mute := e.mute
	e.mu.Unlock()
	if !mute {
		_, _ = e.ours.Write(answer)
	}
}

// Mute has the engine answer no heartbeat from now on: it has gone silent.
func (e *Engine) Mute() {
	e.mu.Lock()
	e.mute = true
	e.mu.Unlock()
}

// Beats counts the heartbeats that came.
func (e *Engine) Beats() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.beats
}

// Send sends a frame.
func (e *Engine) Send(f codec.Frame) {
	e.t.Helper()
	e.SendBytes(codec.AppendFrame(nil, e.dialect, &f))
}

// SendBytes sends bytes as they are.
func (e *Engine) SendBytes(p []byte) {
	e.t.Helper()
	if _, err := e.ours.Write(p); err != nil {
		e.t.Fatalf("enginetest: send to the worker: %v", err)
	}
}

// Invoke opens the next session with an event, sends the chunks and a choke, and returns
// the session's number.
func (e *Engine) Invoke(event string, chunks ...string) (session uint64) {
	e.t.Helper()
	session = e.Open(event)
	for _, c := range chunks {
		e.Send(codec.Frame{Kind: codec.KindChunk, Session: session, Payload: []byte(c)})
	}
	e.Send(codec.Frame{Kind: codec.KindChoke, Session: session})
	return session
}

// Open opens the next session with an event, and returns its number.
func (e *Engine) Open(event string) (session uint64) {
	e.t.Helper()
	session = e.next
	e.next++
	e.Send(codec.Frame{Kind: codec.KindInvoke, Session: session, Text: event})
	return session
}

// Terminate asks the worker to end.
func (e *Engine) Terminate(code int64, reason string) {
	e.t.Helper()
	e.Send(codec.Frame{Kind: codec.KindTerminate, Code: code, Text: reason})
}

// Recv returns the worker's next frame as it came, heartbeats aside; nil if the worker
// closed.
func (e *Engine) Recv() []byte {
	e.t.Helper()
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case frame := <-e.frames:
		return frame
	case <-e.done:
		select { // a frame came before the end
		case frame := <-e.frames:
			return frame
		default:
			return nil
		}
	case <-late.C:
		e.t.Fatalf("enginetest: no frame of the worker within %v", patience)
		return nil
	}
}

// Expect fails the test unless the worker's next frame, heartbeats aside, is f, byte for
// byte.
func (e *Engine) Expect(f codec.Frame) {
	e.t.Helper()
	want := codec.AppendFrame(nil, e.dialect, &f)
	if got := e.Recv(); !bytes.Equal(got, want) {
		e.t.Fatalf("enginetest: the worker sent %s, want %s", e.show(got), e.show(want))
	}
}

// ExpectHandshake is Expect for a handshake with the uuid.
func (e *Engine) ExpectHandshake(uuid string) {
	e.t.Helper()
	e.Expect(codec.Frame{Kind: codec.KindHandshake, Text: uuid})
}

// ExpectEnd fails the test unless the worker closes without another frame.
func (e *Engine) ExpectEnd() {
	e.t.Helper()
	if got := e.Recv(); got != nil {
		e.t.Fatalf("enginetest: the worker sent %s, want its end", e.show(got))
	}
}

// Hangup ends our direction of the link: the worker has no engine any more, but what it
// still sends is read.
func (e *Engine) Hangup() {
	e.t.Helper()
	var err error
	if half, ok := e.ours.(interface{ CloseWrite() error }); ok {
		err = half.CloseWrite()
	} else {
		err = e.ours.Close()
	}
	if err != nil && err != io.EOF {
		e.t.Fatalf("enginetest: hang up: %v", err)
	}
}

// show is a frame for people.
func (e *Engine) show(frame []byte) string {
	if frame == nil {
		return "nothing, and closed"
	}
	var m codec.Message
	if _, err := codec.NewScanner(e.dialect, codec.Limits{}).Next(frame, &m); err != nil {
		return hex.EncodeToString(frame)
	}
	return hex.EncodeToString(frame) + " " + string(codec.AppendJSON(nil, &m, e.dialect))
}
