package worker_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"testing"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
	"github.com/sluice-rpc/sluice/worker"
)

// peer is an engine with sessions of its own, for tests that are about the load and
// not about bytes.
type peer struct {
	t      *session.Table
	shaken chan struct{}
	closed chan struct{}
}

func (p *peer) OnOpen()                     {}
func (p *peer) OnInvoke(*session.Session)   {}
func (p *peer) OnHandshake([]byte)          { close(p.shaken) }
func (p *peer) OnHeartbeat()                { _ = p.t.Channel().SendHeartbeat() }
func (p *peer) OnTerminate(int64, []byte)   {}
func (p *peer) OnClose(*channel.CloseError) { close(p.closed) }

// sockets returns the two ends of a unix socket.
func sockets(t testing.TB) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if a, err = net.Dial("unix", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return a, b
}

// serve runs a worker over a unix socket and returns it with its engine, whose
// configuration may be edited. Both end with the test.
func serve(t testing.TB, cfg worker.Config, d codec.Dialect, setup func(w *worker.Worker), edit ...func(*session.Config)) (*worker.Worker, *peer) {
	t.Helper()
	a, b := sockets(t)
	cfg.UUID, cfg.Dialect, cfg.Conn, cfg.Logger = uuid, d, a, slog.New(slog.DiscardHandler)
	w, err := worker.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	register(w)
	if setup != nil {
		setup(w)
	}
	p := &peer{shaken: make(chan struct{}), closed: make(chan struct{})}
	theirs := session.Config{Role: session.Engine, Owner: p, Channel: channel.Config{Dialect: d}}
	for _, f := range edit {
		f(&theirs)
	}
	p.t, err = session.New(theirs)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- w.Run(context.Background()) }()
	if err := p.t.Channel().Attach(b); err != nil {
		t.Fatal(err)
	}
	<-p.shaken
	t.Cleanup(func() {
		w.Close()
		if err := <-ended; err != nil {
			t.Errorf("Run() = %v, want nil", err)
		}
		_ = p.t.Channel().Close(context.Background())
	})
	return w, p
}

// open invokes an event off the loop.
func (p *peer) open(t testing.TB, event string) *session.Session {
	t.Helper()
	s, err := p.t.OpenOffLoop(t.Context(), event, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// wantEOF wants a session to have ended well.
func wantEOF(t testing.TB, s *session.Session) {
	t.Helper()
	if p, err := s.Recv(t.Context()); err != io.EOF {
		t.Fatalf("Recv() = %d bytes, %v, want EOF", len(p), err)
	}
}
