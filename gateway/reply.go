package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
	"github.com/sluice-rpc/sluice/worker"
)

// errFinished is what a Write behind the end of the answer gets.
var errFinished = errors.New("gateway: the answer has ended")

// reply is the http.ResponseWriter of one request. As in net/http it is for one goroutine
// at a time, and dead when the handler has returned. Deadlines are for any goroutine.
type reply struct {
	x       *exchange
	wait    deadline
	method  string
	header  http.Header
	status  int // 0 before WriteHeader
	head    head
	written int64    // by the handler
	buffers *buffers // nil when the answer has ended
	sent    bool     // the head was
	err     error    // of the first send that failed: nothing can follow it
}

func (w *reply) init(x *exchange, ctx context.Context) {
	w.x, w.buffers, w.header = x, x.a.borrow(), make(http.Header)
	w.wait.parent = ctx
}

// stop is the end of the handler.
func (w *reply) stop() {
	w.wait.stop(errFinished)
	w.release()
}

func (w *reply) release() {
	if w.buffers != nil {
		w.x.a.giveBack(w.buffers)
		w.buffers = nil
	}
}

// reset forgets the answer so far; it reports false if some of it was sent.
func (w *reply) reset() bool {
	if w.sent || w.err != nil || w.buffers == nil {
		return false
	}
	w.header, w.status, w.head, w.written = make(http.Header), 0, head{}, 0
	w.buffers.body, w.buffers.pairs, w.buffers.keys = w.buffers.body[:0], w.buffers.pairs[:0], w.buffers.keys[:0]
	return true
}

// Header returns the headers to be sent by WriteHeader.
func (w *reply) Header() http.Header { return w.header }

// WriteHeader settles status and headers. It panics, as net/http does, if the status has
// not three digits.
func (w *reply) WriteHeader(status int) {
	switch {
	case w.buffers == nil || w.status != 0:
		w.x.a.cfg.Logger.Warn("gateway: superfluous WriteHeader", "status", status, "caller", caller())
		return
	case status < 100 || status > 999:
		panic(fmt.Sprintf("invalid WriteHeader code %v", status))
	case status == http.StatusSwitchingProtocols:
		w.x.a.cfg.Logger.Warn("gateway: a session cannot switch protocols; answered 501", "caller", caller())
		status = http.StatusNotImplemented
	case status < 200:
		return // informational: the protocol has no room for it
	}
	w.status = status
	w.packHeader()
}

// caller returns the first function on the stack outside of this package, for the log.
func caller() string {
	var pcs [16]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs[:])])
	for {
		f, more := frames.Next()
		if !strings.Contains(f.Function, "/gateway.(*reply)") || !more {
			return fmt.Sprintf("%s (%s:%d)", f.Function, f.File, f.Line)
		}
	}
}

// admit is the beginning of every write of n bytes.
func (w *reply) admit(n int) error {
	if w.buffers == nil {
		return errFinished
	}
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	switch {
	case w.err != nil:
		return w.err
	case n > 0 && !bodyAllowed(w.status):
		return http.ErrBodyNotAllowed
	case w.head.length != unknown && w.written+int64(n) > w.head.length:
		return http.ErrContentLength
	}
	w.written += int64(n)
	return nil
}

// Write adds to the body. It is sent in pieces of Config.WriteBytes, when it is flushed,
// and when the handler has returned. p is copied.
func (w *reply) Write(p []byte) (int, error) {
	if err := w.admit(len(p)); err != nil {
		return 0, err
	}
	return put(w, p)
}

// WriteString is Write.
func (w *reply) WriteString(s string) (int, error) {
	if err := w.admit(len(s)); err != nil {
		return 0, err
	}
	return put(w, s)
}

// put collects p. A full piece is sent when more comes, so that an answer of just one
// still gets its length.
func put[B []byte | string](w *reply, p B) (n int, err error) {
	size := w.x.a.cfg.WriteBytes
	for n < len(p) {
		if len(w.buffers.body) == size {
			if err := w.flush(false); err != nil {
				return n, err
			}
		}
		part := p[n:min(len(p), n+size-len(w.buffers.body))]
		w.buffers.body = append(w.buffers.body, part...)
		n += len(part)
	}
	return n, nil
}

