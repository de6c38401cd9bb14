package engine

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"time"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/service"
)

// logRecord is one record of the logging service. It is immutable.
type logRecord struct {
	at       time.Time
	severity int64  // of v1, whatever dialect it came in
	args     []byte // [severity, source, message, ([[key, value]...])] as it came, our copy
}

// badEmit says why the arguments of an emit make no sense, in the words of runtime 0.11,
// which is what a client of v0 gets.
type badEmit string

func (e badEmit) Error() string { return string(e) }

const badType = badEmit("argument type mismatch")

// checkEmit reads the arguments of an emit as strictly as the C++ runtime does: a severity
// of any size, two strings, and perhaps a list of attributes [key, value] (protocol:
// logging). The severity is returned as v1 has it.
func checkEmit(d codec.Dialect, args []byte) (severity int64, err error) {
	r := codec.NewReader(args)
	if n := r.Len(); r.Err() == nil && n < 3 {
		return 0, badEmit(fmt.Sprintf("argument sequence length mismatch - expected at least 3, got %d", n))
	}
	severity = max(min(r.Int64(), math.MaxInt32), math.MinInt32)
	if d == codec.V0 {
		severity = 4 - severity
	}
	r.Bytes()
	r.Bytes()
	if d == codec.V1 && r.Len() > 0 {
		err = checkAttributes(&r)
	}
	if err = cmp.Or(r.Err(), err); err == nil {
		return severity, nil
	}
	if d == codec.V0 {
		return 0, badType
	}
	return 0, fmt.Errorf("%w: %w", badType, err)
}

// checkAttributes reads a list of attributes. An error is returned, or left in r.
func checkAttributes(r *codec.Reader) error {
	for range r.ArrayLen() {
		if n := r.ArrayLen(); r.Err() == nil && n != 2 {
			return fmt.Errorf("an attribute of %d items, want [key, value]", n)
		}
		r.Bytes()
		if kind := r.Peek(); r.Err() == nil && !isAttribute(kind) {
			return fmt.Errorf("an attribute whose value is a %v, want a string, a number or a boolean", kind)
		}
		r.Skip()
	}
	return nil
}

// isAttribute reports whether the value of an attribute may be of that kind (protocol:
// logging).
func isAttribute(k codec.ValueKind) bool {
	switch k {
	case codec.RawValue, codec.BoolValue, codec.UintValue, codec.IntValue, codec.FloatValue:
		return true
	}
	return false
}

// shortened returns args, which checkEmit has accepted, in at most about maxBytes: the
// source and the beginning of the message, and how long all of it was.
func shortened(args []byte, maxBytes int) []byte {
	r := codec.NewReader(args)
	severity, source, message := r.Int64(), r.Bytes(), r.Bytes()
	source = source[:min(len(source), maxBytes/4)]
	message = message[:min(len(message), maxBytes/2)]
	dst := make([]byte, 0, len(source)+len(message)+64)
	dst = appendEmitHead(dst, severity, string(source), string(message), 1)
	dst = codec.AppendArrayHeader(dst, 2)
	dst = codec.AppendString(dst, "shortened_from_bytes")
	return codec.AppendInt(dst, int64(len(args)))
}

// appendEmitHead appends the arguments of an emit up to its attributes, of which n follow.
func appendEmitHead(dst []byte, severity int64, source, message string, n int) []byte {
	dst = codec.AppendArrayHeader(dst, 4)
	dst = codec.AppendInt(dst, severity)
	dst = codec.AppendString(dst, source)
	dst = codec.AppendString(dst, message)
	return codec.AppendArrayHeader(dst, n)
}

// appendAttribute appends [key, value]; what the protocol has no form for becomes text.
func appendAttribute(dst []byte, a slog.Attr) []byte {
	dst = codec.AppendArrayHeader(dst, 2)
	dst = codec.AppendString(dst, a.Key)
	switch v := a.Value.Resolve(); v.Kind() {
	case slog.KindBool:
		return codec.AppendBool(dst, v.Bool())
	case slog.KindInt64:
		return codec.AppendInt(dst, v.Int64())
	case slog.KindUint64:
		return codec.AppendUint(dst, v.Uint64())
	case slog.KindFloat64:
		return codec.AppendFloat64(dst, v.Float64())
	default:
		return codec.AppendString(dst, v.String())
	}
}

// read returns the parts of the record. source and message are borrowed from it; behind
// them attributes returns a reader in front of the list, if there is one.
func (l *logRecord) read() (source, message []byte, attributes codec.Reader) {
	r := codec.NewReader(l.args)
	r.Skip()
	return r.Bytes(), r.Bytes(), r
}

// from reports whether the record is of a source, or of one below it: "app" has "app/echo".
func (l *logRecord) from(want string) bool {
	if want == "" {
		return true
	}
	source, _, _ := l.read()
	below, ok := strings.CutPrefix(string(source), want)
	return ok && (below == "" || below[0] == '/' || strings.HasSuffix(want, "/"))
}

// handle gives the record to h. The attributes are a group of their own, so that none of
// them can be taken for ours.
func (l *logRecord) handle(h slog.Handler) error {
	level := service.Level(codec.V1, int(l.severity))
	if !h.Enabled(context.Background(), level) {
		return nil
	}
	source, message, r := l.read()
	record := slog.NewRecord(l.at, level, string(message), 0)
	record.AddAttrs(slog.String("source", string(source)))
	if l.severity < 0 || l.severity > 3 {
		record.AddAttrs(slog.Int64("severity", l.severity))
	}
	if r.Len() > 0 {
		attrs := make([]slog.Attr, 0, 8)
		for range r.ArrayLen() {
			r.ArrayLen()
			attrs = append(attrs, slog.Attr{Key: r.String(), Value: readAttribute(&r)})
		}
		record.AddAttrs(slog.Attr{Key: "attrs", Value: slog.GroupValue(attrs...)})
	}
	return h.Handle(context.Background(), record)
}

func readAttribute(r *codec.Reader) slog.Value {
	switch r.Peek() {
	case codec.BoolValue:
		return slog.BoolValue(r.Bool())
	case codec.UintValue:
		return slog.Uint64Value(r.Uint64())
	case codec.IntValue:
		return slog.Int64Value(r.Int64())
	case codec.FloatValue:
		return slog.Float64Value(r.Float64())
	default:
		return slog.StringValue(r.String())
	}
}
