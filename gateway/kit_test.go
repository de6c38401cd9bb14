package gateway_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/sluice-rpc/sluice/channel"
	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/gateway"
	"github.com/sluice-rpc/sluice/session"
	"github.com/sluice-rpc/sluice/worker"
)

// both runs f in a bubble for each dialect.
func both(t *testing.T, f func(t *testing.T, d codec.Dialect)) {
	t.Helper()
	for _, d := range []codec.Dialect{codec.V0, codec.V1} {
		t.Run(d.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { f(t, d) })
		})
	}
}

// proxy is what stands in front of a worker: the engine's end of its link, with sessions.
type proxy struct {
	t       testing.TB
	d       codec.Dialect
	table   *session.Table
	adapter *gateway.Adapter
	w       *worker.Worker
	log     *logBuffer
	shaken  chan struct{}
}

func (p *proxy) OnOpen()                     {}
func (p *proxy) OnInvoke(*session.Session)   {}
func (p *proxy) OnHandshake([]byte)          { close(p.shaken) }
func (p *proxy) OnHeartbeat()                { _ = p.table.Channel().SendHeartbeat() }
func (p *proxy) OnTerminate(int64, []byte)   {}
func (p *proxy) OnClose(*channel.CloseError) {}

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

// serve runs a worker with the event http over a local pair. Both end with the test.
func serve(t testing.TB, d codec.Dialect, cfg gateway.Config, h http.Handler) *proxy {
	t.Helper()
	a, b := channel.Pair(channel.Script{})
	p := &proxy{t: t, d: d, log: &logBuffer{}, shaken: make(chan struct{})}
	cfg.Logger = slog.New(slog.NewTextHandler(p.log, nil))
	p.adapter = gateway.New(cfg)
	var err error
	p.w, err = worker.New(worker.Config{UUID: "u", Dialect: d, Conn: a, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	p.w.Handle("http", p.adapter.Handler(h))
	p.table, err = session.New(session.Config{Role: session.Engine, Owner: p, Channel: channel.Config{Dialect: d}})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- p.w.Run(context.Background()) }()
	if err := p.table.Channel().Attach(b); err != nil {
		t.Fatal(err)
	}
	<-p.shaken
	t.Cleanup(func() {
		p.w.Close()
		<-ended
		_ = p.table.Channel().Close(context.Background())
	})
	return p
}

// request packs a request.
func request(method, uri, version string, header [][2]string, body string) []byte {
	b := codec.AppendArrayHeader(nil, 5)
	for _, s := range []string{method, uri, version} {
		b = codec.AppendString(b, s)
	}
	b = codec.AppendArrayHeader(b, len(header))
	for _, h := range header {
		b = codec.AppendArrayHeader(b, 2)
		b = codec.AppendString(codec.AppendString(b, h[0]), h[1])
	}
	return codec.AppendString(b, body)
}

// get is a request without headers or body.
func get(uri string) []byte { return request("GET", uri, "1.1", nil, "") }

// piece is a piece of a body as it is sent.
func (p *proxy) piece(s string) []byte {
	if p.d == codec.V0 {
		return codec.AppendString(nil, s)
	}
	return []byte(s)
}

// open invokes http and sends chunks; the stream stays open.
func (p *proxy) open(chunks ...[]byte) *session.Session {
	p.t.Helper()
	s, err := p.table.OpenOffLoop(p.t.Context(), "http", nil, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, c := range chunks {
		if err := s.Send(p.t.Context(), c); err != nil {
			p.t.Fatalf("Send() = %v", err)
		}
	}
	return s
}

// answer is what came for a request.
type answer struct {
	status int
	header http.Header
	body   string
	chunks int   // behind the head
	empty  int   // of them
	err    error // of the session; nil is a choke
}

// do sends a whole request and reads the whole answer.
func (p *proxy) do(chunks ...[]byte) answer {
	p.t.Helper()
	s := p.open(chunks...)
	_ = s.Close()
	return p.read(s)
}

func (p *proxy) read(s *session.Session) (a answer) {
	p.t.Helper()
	a, ok := p.head(s)
	for ok {
		var part string
		if part, ok = p.next(s, &a); ok {
			a.body += part
			a.chunks++
			if part == "" {
				a.empty++
			}
		}
	}
	return a
}

// head reads the first chunk.
func (p *proxy) head(s *session.Session) (a answer, ok bool) {
	p.t.Helper()
	chunk, err := s.Recv(p.t.Context())
	if err != nil {
		a.err = err
		if err == io.EOF {
			a.err = fmt.Errorf("no head: %w", err)
		}
		return a, false
	}
	r := codec.NewReader(chunk)
	a.status, a.header = r.Int(), http.Header{}
	for range r.ArrayLen() {
		if n := r.ArrayLen(); n != 2 {
			p.t.Fatalf("a header has %d items", n)
		}
		name, value := r.String(), r.String()
		a.header.Add(name, value)
	}
	if r.Err() != nil || len(r.Rest()) > 0 {
		p.t.Fatalf("head %x: %v, %d bytes left", chunk, r.Err(), len(r.Rest()))
	}
	return a, true
}

// next reads a piece of the body.
func (p *proxy) next(s *session.Session, a *answer) (string, bool) {
	p.t.Helper()
	chunk, err := s.Recv(p.t.Context())
	if err != nil {
		if err != io.EOF {
			a.err = err
		}
		return "", false
	}
	if p.d == codec.V1 {
		return string(chunk), true
	}
	r := codec.NewValueReader(chunk)
	part := r.String()
	if r.Err() != nil || len(r.Rest()) > 0 {
		p.t.Fatalf("piece %x: %v, %d bytes left", chunk, r.Err(), len(r.Rest()))
	}
	return part, true
}

// handler is a function as a handler.
func handler(f func(w http.ResponseWriter, r *http.Request)) http.Handler { return http.HandlerFunc(f) }
