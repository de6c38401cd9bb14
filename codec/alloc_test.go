package codec

import "testing"

// TestAllocs: nothing on the way of a frame, in or out, takes memory.
func TestAllocs(t *testing.T) {
	payload := make([]byte, 64)
	frames := []Frame{
		{Kind: KindHandshake, Text: goldenUUID},
		{Kind: KindHeartbeat},
		{Kind: KindTerminate, Code: 1, Text: "slave is idle"},
		{Kind: KindInvoke, Session: 300, Text: "event"},
		{Kind: KindChunk, Session: 300, Payload: payload},
		{Kind: KindError, Session: 300, Category: 42, Code: 200, Text: "no handler"},
		{Kind: KindChoke, Session: 300},
		{Kind: KindCall, Session: 300, Type: 5, Args: Args("ns", "key", []string{"tag"}).Bytes()},
	}
	var scratch [24]byte
	traced := Frame{Kind: KindInvoke, Session: 300, Text: "event", Headers: Trace{1, 2, 3}.AppendHeaders(nil, &scratch)}
	frames = append(frames, traced)

	dst := make([]byte, 0, 4096)
	for i := range frames {
		f := &frames[i]
		for _, d := range []Dialect{V0, V1} {
			if n := testing.AllocsPerRun(100, func() { dst = AppendFrame(dst[:0], d, f) }); n != 0 {
				t.Errorf("AppendFrame(%v, %v): %v allocations", d, f.Kind, n)
			}
			buf := AppendFrame(nil, d, f)
			buf = append(buf, buf...)
			s := NewScanner(d, Limits{})
			var m Message
			if n := testing.AllocsPerRun(100, func() {
				for at, n := 0, 0; at < len(buf); at += n {
					if n, _ = s.Next(buf[at:len(buf)-1], &m); n == 0 { // once in two pieces
						n, _ = s.Next(buf[at:], &m)
					}
				}
				if f.Kind == KindError {
					DecodeError(&m)
				}
			}); n != 0 {
				t.Errorf("Next(%v, %v): %v allocations", d, f.Kind, n)
			}
		}
	}
}

// TestAllocsHeaders: once the table is there, headers take no memory either.
func TestAllocsHeaders(t *testing.T) {
	var d HeaderDecoder
	var scratch [24]byte
	h := make([]Header, 0, 8)
	byName := AppendFrameTail(nil, V1, Trace{1, 2, 3}.AppendHeaders(nil, &scratch))
	for name, raw := range map[string][]byte{
		"none":    []byte(noTrace),
		"by name": byName,
		"static":  []byte("\x93\x50\x51\x52"),
		"stored":  []byte("\x94\x93\xc3\x50\xa812345678\x93\xc3\x51\xa812345678\x93\xc3\xa1n\xa1v\x53"),
	} {
		if n := testing.AllocsPerRun(500, func() {
			var err error
			if h, err = d.Decode(raw, h[:0]); err != nil {
				t.Fatal(err)
			}
			TraceOf(h)
			TimeoutOf(h)
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	dst := make([]Header, 0, 8)
	if n := testing.AllocsPerRun(100, func() { dst = Trace{1, 2, 3}.AppendHeaders(dst[:0], &scratch) }); n != 0 {
		t.Errorf("AppendHeaders: %v allocations", n)
	}
}

// TestAllocsReader: reading arguments in place takes no memory.
func TestAllocsReader(t *testing.T) {
	m := scanOne(t, V1, AppendFrame(nil, V1, &Frame{Kind: KindCall, Args: Args("a", 1, 1.5, true, nil, list{1, "x"}, -5, []byte("z")).Bytes()}))
	if n := testing.AllocsPerRun(100, func() {
		r := m.Reader()
		r.Bytes()
		r.Int()
		r.Float64()
		r.Bool()
		r.Nil()
		r.Skip()
		r.Int64()
		r.Raw()
		if r.Err() != nil || r.Len() != 0 {
			t.Fatal(r.Err())
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if n := testing.AllocsPerRun(100, func() { _ = m.Clone() }); n != 1 {
		t.Errorf("Clone: %v allocations, want 1", n)
	}
}
