package codec

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"testing"
)

// addGoldens seeds f with every golden frame and value, and with bad ones.
func addGoldens(f *testing.F, add func(b []byte)) {
	for _, row := range goldenRows(f) {
		add(row.bytes)
	}
	for _, s := range []string{
		"", "c1", "90", "93", "920100", "93010190", "93040191c0", "dc0003010090", "ddffffffff",
		"93cf000000000000000501" + "91d3ffffffffffffffff", "930100dd00000001a161", "93010091dbffffffff",
		"930100918191019192a16103", "94010091c70501aabbccddeec0", "95010090c0d6ff00000000", "96010091cb7ff8000000000001909091c2",
		"9401009091" + "93c3a161a162" + "9401009091530", "93010091dfffffffff", "93010091c1", "470a", "160301",
	} {
		if len(s)%2 == 0 {
			add(unhex(f, s))
		}
	}
}

// fuzzLimits are the limits that a byte of fuzz input stands for: those by default,
// and some that are easily reached.
func fuzzLimits(which byte) Limits {
	l := Limits{}
	if which&2 != 0 {
		l.MaxElements = 20
	}
	if which&4 != 0 {
		l.MaxDepth = 4
	}
	if which&8 != 0 {
		l.MaxPayloadBytes = 40
	}
	if which&16 != 0 {
		l.MaxFrameBytes = 90
	}
	if which&32 != 0 {
		l.MaxElements = 16
	}
	if which&64 != 0 {
		l = Limits{-1, -1, -1, -1, -1, -1}
	}
	return l
}

// scanAll scans b to its end or to the first error, in one piece.
func scanAll(d Dialect, l Limits, b []byte) (all []verdict) {
	s := NewScanner(d, l)
	for {
		begin := int(s.Offset())
		var m Message
		n, err := s.Next(b[begin:], &m)
		switch e, _ := err.(*FrameError); {
		case e != nil:
			return append(all, verdict{code: e.Code, at: int(e.Offset)})
		case n == 0:
			return all
		}
		all = append(all, verdict{n: n, m: m})
	}
}

func sameMessage(a, b *Message) bool {
	return a.Session == b.Session && a.Type == b.Type && a.NumArgs == b.NumArgs && a.Extra == b.Extra &&
		bytes.Equal(a.Args, b.Args) && sameBytes(a.Payload, b.Payload) && sameBytes(a.Headers, b.Headers)
}

// sameBytes tells nil from empty.
func sameBytes(a, b []byte) bool { return bytes.Equal(a, b) && (a == nil) == (b == nil) }

func sameVerdict(a, b verdict) bool {
	return a.n == b.n && a.code == b.code && a.at == b.at && sameMessage(&a.m, &b.m)
}

// FuzzFrame scans any bytes, and reads all that comes out by every other means.
func FuzzFrame(f *testing.F) {
	addGoldens(f, func(b []byte) { f.Add(b, byte(0)); f.Add(b, byte(1)) })
	f.Fuzz(func(t *testing.T, b []byte, which byte) {
		d := Dialect(which & 1)
		for _, v := range scanAll(d, fuzzLimits(which), b) {
			if v.code != 0 {
				continue
			}
			m := &v.m
			if m.Args == nil || cap(m.Args) != len(m.Args) || cap(m.Payload) != len(m.Payload) || cap(m.Headers) != len(m.Headers) {
				t.Errorf("capacity beyond length, or no arguments: %+v", m)
			}
			r := m.Reader()
			if r.Err() != nil || r.Len() != m.NumArgs {
				t.Errorf("Reader: %d items, %v, want %d", r.Len(), r.Err(), m.NumArgs)
			}
			if raw := r.Peek() == RawValue; raw != (m.Payload != nil) || raw && !bytes.Equal(r.Bytes(), m.Payload) {
				t.Errorf("Payload = %x of %x", m.Payload, m.Args)
			}
			for r.Len() > 0 {
				r.Skip()
			}
			if r.Err() != nil || len(r.Rest()) != 0 {
				t.Errorf("%x: Skip: %v, %d bytes left", m.Args, r.Err(), len(r.Rest()))
			}
			if c := m.Clone(); !sameMessage(m, &c) {
				t.Errorf("Clone() = %+v of %+v", c, m)
			}
			if j := AppendJSON(nil, m, d); !json.Valid(j) {
				t.Errorf("AppendJSON(%x) = %s", m.Args, j)
			}
			DecodeError(m)
		}
	})
}

