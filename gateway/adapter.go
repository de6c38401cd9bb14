package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
	"github.com/sluice-rpc/sluice/worker"
)

// The defaults of Config.
const (
	DefaultMaxHeaderBytes = http.DefaultMaxHeaderBytes
	DefaultMaxHeaders     = 1024
	DefaultMaxBodyBytes   = 64 << 20
	DefaultWriteBytes     = 64 << 10
	DefaultRequestTimeout = 30 * time.Second
)

// Config sets limits. A zero field means its default, a negative one no limit.
type Config struct {
	// MaxHeaderBytes bounds method, URI and headers of a request, as they are packed. If
	// zero, 1 MiB. More is answered with 431.
	MaxHeaderBytes int
	// MaxHeaders bounds the headers of a request. If zero, 1024. More is answered with
	// 431.
	MaxHeaders int
	// MaxBodyBytes bounds the body of a request. If zero, 64 MiB. A body that is known to
	// be longer is answered with 413; one that turns out to be while the handler reads it
	// ends with an *http.MaxBytesError there, and with a 413 if the handler then answers
	// nothing. Bodies are not collected, so this limit is not about our memory.
	MaxBodyBytes int64
	// WriteBytes is the size of the pieces that an answer is sent in, unless it is
	// flushed. If zero or negative, 64 KiB. Each answer under way holds one such piece.
	WriteBytes int
	// RequestTimeout is how long a session may be without its request. If zero, 30 s.
	RequestTimeout time.Duration
	// AddrHeaders are the headers that tell the client's address, the first one that
	// does so counts; of a list it is the last item, which the nearest proxy has added.
	// If nil, X-Real-Ip and X-Forwarded-For; if empty, none.
	AddrHeaders []string
	// Logger. If nil, slog.Default().
	Logger *slog.Logger
}

// Stats is a snapshot of an Adapter's counters.
type Stats struct {
	Requests  uint64 // that reached a handler
	Running   int64  // handlers now
	Malformed uint64 // sessions whose first chunk was no request, or never came
	Refused   uint64 // requests that we answered with 400, 413, 431 or 505
	Panics    uint64 // of handlers, http.ErrAbortHandler aside
	Cut       uint64 // sessions that failed while or after a handler ran
}

// Adapter has http.Handlers serve the events of workers, within its limits. It may be
// used by any number of goroutines and workers.
type Adapter struct {
	cfg     Config          // with defaults; immutable
	nowait  context.Context // has ended, with errNothingYet
	buffers sync.Pool       // of *buffers

	requests, malformed, refused, panics, cut atomic.Uint64
	running                                   atomic.Int64
}

var (
	errNothingYet = errors.New("gateway: nothing was received yet")
	errNoRequest  = errors.New("gateway: no request came in time")
)

// New returns an Adapter with the limits of cfg.
func New(cfg Config) *Adapter {
	cfg.MaxHeaderBytes = limit(cfg.MaxHeaderBytes, DefaultMaxHeaderBytes, math.MaxInt)
	cfg.MaxHeaders = limit(cfg.MaxHeaders, DefaultMaxHeaders, math.MaxInt)
	cfg.MaxBodyBytes = limit(cfg.MaxBodyBytes, DefaultMaxBodyBytes, math.MaxInt64)
	if cfg.WriteBytes <= 0 {
		cfg.WriteBytes = DefaultWriteBytes
	}
	cfg.RequestTimeout = limit(cfg.RequestTimeout, DefaultRequestTimeout, 100*365*24*time.Hour)
	if cfg.AddrHeaders == nil {
		cfg.AddrHeaders = []string{"X-Real-Ip", "X-Forwarded-For"}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	nowait, cancel := context.WithCancelCause(context.Background())
	cancel(errNothingYet)
	return &Adapter{cfg: cfg, nowait: nowait}
}

// limit returns v, the default if it is zero, or none if it is negative.
func limit[T int | int64 | time.Duration](v, byDefault, none T) T {
	switch {
	case v == 0:
		return byDefault
	case v < 0:
		return none
	}
	return v
}

// Handler returns h as the handler of a worker's event, with the default limits. A nil h
// is http.DefaultServeMux.
func Handler(h http.Handler) worker.Handler { return New(Config{}).Handler(h) }

// Handler returns h as the handler of a worker's event. A nil h is http.DefaultServeMux.
//
// A session whose first chunk is no request fails with [42, 207]. A handler's panic is
// logged, and answered with 500 if nothing was sent yet; otherwise, and always for
// http.ErrAbortHandler, the session fails with [42, 100].
func (a *Adapter) Handler(h http.Handler) worker.Handler {
	if h == nil {
		h = http.DefaultServeMux
	}
	return func(ctx context.Context, s *worker.Session) error { return a.serve(ctx, s, h) }
}

// Stats returns a snapshot. Any goroutine.
func (a *Adapter) Stats() Stats {
	return Stats{
		Requests: a.requests.Load(), Running: a.running.Load(), Malformed: a.malformed.Load(),
		Refused: a.refused.Load(), Panics: a.panics.Load(), Cut: a.cut.Load(),
	}
}

func (a *Adapter) serve(ctx context.Context, s *worker.Session, h http.Handler) error {
	chunk, err := a.firstChunk(ctx, s)
	if err != nil {
		a.malformed.Add(1)
		return err
	}
	x := &exchange{a: a, s: s, h: h}
	x.w.init(x, ctx)
	defer x.w.stop()
	t, err := parseTuple(chunk, &a.cfg)
	if err == nil {
		x.r, err = x.request(ctx, &t)
	}
	var no *refusal
	switch {
	case errors.As(err, &no):
		a.refused.Add(1)
		x.w.method = t.method
		http.Error(&x.w, no.Error(), no.status)
		return x.finish()
	case err != nil:
		a.malformed.Add(1)
		return worker.Errorf(session.CodeMalformed, "the first chunk is no HTTP request: %v", err)
	}
	x.w.method = t.method
	if err := x.run(); err != nil {
		a.cut.Add(1)
		return err
	}
	return nil
}

// firstChunk waits for the request.
func (a *Adapter) firstChunk(ctx context.Context, s *worker.Session) ([]byte, error) {
	chunk, err := s.Recv(a.nowait) // it usually came with the invoke
	if err == errNothingYet {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, a.cfg.RequestTimeout, errNoRequest)
		defer cancel()
		chunk, err = s.Recv(ctx)
	}
	var cut *session.Error
	switch {
	case err == nil:
		return chunk, nil
	case errors.Is(err, errNoRequest):
		return nil, worker.Errorf(session.CodeDeadline, "no HTTP request came within %v: send it as the session's first chunk",
			a.cfg.RequestTimeout)
	case errors.As(err, &cut), ctx.Err() != nil:
		return nil, err
	}
	return nil, worker.Errorf(session.CodeMalformed, "the session ended without an HTTP request: send it as the session's first chunk")
}

