package service

import (
	"context"
	"math"
	"math/rand/v2"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// Trace identifies the request that a call belongs to, across services (protocol:
// headers). The zero Trace is none. It has the fields of a codec.Trace and converts to it.
type Trace struct {
	ID     uint64 // of the whole request, not 0
	Span   uint64 // of this call, not 0
	Parent uint64 // of the span that made the call, 0 for the first
}

// NewTrace returns the trace of a new request: a random ID of 1 to 2^63-2, a span of the
// same number, and no parent, as the C++ runtime makes them. Any goroutine may call it.
func NewTrace() Trace {
	id := newSpan()
	return Trace{ID: id, Span: id}
}

// newSpan returns a number of 1 to 2^63-2.
func newSpan() uint64 { return 1 + rand.Uint64N(math.MaxInt64-1) }

// Child returns the trace of a call that is made while t is served: the same request, a
// new span, and t's as its parent. That of an invalid trace is the zero Trace.
func (t Trace) Child() Trace {
	if !t.Valid() {
		return Trace{}
	}
	return Trace{ID: t.ID, Span: newSpan(), Parent: t.Span}
}

// Valid reports whether t can be sent: it has an ID and a span.
func (t Trace) Valid() bool { return t.ID != 0 && t.Span != 0 }

// String returns the ID as the runtimes show it: 16 hex digits.
func (t Trace) String() string {
	const digits = "0123456789abcdef"
	var text [16]byte
	for i := range text {
		text[i] = digits[t.ID>>(60-4*i)&15]
	}
	return string(text[:])
}

// AppendTraceHeaders appends the three headers of t to dst and returns the result: each
// 8 bytes, little-endian. An invalid trace has none, since runtimes close the connection
// over one (protocol: headers). The values are 24 new bytes that belong to
// the headers; where that is too much, codec.Trace.AppendHeaders takes them from the
// caller.
func AppendTraceHeaders(dst []codec.Header, t Trace) []codec.Header {
	if !t.Valid() {
		return dst
	}
	return codec.Trace(t).AppendHeaders(dst, new([24]byte))
}

// TraceOf returns the trace in the headers of a frame, by the rules of codec.TraceOf.
func TraceOf(h []codec.Header) (Trace, bool) {
	t, ok := codec.TraceOf(h)
	return Trace(t), ok
}

// WithTrace returns a context of the request t. Calls made under it are sent as children
// of t, and what is logged under it says its ID. The context of a worker's handler and of
// a service's method has the trace of the request that it serves. An invalid t takes the
// trace away.
func WithTrace(ctx context.Context, t Trace) context.Context {
	return session.WithTrace(ctx, codec.Trace(t))
}

// TraceFrom returns the trace of a context, or false if it has none.
func TraceFrom(ctx context.Context) (Trace, bool) {
	t, ok := session.TraceFrom(ctx)
	return Trace(t), ok
}
