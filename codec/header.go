package codec

import "strconv"

// Header is one header of a frame in V1, for example request_timeout. Peers send
// it as [store, name, value], or short as a number in a table of headers.
//
// Numbers in a value are 8 bytes, little-endian.
type Header struct{ Name, Value []byte }

// CloneHeaders returns a copy of h that borrows nothing; nil if h is empty.
func CloneHeaders(h []Header) []Header {
	if len(h) == 0 {
		return nil
	}
	list := make([]Header, len(h))
	for i := range h {
		list[i] = Header{Name: append([]byte(nil), h[i].Name...), Value: append([]byte(nil), h[i].Value...)}
	}
	return list
}

// noTrace is the header array of a frame without trace from the C++ runtime: the
// three trace headers, all zero. That runtime has it at the end of every frame.
const noTrace = "\x93" +
	"\x93\xc2\xa8trace_id\xa8\x00\x00\x00\x00\x00\x00\x00\x00" +
	"\x93\xc2\xa7span_id\xa8\x00\x00\x00\x00\x00\x00\x00\x00" +
	"\x93\xc2\xa9parent_id\xa8\x00\x00\x00\x00\x00\x00\x00\x00"

// maxScratch is how much memory a HeaderDecoder keeps for the next frame. With the
// default limits it never needs more.
const maxScratch = 16 << 10

// HeaderDecoder expands the headers of one direction of one connection. Peers may
// refer to headers of earlier frames: every frame's headers must be decoded, in
// order, also those of frames that are then dropped. The zero value is ready, with
// the default limits.
type HeaderDecoder struct {
	maxHeaders int // 0 until Init: the defaults
	maxBytes   int
	table      *dynamicTable // nil until the peer stores the first header
	scratch    []byte        // what the last result borrowed from the table
	err        *FrameError   // the end of the stream
}

// Init makes d ready for a new stream, with MaxHeaders and MaxHeaderBytes of l.
func (d *HeaderDecoder) Init(l Limits) {
	*d = HeaderDecoder{}
	d.SetLimits(l)
}

// SetLimits changes MaxHeaders and MaxHeaderBytes for the frames to come.
func (d *HeaderDecoder) SetLimits(l Limits) {
	l = l.WithDefaults()
	d.maxHeaders, d.maxBytes = l.MaxHeaders, l.MaxHeaderBytes
}

// Decode appends the headers in raw, as they are in Message.Headers, to dst and
// returns the result. A constant trace of zeros, which stands for no trace, adds
// none. The headers are borrowed: until the next Decode, or until the buffer is
// gone in which raw lies.
//
// The limits hold for the headers of one call, as decoded. An error is a
// *FrameError of CodeBadHeader whose Offset counts from the beginning of raw. It is
// final: the tables of the two sides no longer agree.
func (d *HeaderDecoder) Decode(raw []byte, dst []Header) ([]Header, error) {
	if d.err != nil {
		return dst, d.err
	}
	if len(raw) == 0 || string(raw) == noTrace {
		return dst, nil
	}
	if d.maxHeaders == 0 {
		d.SetLimits(Limits{})
	}
	r := NewReader(raw)
	if n := r.Len(); n > d.maxHeaders {
		return dst, d.fail(0, strconv.Itoa(n)+" headers, limit "+strconv.Itoa(d.maxHeaders))
	}
	result := dst
	if d.scratch = d.scratch[:0]; cap(d.scratch) > maxScratch {
		d.scratch = nil
	}
	for room := d.maxBytes; r.Len() > 0; {
		from := r.pos
		h, store := d.header(&r)
		if r.err != nil {
			break
		}
		if room -= len(h.Name) + len(h.Value); room < 0 {
			return dst, d.fail(from, "headers of more than "+strconv.Itoa(d.maxBytes)+" bytes")
		}
		if store {
			if d.table == nil {
				d.table = new(dynamicTable)
			}
			d.table.insert(h)
		}
		result = append(result, h)
	}
	if r.err == nil && len(r.Rest()) > 0 {
		r.fail("bytes behind the headers")
	}
	if r.err != nil {
		return dst, d.fail(r.err.Offset, r.err.Detail)
	}
	return result, nil
}

// header reads one header, and whether the peer wants it stored. Errors are r's.
func (d *HeaderDecoder) header(r *Reader) (h Header, store bool) {
	if r.Peek() == UintValue {
		known := d.lookup(r)
		return Header{Name: d.keep(known.Name), Value: d.keep(known.Value)}, false
	}
	at := r.pos
	if r.ArrayLen() != 3 {
		r.failAt(at, "header of other than 3 elements")
	}
	store = r.Bool()
	if r.Peek() == UintValue {
		h.Name = d.keep(d.lookup(r).Name)
	} else {
		h.Name = r.Bytes()
	}
	h.Value = r.Bytes()
	return h, store
}

// lookup reads a number and returns the header that it stands for.
func (d *HeaderDecoder) lookup(r *Reader) Header {
	at := r.pos
	i := r.Uint64()
	if 0 < i && i < staticSize {
		return staticTable[i]
	}
	if i >= staticSize {
		if h, ok := d.table.at(i - staticSize); ok {
			return h
		}
	}
	r.failAt(at, "no header has the number "+strconv.FormatUint(i, 10))
	return Header{}
}

// keep copies bytes of a table, which may change before the result dies.
func (d *HeaderDecoder) keep(b []byte) []byte {
	from := len(d.scratch)
	d.scratch = append(d.scratch, b...)
	return cut(d.scratch, from, len(d.scratch))
}

func (d *HeaderDecoder) fail(at int, detail string) error {
	d.err = &FrameError{Offset: int64(at), Code: CodeBadHeader, Detail: detail}
	return d.err
}
