package engine_test

import (
	"bytes"
	"net"
	"testing"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/engine"
	"github.com/sluice-rpc/sluice/session"
)

// rawWorker is a worker frame by frame, that does nothing by itself.
type rawWorker struct {
	net.Conn
	d    codec.Dialect
	scan *codec.Scanner
	held []byte
}

func newRaw(conn net.Conn, d codec.Dialect) *rawWorker {
	return &rawWorker{Conn: conn, d: d, scan: codec.NewScanner(d, codec.Limits{})}
}

func (w *rawWorker) send(frames ...codec.Frame) error {
	var b []byte
	for i := range frames {
		b = codec.AppendFrame(b, w.d, &frames[i])
	}
	_, err := w.Write(b)
	return err
}

// next returns the engine's next frame as it came.
func (w *rawWorker) next() ([]byte, codec.Message, error) {
	var m codec.Message
	buf := make([]byte, 64<<10)
	for {
		n, err := w.scan.Next(w.held, &m)
		if err != nil {
			return nil, m, err
		}
		if n > 0 {
			frame := bytes.Clone(w.held[:n])
			m = m.Clone()
			w.held = append([]byte(nil), w.held[n:]...)
			return frame, m, nil
		}
		n, err = w.Read(buf)
		w.held = append(w.held, buf[:n]...)
		if n == 0 && err != nil {
			return nil, m, err
		}
	}
}

// want fails the test unless the engine's next frame is f, byte for byte.
func (w *rawWorker) want(t *testing.T, f codec.Frame) {
	t.Helper()
	want := codec.AppendFrame(nil, w.d, &f)
	if got, _, err := w.next(); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("the engine sent %x, %v, want %x", got, err, want)
	}
}

// wantEnd fails the test unless the engine closes without another frame.
func (w *rawWorker) wantEnd(t *testing.T) {
	t.Helper()
	if got, _, err := w.next(); err == nil {
		t.Fatalf("the engine sent %x, want its end", got)
	}
}

// The frames that every worker sends.
func handshake(uuid string) codec.Frame { return codec.Frame{Kind: codec.KindHandshake, Text: uuid} }

var heartbeat = codec.Frame{Kind: codec.KindHeartbeat}

func terminate(code int64, reason string) codec.Frame {
	return codec.Frame{Kind: codec.KindTerminate, Code: code, Text: reason}
}

// fake is a slave with a fake process, for a bubble.
type fake struct {
	*engine.Slave
	t    *testing.T
	d    codec.Dialect
	proc *engine.FakeProcess
}

func spawnFake(t *testing.T, cfg engine.SlaveConfig) *fake {
	t.Helper()
	cfg.Command = []string{"fake"}
	f := &fake{t: t, d: cfg.Dialect, proc: new(engine.FakeProcess)}
	var err error
	if f.Slave, err = engine.SpawnFake(cfg, f.proc); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f.Kill()
		<-f.Done()
	})
	return f
}

// connect returns a worker's end of a new connection to the slave's lobby.
func (f *fake) connect() *rawWorker {
	ours, theirs := channel.Pair(channel.Script{})
	f.t.Cleanup(func() { _ = theirs.Close() })
	f.Admit(ours)
	return newRaw(theirs, f.d)
}

// invoke opens a session for an event of the name "event".
func (f *fake) invoke() *session.Session {
	f.t.Helper()
	call, err := f.Invoke(f.t.Context(), "event", nil)
	if err != nil {
		f.t.Fatalf("Invoke() = %v", err)
	}
	return call
}

// worker connects, shakes hands and beats once, whose answer it reads.
func (f *fake) worker() *rawWorker {
	f.t.Helper()
	w := f.connect()
	if err := w.send(handshake(f.UUID()), heartbeat); err != nil {
		f.t.Fatal(err)
	}
	w.want(f.t, heartbeat)
	if err := f.Ready(f.t.Context()); err != nil {
		f.t.Fatalf("Ready() = %v", err)
	}
	return w
}

// dialects runs a test in both.
func dialects(t *testing.T, test func(t *testing.T, d codec.Dialect)) {
	for _, d := range []codec.Dialect{codec.V0, codec.V1} {
		t.Run(d.String(), func(t *testing.T) { test(t, d) })
	}
}
