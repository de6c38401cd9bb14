package session

import (
	"context"

	"github.com/sluice-rpc/sluice/codec"
)

// traceKey is the key of a context's trace.
type traceKey struct{}

// WithTrace returns a context of the request t. Workers and services serve a request that
// has a trace under such a context, and calls made under it are part of the request.
func WithTrace(ctx context.Context, t codec.Trace) context.Context {
	return context.WithValue(ctx, traceKey{}, t)
}

// TraceFrom returns the trace of a context, or false if it has none.
func TraceFrom(ctx context.Context) (codec.Trace, bool) {
	t, _ := ctx.Value(traceKey{}).(codec.Trace)
	if t.ID == 0 || t.Span == 0 {
		return codec.Trace{}, false
	}
	return t, true
}

// withTrace is WithTrace for the headers that a session was opened with.
func (s *Session) withTrace(ctx context.Context) context.Context {
	if len(s.headers) == 0 {
		return ctx
	}
	if t, ok := codec.TraceOf(s.headers); ok {
		return WithTrace(ctx, t)
	}
	return ctx
}