// FuzzFrameSplit gives the same bytes in pieces, each time at another address: the
// same frames and the same error at the same place must come out.
func FuzzFrameSplit(f *testing.F) {
	addGoldens(f, func(b []byte) { f.Add(b, byte(0), uint64(len(b))); f.Add(append(b, b...), byte(1), uint64(7)) })
	f.Fuzz(func(t *testing.T, b []byte, which byte, seed uint64) {
		d, l := Dialect(which&1), fuzzLimits(which)
		want := scanAll(d, l, b)
		got := scanSplit(t, d, l, b, rand.New(rand.NewPCG(seed, 1)))
		if !slices.EqualFunc(got, want, sameVerdict) {
			t.Errorf("in pieces: %v\nin one: %v", got, want)
		}
	})
}

// scanSplit is scanAll with input that arrives piece by piece.
func scanSplit(t *testing.T, d Dialect, l Limits, b []byte, random *rand.Rand) (all []verdict) {
	s := NewScanner(d, l)
	for have := 0; ; have = min(have+1+random.IntN(1+random.IntN(20)), len(b)) {
		for {
			begin := int(s.Offset())
			piece := slices.Clip(bytes.Clone(b[begin:have]))
			var m Message
			n, err := s.Next(piece, &m)
			if e, _ := err.(*FrameError); e != nil {
				if _, again := s.Next(b, &m); again != err {
					t.Errorf("after %v: Next() = %v", err, again)
				}
				return append(all, verdict{code: e.Code, at: int(e.Offset)})
			}
			if n == 0 {
				if s.Need() < 1 {
					t.Errorf("Need() = %d", s.Need())
				}
				break
			}
			all = append(all, verdict{n: n, m: m})
		}
		if have == len(b) {
			return all
		}
	}
}

// FuzzScannerVsReference compares the Scanner with a decoder that shares no code.
func FuzzScannerVsReference(f *testing.F) {
	addGoldens(f, func(b []byte) {
		for which := range byte(128) {
			if which%9 < 2 {
				f.Add(b, which)
			}
		}
	})
	f.Fuzz(func(t *testing.T, b []byte, which byte) {
		d, l := Dialect(which&1), fuzzLimits(which)
		all := append(scanAll(d, l, b), verdict{})
		for begin := 0; ; {
			want := referenceNext(d, l, b[begin:])
			got := all[0]
			if got.code != 0 {
				got.at -= begin
			}
			if !sameVerdict(got, want) {
				t.Fatalf("at %d of %x:\nscanner   %v\nreference %v", begin, b, got, want)
			}
			if got.n == 0 {
				return
			}
			begin += got.n
			all = all[1:]
		}
	})
}