// ReadFrom is Write of all that src has, with no buffer between.
func (w *reply) ReadFrom(src io.Reader) (n int64, err error) {
	if err := w.admit(0); err != nil {
		return 0, err
	}
	if !bodyAllowed(w.status) || w.head.length != unknown {
		return io.Copy(writerOnly{w}, src) // which knows what may not be written
	}
	size := w.x.a.cfg.WriteBytes
	for {
		b := w.buffers
		if len(b.body) == size {
			if err := w.flush(false); err != nil {
				return n, err
			}
		}
		if free := cap(b.body) - len(b.body); free < 512 && cap(b.body) < size {
			b.body = append(make([]byte, 0, min(size, max(4096, 4*cap(b.body)))), b.body...)
		}
		got, err := src.Read(b.body[len(b.body):min(cap(b.body), size)])
		b.body = b.body[:len(b.body)+got]
		n, w.written = n+int64(got), w.written+int64(got)
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

// writerOnly hides ReadFrom from io.Copy.
type writerOnly struct{ io.Writer }

// Flush sends what was written so far.
func (w *reply) Flush() { _ = w.FlushError() }

// FlushError is Flush for http.ResponseController.
func (w *reply) FlushError() error {
	if err := w.admit(0); err != nil {
		return err
	}
	return w.flush(false)
}

// SetReadDeadline is for http.ResponseController: it wakes reads of the request's body.
func (w *reply) SetReadDeadline(t time.Time) error {
	w.x.body.wait.set(t)
	return nil
}

// SetWriteDeadline is for http.ResponseController: after it nothing of the answer waits
// for room any more, and the session fails.
func (w *reply) SetWriteDeadline(t time.Time) error {
	w.wait.set(t)
	return nil
}

// EnableFullDuplex is for http.ResponseController. It always is.
func (w *reply) EnableFullDuplex() error { return nil }

// flush sends the head, if it was not sent yet, and what is there of the body.
func (w *reply) flush(done bool) error {
	b := w.buffers
	if !w.sent && w.err == nil {
		b.out = w.appendHead(b.out[:0], b.body, done)
		w.send(b.out)
		w.sent = true
	}
	if len(b.body) > 0 && w.method != http.MethodHead {
		w.sendPiece(b.body)
	}
	b.body = b.body[:0]
	return w.err
}

// sendPiece sends a piece of the body; in v0 it is packed.
func (w *reply) sendPiece(p []byte) {
	if w.x.isV0() {
		w.buffers.out = codec.AppendRaw(w.buffers.out[:0], p)
		p = w.buffers.out
	}
	w.send(p)
}

func (w *reply) send(p []byte) {
	if w.err == nil {
		w.err = w.x.s.Send(w.wait.context(), p)
	}
}

// finish ends the answer. If it is called again it returns the same.
func (w *reply) finish() error {
	if w.buffers == nil {
		return w.err
	}
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	err := w.flush(true)
	short := w.head.length != unknown && w.written != w.head.length && w.method != http.MethodHead
	switch {
	case err != nil:
	case short:
		w.err = worker.Errorf(session.CodeFailed, "the handler declared a Content-Length of %d and wrote %d bytes", w.head.length, w.written)
	case w.head.early:
		w.sendPiece(nil)
	}
	w.release()
	return w.err
}

// Finish ends the answer of a handler that works on: the client has all of it as soon as
// the proxy has, while the session, and with it the worker's load and the request's
// context, lasts until the handler returns. It marks the answer with the header
// X-Cocaine-HTTP-Proto-Version: 1.1 and ends it with an empty chunk (protocol: HTTP over
// Cocaine, reply). A proxy that does not know the header, as the one in C++ does not, goes
// on waiting.
//
// w may be wrapped, if the wrapper has an Unwrap method. It is an error if the head was
// sent without that header, because the handler flushed or wrote much: set the header
// before. An answer with the header ends with an empty chunk also without Finish.
func Finish(w http.ResponseWriter) error {
	for {
		switch v := w.(type) {
		case *reply:
			return v.finishEarly()
		case interface{ Unwrap() http.ResponseWriter }:
			w = v.Unwrap()
		default:
			return fmt.Errorf("gateway: Finish: %T is no answer of a worker: %w", w, http.ErrNotSupported)
		}
	}
}

func (w *reply) finishEarly() error {
	switch {
	case w.buffers == nil || w.head.early:
	case w.sent:
		return errors.New("gateway: Finish: the head was sent without " + protoVersion + ": " + earlyEnd + ": set this header before")
	case w.status == 0:
		w.header.Set(protoVersion, earlyEnd)
	default:
		w.pack(protoVersion, earlyEnd)
		w.head.early = true
	}
	err := w.finish()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("gateway: Finish: %w", err)
	}
	return err
}
