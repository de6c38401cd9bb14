package session_test

import (
	"encoding/hex"
	"testing"
	"testing/synctest"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/session"
)

// The context of a session has the trace that it was opened with: three headers or none.
func TestTrace(t *testing.T) {
	whole := codec.Trace{ID: 1, Span: 2, Parent: 3}
	for name, tt := range map[string]struct {
		headers []codec.Header
		want    bool
	}{
		"a trace":      {whole.AppendHeaders(nil, new([24]byte)), true},
		"none":         {nil, false},
		"two of three": {whole.AppendHeaders(nil, new([24]byte))[:2], false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, codec.V1, session.Worker)
				var got codec.Trace
				var ok bool
				r.owner.invoke = func(s *session.Session) {
					ctx, cancel := s.Bind(t.Context())
					defer cancel()
					got, ok = session.TraceFrom(ctx)
				}
				f := codec.Frame{Kind: codec.KindInvoke, Session: 2, Text: "e", Headers: tt.headers}
				r.send("raw " + hex.EncodeToString(codec.AppendFrame(nil, codec.V1, &f)))
				if ok != tt.want || ok && got != whole {
					t.Errorf("TraceFrom() = %v, %v, want %v", got, ok, tt.want)
				}
			})
		})
	}
	if _, ok := session.TraceFrom(session.WithTrace(t.Context(), codec.Trace{ID: 1})); ok {
		t.Error("a trace without a span is one")
	}
}