// FuzzRoundTrip encodes any frame and decodes it again.
func FuzzRoundTrip(f *testing.F) {
	f.Add(byte(KindChunk), byte(0), uint64(300), uint64(4), []byte("data"), "text", int64(42), int64(-100))
	f.Add(byte(KindError), byte(3), uint64(1)<<40, uint64(65535), []byte{}, "", int64(-1)<<40, int64(1)<<62)
	f.Fuzz(func(t *testing.T, kind, which byte, session, typ uint64, payload []byte, text string, category, code int64) {
		d := Dialect(which & 1)
		in := Frame{
			Kind: Kind(kind%8) + 1, Session: session, Type: typ & 0xffffffff, Payload: payload, Text: text,
			Category: category, Code: code, Args: Args(text, code, payload).Bytes(),
		}
		if which&2 != 0 {
			in.Headers = []Header{{[]byte(text), payload}, {payload, []byte(text)}}
		}
		b := AppendFrame([]byte("before"), d, &in)[len("before"):]
		if len(b) > in.MaxSize() {
			t.Errorf("%d bytes, MaxSize() = %d", len(b), in.MaxSize())
		}
		m := scanOne(t, d, b)
		checkSame(t, d, &in, &m)
		if d == V1 {
			var hd HeaderDecoder
			hd.Init(Limits{MaxHeaderBytes: -1})
			if h, err := hd.Decode(m.Headers, nil); err != nil || !sameHeaders(h, in.Headers) {
				t.Errorf("headers %q, %v, want %q", h, err, in.Headers)
			}
		}
	})
}

// checkSame checks that m is what in says.
func checkSame(t *testing.T, d Dialect, in *Frame, m *Message) {
	t.Helper()
	session := in.Session
	if in.Kind <= KindTerminate {
		session = uint64(d)
	}
	if m.Session != session {
		t.Errorf("%v: session %d, want %d", in.Kind, m.Session, session)
	}
	r := m.Reader()
	ok := true
	switch in.Kind {
	case KindHandshake, KindInvoke:
		ok = string(m.Payload) == in.Text && m.NumArgs == 1
	case KindHeartbeat, KindChoke:
		ok = m.NumArgs == 0
	case KindChunk:
		ok = bytes.Equal(m.Payload, in.Payload) && m.Payload != nil && m.NumArgs == 1
	case KindTerminate:
		ok = r.Int64() == in.Code && r.String() == in.Text && r.Len() == 0
	case KindError:
		category, code, message, known := DecodeError(m)
		ok = known && code == in.Code && string(message) == in.Text && (category == in.Category || d == V0 && category == 0)
	case KindCall:
		ok = m.Type == in.Type && bytes.Equal(m.Args, in.Args)
	}
	if !ok {
		t.Errorf("%v: sent %+v, got %+v", in.Kind, in, m)
	}
}

// FuzzHeaders decodes any header arrays with one decoder.
func FuzzHeaders(f *testing.F) {
	for _, row := range goldenRows(f) {
		var m Message
		if !row.isValue() && row.dialect() == V1 {
			m = scanOne(f, V1, row.bytes)
		}
		f.Add(m.Headers, m.Headers)
	}
	f.Add(unhex(f, "9293c3a161a16293c3a163a164"), unhex(f, "935453"+"93c353a0"))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		var d HeaderDecoder
		var h []Header
		for range 3 {
			for _, raw := range [][]byte{first, second} {
				var err error
				if h, err = d.Decode(raw, h[:0]); err != nil {
					if codeOf(err) != CodeBadHeader || len(h) != 0 {
						t.Fatalf("Decode() = %q, %v", h, err)
					}
					return
				}
				total := 0
				for _, x := range h {
					total += len(x.Name) + len(x.Value)
				}
				if total > DefaultMaxHeaderBytes || len(h) > DefaultMaxHeaders {
					t.Fatalf("%d headers of %d bytes", len(h), total)
				}
				if d.table != nil && (d.table.size > tableCapacity || d.table.count > maxEntries) {
					t.Fatalf("table of %d octets, %d entries", d.table.size, d.table.count)
				}
				TraceOf(h)
				TimeoutOf(h)
			}
		}
	})
}

// FuzzReader makes any calls on any bytes.
func FuzzReader(f *testing.F) {
	addGoldens(f, func(b []byte) { f.Add(b, []byte{6, 0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12, 13}) })
	f.Fuzz(func(t *testing.T, b, calls []byte) {
		r := NewReader(b)
		for _, c := range calls {
			before, failed := r, r.Err() != nil
			n := readerCall(&r, c)
			switch {
			case n > len(b):
				t.Fatalf("call %d promised %d values in %d bytes", c, n, len(b))
			case failed && (r.Err() != before.Err() || r.pos != before.pos):
				t.Fatalf("call %d after an error changed something", c)
			case r.pos > len(b) || r.left < 0 || r.inner < 0:
				t.Fatalf("call %d left %+v", c, r)
			}
		}
	})
}

