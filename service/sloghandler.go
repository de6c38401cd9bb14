package service

import (
	"context"
	"log/slog"
)

// logHandler is the slog.Handler of a Logger. It is immutable.
type logHandler struct {
	l      *Logger
	base   logAttrs
	prefix string // of keys: the open groups, each with a dot
}

// Handler returns a slog.Handler that logs to l: by the levels, attributes and groups of
// Logger.Log. A record under a context with a Trace gets its ID as the attribute trace_id.
// Handle never waits and never fails.
func (l *Logger) Handler() slog.Handler { return &logHandler{l: l} }

// Enabled reports whether the service keeps records of that level.
func (h *logHandler) Enabled(_ context.Context, level slog.Level) bool { return h.l.Enabled(level) }

// Handle logs a record, of which it keeps nothing.
func (h *logHandler) Handle(ctx context.Context, r slog.Record) error {
	e := h.l.core.encoder(r.Message, h.base, h.prefix)
	if t, ok := TraceFrom(ctx); ok {
		e.trace(t)
	}
	r.Attrs(func(a slog.Attr) bool {
		e.attr(a, 0)
		return true
	})
	h.l.core.put(r.Time, r.Level, h.l.source, e)
	return nil
}

// WithAttrs returns a handler of which every record has these attributes, too. They are
// encoded now.
func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	if len(attrs) == 0 {
		return h
	}
	e := h.l.core.encoder("", h.base, h.prefix)
	for _, a := range attrs {
		e.attr(a, 0)
	}
	base := e.attrs()
	h.l.core.release(e)
	return &logHandler{l: h.l, base: base, prefix: h.prefix}
}

// WithGroup returns a handler that puts the name and a dot before the keys of attributes
// to come.
func (h *logHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	return &logHandler{l: h.l, base: h.base, prefix: h.prefix + name + "."}
}
