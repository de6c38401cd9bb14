package service

import (
	"encoding"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sluice-rpc/sluice/codec"
)

// Limits of the attributes of one log record.
const (
	// MaxLogAttrs of one record; what is beyond is left out.
	MaxLogAttrs = 256
	// MaxLogValueBytes of one attribute's text; what is beyond is cut off.
	MaxLogValueBytes = 16 << 10
	// MaxLogGroups is how deep groups of attributes may be nested.
	MaxLogGroups = 16
)

// cutMark stands at the end of a text that was cut.
const cutMark = "…"

// attrEncoder encodes the attributes of one record as they go on the wire: in v1 as
// [key, value] with a value that is raw, double, unsigned, signed or bool, in v0 as text
// behind the message (protocol: logging). All others become text; groups become keys with
// dots. It belongs to one call of the Logger at a time.
type attrEncoder struct {
	dialect codec.Dialect
	message []byte
	base    logAttrs // which come first
	buf     []byte   // those that were encoded here
	limit   int      // bytes of buf
	n       int      // attributes in base and buf
	cut     bool     // something was left out or shortened
	prefix  []byte   // of keys: the open groups, each with a dot
	key     []byte   // scratch
	text    []byte   // scratch
}

// logAttrs are encoded attributes. They are immutable.
type logAttrs struct {
	bytes []byte
	n     int
	cut   bool
}

// reset makes e ready for a record of at most so many bytes.
func (e *attrEncoder) reset(d codec.Dialect, limit int, message string, base logAttrs, prefix string) {
	*e = attrEncoder{
		dialect: d, base: base, n: base.n, cut: base.cut,
		message: e.message[:0], prefix: append(e.prefix[:0], prefix...),
		buf: e.buf[:0], key: e.key[:0], text: e.text[:0],
	}
	if len(message) <= limit {
		e.message = append(e.message, message...)
	} else {
		e.message = append(e.message, message[:runeStart(message, max(limit-len(cutMark), 0))]...)
		e.message = append(e.message, cutMark...)
		e.cut = true
	}
	e.limit = limit - len(message) - len(base.bytes)
}

// keeps returns how much memory e keeps.
func (e *attrEncoder) keeps() int {
	return cap(e.message) + cap(e.buf) + cap(e.prefix) + cap(e.key) + cap(e.text)
}

// attrs returns the attributes that were encoded, those of base included.
func (e *attrEncoder) attrs() logAttrs {
	return logAttrs{bytes: append(slices.Clip(e.base.bytes), e.buf...), n: e.n, cut: e.cut}
}

// record returns the pieces of a record, which are e's.
func (e *attrEncoder) record(level slog.Level, source string) logRecord {
	r := logRecord{severity: Severity(e.dialect, level), source: source}
	if e.dialect == codec.V0 {
		e.message = append(append(e.message, e.base.bytes...), e.buf...)
	} else {
		r.attrs, r.base, r.own = e.n, e.base.bytes, e.buf
	}
	r.message = e.message
	return r
}

// trace encodes the ID of a trace, outside of all groups.
func (e *attrEncoder) trace(t Trace) {
	groups := e.prefix
	e.prefix = nil
	e.leaf("trace_id", slog.StringValue(t.String()))
	e.prefix = groups
}

// attr encodes an attribute of the groups that are open, and what is in it if it is a
// group.
func (e *attrEncoder) attr(a slog.Attr, depth int) {
	v := a.Value.Resolve()
	switch {
	case v.Kind() != slog.KindGroup:
		if a.Key != "" || !v.Equal(slog.Value{}) {
			e.leaf(a.Key, v)
		}
		return
	case depth == MaxLogGroups:
		e.leaf(a.Key, slog.StringValue("!nested deeper than "+strconv.Itoa(MaxLogGroups)))
		return
	}
	outer := len(e.prefix)
	if a.Key != "" {
		e.prefix = append(append(e.prefix, a.Key...), '.')
	}
	for _, inner := range v.Group() {
		if e.full() {
			break
		}
		e.attr(inner, depth+1)
	}
	e.prefix = e.prefix[:outer]
}

// full reports whether no more attributes fit, and remembers that one was left out.
func (e *attrEncoder) full() bool {
	if e.n >= MaxLogAttrs || len(e.buf) >= e.limit {
		e.cut = true
		return true
	}
	return false
}