// readerCall makes call c and returns the count that it returned, if it did.
func readerCall(r *Reader, c byte) int {
	switch c % 14 {
	case 0:
		r.Uint64()
	case 1:
		r.Int64()
	case 2:
		r.Int()
	case 3:
		r.Bool()
	case 4:
		r.Float64()
	case 5:
		_ = r.String()
	case 6:
		return r.ArrayLen()
	case 7:
		return r.MapLen()
	case 8:
		r.Skip()
	case 9:
		r.Raw()
	case 10:
		r.Ext()
	case 11:
		r.Nil()
	case 12:
		r.Peek()
	case 13:
		r.Rest()
	}
	return r.Len()
}

// FuzzJSON renders any value; the result must be JSON.
func FuzzJSON(f *testing.F) {
	addGoldens(f, func(b []byte) { f.Add(b) })
	f.Fuzz(func(t *testing.T, b []byte) {
		if got := AppendJSONValue(nil, b); !json.Valid(got) {
			t.Errorf("AppendJSONValue(%x) = %s", b, got)
		}
	})
}

// rawMarshaler returns any bytes as its encoding.
type rawMarshaler []byte

func (m rawMarshaler) MarshalMsg(b []byte) ([]byte, error) { return append(b, m...), nil }

// FuzzArgs encodes any values and what any Marshaler returns: if there is no error,
// a frame of it must be one that old peers can read, and hold the same values.
func FuzzArgs(f *testing.F) {
	addGoldens(f, func(b []byte) { f.Add(b, "text", int64(-1), 1.5) })
	f.Fuzz(func(t *testing.T, value []byte, text string, i int64, x float64) {
		a := Args(text, rawMarshaler(value), i, []any{x, []string{text}, value}, nil)
		if a.Err() != nil {
			if a.Bytes() != nil || a.Len() != 0 {
				t.Errorf("after %v: %x", a.Err(), a.Bytes())
			}
			if a = Args(text, i, x, [][]byte{value}); a.Err() != nil {
				t.Fatal(a.Err())
			}
		}
		m := scanOne(t, V1, AppendFrame(nil, V1, &Frame{Kind: KindCall, Args: a.Bytes()}))
		if m.NumArgs != a.Len() || string(m.Payload) != text {
			t.Errorf("%d arguments, first %q, want %d, %q", m.NumArgs, m.Payload, a.Len(), text)
		}
		checkOldForms(t, m.Args)
		if a.Len() == 5 {
			want := NewValueReader(value)
			got := m.Reader()
			got.Skip()
			if got, want := textOf(&got), textOf(&want); got != want {
				t.Errorf("Marshaler's value %s, want %s", got, want)
			}
		}
	})
}

// checkOldForms checks that b has no form that old peers do not read, and integers
// in their shortest form only.
func checkOldForms(t *testing.T, b []byte) {
	t.Helper()
	r := NewValueReader(b)
	for r.Len()+r.inner > 0 && r.Err() == nil {
		h, _ := parseHead(r.Rest())
		c := r.Rest()[0]
		short := h.kind == UintValue && len(AppendUint(nil, h.n)) == h.size && (c < 0xd0 || c > 0xd3) ||
			h.kind == IntValue && len(AppendInt(nil, int64(h.n))) == h.size
		if h.kind == ExtValue || c >= 0xc4 && c <= 0xc6 || c == 0xd9 || (h.kind == UintValue || h.kind == IntValue) && !short {
			t.Fatalf("%x: form %x", b, c)
		}
		if h, ok := r.head(); ok {
			r.take(h)
		}
	}
}