// exchange is one request and its answer: what they need is in one allocation.
type exchange struct {
	a    *Adapter
	s    *worker.Session
	h    http.Handler
	r    *http.Request
	body body
	w    reply
}

// run has the handler answer the request. Its error ends the session.
func (x *exchange) run() error {
	x.a.requests.Add(1)
	x.a.running.Add(1)
	defer x.a.running.Add(-1)
	if err := x.guarded(); err != nil {
		return err
	}
	return x.finish()
}

// guarded is ServeHTTP; a panic is an error, unless it could be answered with a 500. What
// runtime.Goexit did is the worker's business.
func (x *exchange) guarded() (err error) {
	returned := false
	defer func() {
		x.body.stop()
		if returned {
			return
		}
		if v := recover(); v != nil {
			err = x.panicked(v)
		}
	}()
	x.h.ServeHTTP(&x.w, x.r)
	returned = true
	return nil
}

func (x *exchange) panicked(v any) error {
	if v == any(http.ErrAbortHandler) {
		return worker.Errorf(session.CodePanic, "the handler aborted the answer")
	}
	x.a.panics.Add(1)
	x.a.cfg.Logger.Error("gateway: a handler panicked", "event", x.s.Event(), "method", x.r.Method, "uri", x.r.RequestURI,
		"panic", fmt.Sprint(v), "stack", string(debug.Stack()))
	if !x.w.reset() {
		return worker.Errorf(session.CodePanic, "the handler panicked while it answered")
	}
	http.Error(&x.w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
	return nil
}

// finish sends what is left of the answer.
func (x *exchange) finish() error {
	switch {
	case x.w.status != 0 || x.r == nil:
	case x.r.Context().Err() != nil: // the handler gave up: an empty 200 would be a lie
		return context.Cause(x.r.Context())
	case x.body.tooLarge.Load():
		http.Error(&x.w, tooLargeText(x.a.cfg.MaxBodyBytes), http.StatusRequestEntityTooLarge)
	}
	err := x.w.finish()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return worker.Errorf(session.CodeDeadline, "the answer could not be written before the write deadline")
	}
	return err
}

func tooLargeText(limit int64) string {
	return fmt.Sprintf("the body is longer than %d bytes", limit)
}

// buffers are what an answer is collected in. They are kept from answer to answer.
type buffers struct {
	body  []byte   // not sent yet
	pairs []byte   // of the head, packed
	out   []byte   // what is sent, if it is not as it lies
	keys  []string // of the head, sorted
}

func (a *Adapter) borrow() *buffers {
	if b, ok := a.buffers.Get().(*buffers); ok {
		return b
	}
	return &buffers{}
}

// giveBack keeps b, unless it has grown past its use.
func (a *Adapter) giveBack(b *buffers) {
	if cap(b.body)+cap(b.pairs)+cap(b.out) > 4*a.cfg.WriteBytes || cap(b.keys) > DefaultMaxHeaders {
		return
	}
	clear(b.keys[:cap(b.keys)])
	b.body, b.pairs, b.out, b.keys = b.body[:0], b.pairs[:0], b.out[:0], b.keys[:0]
	a.buffers.Put(b)
}

// isV0 reports whether pieces of bodies are packed.
func (x *exchange) isV0() bool { return x.s.Dialect() == codec.V0 }