// leaf encodes one attribute, or nothing if there is no room.
func (e *attrEncoder) leaf(key string, v slog.Value) {
	if e.full() || len(e.prefix)+len(key) > e.limit {
		e.cut = true
		return
	}
	e.key = append(append(e.key[:0], e.prefix...), key...)
	before := len(e.buf)
	if e.dialect == codec.V0 {
		e.buf = appendQuoted(append(e.buf, ' '), e.key)
		e.buf = appendQuoted(append(e.buf, '='), e.textOf(v))
	} else {
		e.buf = codec.AppendRaw(codec.AppendArrayHeader(e.buf, 2), e.key)
		e.value(v)
	}
	if len(e.buf) > e.limit {
		e.buf, e.cut = e.buf[:before], true
		return
	}
	e.n++
}

// value appends a value for the wire.
func (e *attrEncoder) value(v slog.Value) {
	switch v.Kind() {
	case slog.KindInt64:
		e.buf = codec.AppendInt(e.buf, v.Int64())
	case slog.KindUint64:
		e.buf = codec.AppendUint(e.buf, v.Uint64())
	case slog.KindFloat64:
		e.buf = codec.AppendFloat64(e.buf, v.Float64())
	case slog.KindBool:
		e.buf = codec.AppendBool(e.buf, v.Bool())
	default:
		e.buf = codec.AppendRaw(e.buf, e.textOf(v))
	}
}

// textOf returns a value as text, which is good until the next call.
func (e *attrEncoder) textOf(v slog.Value) []byte {
	switch v.Kind() {
	case slog.KindString:
		e.text = append(e.text[:0], e.short(v.String())...)
	case slog.KindInt64:
		e.text = strconv.AppendInt(e.text[:0], v.Int64(), 10)
	case slog.KindUint64:
		e.text = strconv.AppendUint(e.text[:0], v.Uint64(), 10)
	case slog.KindFloat64:
		e.text = strconv.AppendFloat(e.text[:0], v.Float64(), 'g', -1, 64)
	case slog.KindBool:
		e.text = strconv.AppendBool(e.text[:0], v.Bool())
	case slog.KindTime:
		e.text = v.Time().AppendFormat(e.text[:0], time.RFC3339Nano)
	case slog.KindDuration:
		e.text = append(e.text[:0], v.Duration().String()...)
	default:
		e.text = appendAny(e.text[:0], v.Any())
	}
	if len(e.text) > MaxLogValueBytes {
		e.text = append(e.text[:runeStart(e.text, MaxLogValueBytes-len(cutMark))], cutMark...)
		e.cut = true
	}
	return e.text
}

// short returns as much of a text as textOf can need.
func (e *attrEncoder) short(s string) string { return s[:min(len(s), MaxLogValueBytes+1)] }

// appendAny appends what kind of value ever as text, and survives the code of its type.
func appendAny(dst []byte, v any) (result []byte) {
	defer func() {
		if p := recover(); p != nil {
			result = fmt.Appendf(dst, "!PANIC: %v", p)
		}
	}()
	switch v := v.(type) {
	case []byte:
		return append(dst, v[:min(len(v), MaxLogValueBytes+1)]...)
	case encoding.TextMarshaler:
		text, err := v.MarshalText()
		if err != nil {
			return fmt.Appendf(dst, "!ERROR: %v", err)
		}
		return append(dst, text...)
	}
	return fmt.Appendf(dst, "%+v", v)
}

// runeStart returns at or not far below n where a rune of b begins.
func runeStart[T string | []byte](b T, n int) int {
	for back := range min(n, utf8.UTFMax) {
		if utf8.RuneStart(b[n-back]) {
			return n - back
		}
	}
	return n
}

// appendQuoted appends a key or a value as slog's text handler writes it: quoted if it
// could be taken for something else.
func appendQuoted(dst, text []byte) []byte {
	plain := len(text) > 0
	for rest := text; plain && len(rest) > 0; {
		r, size := utf8.DecodeRune(rest)
		plain = r != utf8.RuneError && r != '"' && r != '=' && !unicode.IsSpace(r) && unicode.IsPrint(r)
		rest = rest[size:]
	}
	if plain {
		return append(dst, text...)
	}
	return strconv.AppendQuote(dst, string(text))
}
