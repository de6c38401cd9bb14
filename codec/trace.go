package codec

import (
	"bytes"
	"encoding/binary"
)

// Trace identifies the request that a frame belongs to, across services. The zero
// Trace is none.
type Trace struct {
	ID     uint64 // of the whole request, not 0
	Span   uint64 // of the call that the frame belongs to, not 0
	Parent uint64 // of the span that made the call, 0 for the first
}

// traceNames are the names of the trace headers: of ID, Span and Parent.
var traceNames = [...][]byte{[]byte("trace_id"), []byte("span_id"), []byte("parent_id")}

// TraceOf returns the trace in the headers h, or false if there is none: fewer
// than three of its headers, one that is not 8 bytes, all of them zero, or an ID
// or Span of zero beside others, which C++ runtimes refuse. The first of several
// headers with the same name counts.
func TraceOf(h []Header) (Trace, bool) {
	id, ok1 := number(h, traceNames[0])
	span, ok2 := number(h, traceNames[1])
	parent, ok3 := number(h, traceNames[2])
	if !ok1 || !ok2 || !ok3 || id == 0 || span == 0 {
		return Trace{}, false
	}
	return Trace{ID: id, Span: span, Parent: parent}, true
}

// AppendHeaders appends the three headers of t to dst and returns the result; none
// if t has no ID or no Span, since a peer would close the connection over it. The
// values are in scratch, which must stay as it is until the headers are encoded;
// the names are shared and must not be changed.
func (t Trace) AppendHeaders(dst []Header, scratch *[24]byte) []Header {
	if t.ID == 0 || t.Span == 0 {
		return dst
	}
	binary.LittleEndian.PutUint64(scratch[0:], t.ID)
	binary.LittleEndian.PutUint64(scratch[8:], t.Span)
	binary.LittleEndian.PutUint64(scratch[16:], t.Parent)
	return append(dst,
		Header{Name: traceNames[0], Value: scratch[0:8:8]},
		Header{Name: traceNames[1], Value: scratch[8:16:16]},
		Header{Name: traceNames[2], Value: scratch[16:24:24]},
	)
}

// number returns the value of the first header of that name, if it is a number.
func number(h []Header, name []byte) (uint64, bool) {
	for i := range h {
		if bytes.Equal(h[i].Name, name) {
			if len(h[i].Value) != 8 {
				return 0, false
			}
			return binary.LittleEndian.Uint64(h[i].Value), true
		}
	}
	return 0, false
}
