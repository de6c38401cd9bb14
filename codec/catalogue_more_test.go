package codec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// TestCatalogue, continued.

// A18: a session in any integer form; no float.
func testSessionForms(t *testing.T) {
	for _, five := range []string{
		"\x05", "\xcc\x05", "\xcd\x00\x05", "\xce\x00\x00\x00\x05", "\xcf\x00\x00\x00\x00\x00\x00\x00\x05",
		"\xd0\x05", "\xd1\x00\x05", "\xd2\x00\x00\x00\x05", "\xd3\x00\x00\x00\x00\x00\x00\x00\x05",
	} {
		for behind, headers := range map[string]int{"\x91\xa1a\x90": 0, "\x90" + noTrace: 61} {
			m := expect(t, V1, Limits{}, []byte("\x94"+five+"\x07"+behind), 0, 0)
			if m.Session != 5 || m.Type != 7 || len(m.Headers) != headers {
				t.Errorf("%x: %+v", five, m)
			}
		}
		if m := expect(t, V0, Limits{}, []byte("\x93\x07"+five+"\x91\xa1a"), 0, 0); m.Session != 5 || m.Type != 7 {
			t.Errorf("v0 %x: %+v", five, m)
		}
	}
	for _, b := range []string{"\x94\xcb\x40\x14\x00\x00\x00\x00\x00\x00\x00\x90\x90", "\x94\xca\x40\xa0\x00\x00\x00\x90\x90"} {
		expect(t, V1, Limits{}, []byte(b), CodeBadSession, 1)
	}
}

// A19: a session of 0..2^64-1.
func testSessionRange(t *testing.T) {
	for _, session := range []uint64{0, 127, 128, 255, 256, 65535, 65536, math.MaxUint32, 1 << 32, math.MaxInt64, 1 << 63, math.MaxUint64} {
		for _, d := range []Dialect{V0, V1} {
			b := AppendFrame(nil, d, &Frame{Kind: KindChunk, Session: session, Payload: []byte("some payload")})
			if m := expect(t, d, Limits{}, b, 0, 0); m.Session != session {
				t.Errorf("%v: session %d, want %d", d, m.Session, session)
			}
		}
	}
	for _, b := range []string{"\xff", "\xe0", "\xd0\x80", "\xd1\xff\xff", "\xd2\x80\x00\x00\x00", "\xd3\xff\xff\xff\xff\xff\xff\xff\xff"} {
		expect(t, V1, Limits{}, []byte("\x94"+b+"\x00\x90\x90 and more bytes"), CodeBadSession, 1)
		expect(t, V0, Limits{}, []byte("\x93\x00"+b+"\x90 and some more bytes"), CodeBadSession, 2)
	}
}

// A20: a message type of 0..2^32-1.
func testTypeRange(t *testing.T) {
	for _, typ := range []uint64{0, 127, 128, 65535, math.MaxUint32} {
		b := AppendFrame(nil, V1, &Frame{Kind: KindCall, Session: 9, Type: typ})
		if m := expect(t, V1, Limits{}, b, 0, 0); m.Type != typ {
			t.Errorf("type %d, want %d", m.Type, typ)
		}
	}
	for _, b := range []string{
		"\xcf\x00\x00\x00\x01\x00\x00\x00\x00", "\xd3\x00\x00\x00\x01\x00\x00\x00\x00", "\xff", "\xd0\xff",
		"\xa1a", "\xc0", "\xc3", "\xcb\x00\x00\x00\x00\x00\x00\x00\x00", "\x90", "\x80", "\xc4\x00", "\xd4\x01\x02",
	} {
		expect(t, V1, Limits{}, []byte("\x94\x09"+b+"\x90\x90 and more"), CodeBadType, 2)
		expect(t, V0, Limits{}, []byte("\x93"+b+"\x09\x90 and some more"), CodeBadType, 1)
	}
}

// A21: the same bytes in every form of a string.
func testStringForms(t *testing.T) {
	for _, n := range []int{0, 1, 31, 32, 255, 256, 70000} {
		data := bytes.Repeat([]byte{0xfe}, n)
		forms := [][]byte{AppendRaw(nil, data)}
		if n < 256 {
			forms = append(forms, append([]byte{0xc4, byte(n)}, data...), append([]byte{0xd9, byte(n)}, data...))
		}
		if n < 65536 {
			forms = append(forms, append([]byte{0xc5, byte(n >> 8), byte(n)}, data...), append([]byte{0xda, byte(n >> 8), byte(n)}, data...))
		}
		for _, c := range []byte{0xc6, 0xdb} {
			forms = append(forms, append([]byte{c, 0, byte(n >> 16), byte(n >> 8), byte(n)}, data...))
		}
		for _, arg := range forms {
			m := expect(t, V1, Limits{}, frameWith(arg), 0, 0)
			r := m.Reader()
			if got := r.Bytes(); !bytes.Equal(got, data) || got == nil || !bytes.Equal(m.Payload, data) || m.Payload == nil {
				t.Errorf("%x...: Bytes() = %d bytes, Payload %d, want %d", clip(arg), len(got), len(m.Payload), n)
			}
		}
	}
}

// A24: integers longer than need be.
func testLongIntegers(t *testing.T) {
	b := []byte("\x94\xcf\x00\x00\x00\x00\x00\x00\x00\x05\xcf\x00\x00\x00\x00\x00\x00\x00\x06" +
		"\xdd\x00\x00\x00\x02\xcf\x00\x00\x00\x00\x00\x00\x00\x07\xd3\xff\xff\xff\xff\xff\xff\xff\xf8\xdc\x00\x00")
	m := expect(t, V1, Limits{}, b, 0, 0)
	r := m.Reader()
	if m.Session != 5 || m.Type != 6 || r.Uint64() != 7 || r.Int64() != -8 || r.Len() != 0 || m.Headers != nil {
		t.Errorf("%+v, %v", m, r.Err())
	}
}

// A25: floats and times that JSON does not have, and any argument at all.
func testOddFloats(t *testing.T) {
	for arg, want := range map[string]string{
		"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00":                         `"NaN"`,
		"\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00":                         `"Infinity"`,
		"\xca\xff\x80\x00\x00":                                         `"-Infinity"`,
		"\xd6\xff\x00\x00\x00\x00":                                     `"1970-01-01T00:00:00Z"`,
		"\xd7\xff\x00\x00\x00\x04\x00\x00\x00\x01":                     `"1970-01-01T00:00:01.000000001Z"`,
		"\xd7\xff\xff\xff\xff\xfc\x00\x00\x00\x00":                     `"ext:-1:fffffffc00000000"`,
		"\xc7\x0c\xff\x00\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff": `"ext:-1:000000007fffffffffffffff"`,
		"\xc7\x0c\xff\x3b\x9a\xc9\xff\xff\xff\xff\xff\xff\xff\xff\xff": `"1969-12-31T23:59:59.999999999Z"`,
		"\xc7\x0c\xff\x3b\x9a\xca\x00\x00\x00\x00\x00\x00\x00\x00\x00": `"ext:-1:3b9aca000000000000000000"`,
		"\xc7\x02\xff\x01\x02":                                         `"ext:-1:0102"`,
		"\xd4\x05\xaa":                                                 `"ext:5:aa"`,
		"\x81\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00\xca\x7f\x80\x00\x00": `{"NaN":"Infinity"}`,
	} {
		m := expect(t, V1, Limits{}, frameWith([]byte(arg)), 0, 0)
		r := m.Reader()
		if raw := r.Raw(); string(raw) != arg {
			t.Errorf("Raw() = %x, want %x", raw, arg)
		}
		got := AppendJSON(nil, &m, V0)
		if want := `{"session":1,"type":0,"args":[` + want + `]}`; string(got) != want || !json.Valid(got) {
			t.Errorf("AppendJSON() = %s, want %s", got, want)
		}
	}
}

// A26: frames of about the size of the usual buffers, whole and one byte short.
func testBufferSizes(t *testing.T) {
	for size := 64 << 10; size <= 1<<20; size *= 2 {
		for n := size - 1; n <= size+1; n++ {
			for _, d := range []Dialect{V0, V1} {
				overhead := len(AppendFrame(nil, d, &Frame{Kind: KindChunk, Session: 5, Payload: make([]byte, size)})) - size
				if size == 64<<10 {
					overhead = 9 + int(d) // of a payload just below and just above 64 KiB, by turns
					if n-overhead < 1<<16 {
						overhead -= 2
					}
				}
				b := AppendFrame(nil, d, &Frame{Kind: KindChunk, Session: 5, Payload: make([]byte, n-overhead)})
				m := expect(t, d, Limits{}, b, 0, 0)
				if len(b) != n || len(m.Payload) != n-overhead {
					t.Errorf("%v: frame of %d, payload of %d, want %d and %d", d, len(b), len(m.Payload), n, n-overhead)
				}
				s := NewScanner(d, Limits{})
				if got, err := s.Next(b[:n-1], &m); got != 0 || err != nil || s.Need() != 1 {
					t.Errorf("one byte short: Next() = %d, %v, Need() = %d", got, err, s.Need())
				}
			}
		}
	}
}

// A27: a good frame, then a bad one, in one read.
func testSecondBad(t *testing.T) {
	b := []byte("\x94\x02\x00\x91\xa4data\x90\x94\x02\x00\x80\x90")
	got := scanAll(V1, Limits{}, b)
	if len(got) != 2 || got[0].n != 10 || string(got[0].m.Payload) != "data" || got[1].code != CodeBadFrame || got[1].at != 13 {
		t.Errorf("got %v", got)
	}
	s := NewScanner(V1, Limits{})
	var m Message
	s.Next(b, &m)
	_, first := s.Next(b[10:], &m)
	if n, again := s.Next([]byte("\x94\x02\x02\x90\x90 and more that is bad"), &m); n != 0 || first == nil || again != first {
		t.Errorf("after %v: Next() = %d, %v", first, n, again)
	}
	if s.SetLimits(Limits{}); s.Offset() != 10 {
		t.Errorf("Offset() = %d, want 10", s.Offset())
	}
	if n, again := s.Next([]byte("\x94\x02\x02\x90\x90 and more that is bad"), &m); n != 0 || again != first {
		t.Errorf("after SetLimits: Next() = %d, %v", n, again)
	}
}

// A29: random values, some of them damaged: the verdict is that of the reference
// decoder, and what is accepted and encoded again means the same.
func testRandomBytes(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 7))
	rounds := 30000
	if testing.Short() {
		rounds = 3000
	}
	accepted := 0
	for range rounds {
		b := randomFrame(random)
		if random.IntN(3) == 0 {
			b[random.IntN(len(b))] = byte(random.Uint32())
		}
		if random.IntN(6) == 0 {
			b = b[:random.IntN(len(b)+1)]
		}
		which := byte(random.IntN(128))
		d, l := Dialect(which&1), fuzzLimits(which)
		got, want := append(scanAll(d, l, b), verdict{})[0], referenceNext(d, l, b)
		if !sameVerdict(got, want) {
			t.Fatalf("limits %+v, %v, %x:\nscanner   %v\nreference %v", l, d, b, got, want)
		}
		if got.n == 0 {
			continue
		}
		accepted++
		f := Frame{Kind: KindCall, Session: got.m.Session, Type: got.m.Type, Args: got.m.Args}
		again := scanOne(t, d, AppendFrame(nil, d, &f))
		if again.Session != got.m.Session || again.Type != got.m.Type || !bytes.Equal(again.Args, got.m.Args) || !sameBytes(again.Payload, got.m.Payload) {
			t.Fatalf("%x: encoded again: %+v, want %+v", b, again, got.m)
		}
	}
	if accepted < rounds/10 || accepted > rounds*9/10 {
		t.Errorf("%d of %d accepted: the test is lopsided", accepted, rounds)
	}
}

// randomFrame returns something like a frame.
func randomFrame(random *rand.Rand) []byte {
	n := 3 + random.IntN(3)
	b := AppendArrayHeader(nil, n)
	for i := range n {
		switch {
		case i < 2:
			b = appendRandomNumber(b, random)
		case i == 2 && random.IntN(2) == 0:
			b = AppendString(append(b, 0x91), "some short text"[:random.IntN(15)])
		case i == 3 && random.IntN(2) == 0:
			b = append(b, noTrace...)
		case i == 2 || i == 3:
			b = appendRandomArray(b, random, 4)
		default:
			b = appendRandom(b, random, 4)
		}
	}
	return b
}

func appendRandomNumber(b []byte, random *rand.Rand) []byte {
	v := random.Uint64() >> random.IntN(65)
	switch random.IntN(4) {
	case 0:
		return append(b, byte(random.IntN(128)))
	case 1:
		return append(b, 0xcd, byte(v>>8), byte(v))
	case 2:
		return append(b, 0xd1, byte(v>>8), byte(v))
	}
	return AppendUint(b, v)
}

func appendRandomArray(b []byte, random *rand.Rand, depth int) []byte {
	n := random.IntN(4)
	b = AppendArrayHeader(b, n)
	for range n {
		b = appendRandom(b, random, depth-1)
	}
	return b
}

// appendRandom appends a value of any form.
func appendRandom(b []byte, random *rand.Rand, depth int) []byte {
	first := byte(random.Uint32())
	h, _ := parseHead(append([]byte{first}, make([]byte, 9)...))
	switch {
	case h.kind == badValue:
		return append(b, 0xc2)
	case h.kind == ArrayValue || h.kind == MapValue:
		switch {
		case depth == 0:
			return append(b, 0xc0)
		case h.kind == ArrayValue:
			return appendRandomArray(b, random, depth)
		}
		b = append(b, 0xde, 0, 1) // a map of one pair, in its longer form
		return appendRandom(appendRandom(b, random, depth-1), random, depth-1)
	}
	b = append(b, first)
	for range h.size - 1 {
		b = append(b, 0)
	}
	n := int(dataSize(h))
	if h.kind == RawValue && h.size > 1 {
		n = random.IntN(5)
		b[len(b)-1] = byte(n)
	}
	for range n {
		b = append(b, byte(random.Uint32()))
	}
	return b
}

// A30: what we send is what the recorded runtimes send, and decodes to what was
// sent. The goldens are in TestGoldenEncode; here is every kind and size of number.
func testOwnFrames(t *testing.T) {
	numbers := []int64{0, 1, 31, 127, 128, 255, 256, 65535, 65536, math.MaxUint32, 1 << 32, math.MaxInt64,
		-1, -32, -33, -128, -129, -32768, -32769, math.MinInt32, math.MinInt32 - 1, math.MinInt64}
	texts := []string{"", "x", string(make([]byte, 31)), string(make([]byte, 32)), string(make([]byte, 255)), string(make([]byte, 70000))}
	for kind := KindHandshake; kind <= KindCall; kind++ {
		for i, number := range numbers {
			text := texts[i%len(texts)]
			in := Frame{
				Kind: kind, Session: uint64(number), Type: uint64(uint32(number)), Payload: []byte(text), Text: text,
				Category: number, Code: -number, Args: Args(text, number, []any{text, nil, true, 1.5}).Bytes(),
			}
			for _, d := range []Dialect{V0, V1} {
				m := scanOne(t, d, AppendFrame(nil, d, &in))
				checkSame(t, d, &in, &m)
				want := referenceNext(d, Limits{}, AppendFrame(nil, d, &in)).m
				if !sameMessage(&m, &want) {
					t.Errorf("%v %v: %+v, reference %+v", d, kind, m, want)
				}
				checkOldForms(t, m.Args)
			}
		}
	}
}

// B11: the arguments of an error frame, as peers of any age send them, and bad ones.
func testErrorArguments(t *testing.T) {
	for _, c := range []struct {
		args           Arguments
		category, code int64
		message        string
		ok             bool
	}{
		{Args(list{7, 1}, "msg"), 7, 1, "msg", true},
		{Args(list{42, -100}, ""), 42, -100, "", true},
		{Args(list{7, 4}), 7, 4, "", true},
		{Args(2, "the queue is full"), 0, 2, "the queue is full", true},
		{Args(-100), 0, -100, "", true},
		{Args(), 0, 0, "", false},
		{Args("msg"), 0, 0, "", false},
		{Args(nil, "msg"), 0, 0, "", false},
		{Args(list{7}, "msg"), 0, 0, "", false},
		{Args(list{7, 1, 2}, "msg"), 0, 0, "", false},
		{Args(list{7, 1, "msg"}), 0, 0, "", false},
		{Args(list{7, "1"}, "msg"), 0, 0, "", false},
		{Args(list{1.5, 1}, "msg"), 0, 0, "", false},
		{Args(list{list{7, 1}, 1}), 0, 0, "", false},
		{Args(7, 1), 0, 0, "", false},
		{Args(list{7, 1}, nil), 0, 0, "", false},
		{Args(list{7, 1}, "msg", "extra"), 0, 0, "", false},
		{Args(1, "msg", 2), 0, 0, "", false},
		{Args(uint64(math.MaxUint64), "msg"), 0, 0, "", false},
	} {
		m := Message{Args: c.args.Bytes(), NumArgs: c.args.Len()}
		category, code, message, ok := DecodeError(&m)
		if category != c.category || code != c.code || string(message) != c.message || ok != c.ok {
			r := NewValueReader(c.args.Bytes())
			t.Errorf("%s: %d, %d, %q, %v, want %d, %d, %q, %v", textOf(&r), category, code, message, ok, c.category, c.code, c.message, c.ok)
		}
	}
	if _, _, _, ok := DecodeError(&Message{}); ok {
		t.Error("an error without arguments is ok")
	}
}

// B26: headers that would make the tables grow, or that are in none of them.
func testBadHeaders(t *testing.T) {
	for name, raw := range map[string]string{
		"index 0":                  "\x91\x00",
		"index 83, empty table":    "\x91\x53",
		"index 2^64-1":             "\x91\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
		"name 0":                   "\x91\x93\xc2\x00\xa1v",
		"negative index":           "\x91\xff",
		"nil":                      "\x91\xc0",
		"string":                   "\x91\xa1x",
		"nested":                   "\x91\x93\xc2\x91\xa1n\xa1v",
		"value by index":           "\x91\x93\xc2\xa1n\x50",
		"second header bad":        "\x92\x50\x00",
		"less than declared":       "\x92\x50",
		"more than declared":       "\x91\x50\x50",
		"an update of table size":  "\x91\x92\xc3\xcd\x20\x00",
		"4 elements, and another":  "\x92\x94\xc2\xa1n\xa1v\x50\x51",
		"33 headers":               "\xdc\x00\x21" + string(bytes.Repeat([]byte{0x50}, 33)),
		"8 KiB and a byte, inline": "\x91\x93\xc2\xa1n\xda\x20\x00" + string(make([]byte, 8192)),
		"not an array":             "\x50",
	} {
		var d HeaderDecoder
		h, err := d.Decode([]byte(raw), nil)
		if codeOf(err) != CodeBadHeader || h != nil {
			t.Errorf("%s: Decode() = %q, %v, want bad_header", name, h, err)
		}
		if _, again := d.Decode([]byte("\x91\x50"), nil); again != err {
			t.Errorf("%s: after the error: %v", name, again)
		}
	}
	var d HeaderDecoder
	megabyte := append([]byte("\x91\x93\xc3\xa1n\xdb\x00\x10\x00\x00"), make([]byte, 1<<20)...)
	if n := allocated(func() { d.Decode(megabyte, nil) }); d.err == nil || n > 4096 {
		t.Errorf("1 MiB value: %v, %d bytes allocated", d.err, n)
	}
	testHeaderBomb(t)
}

// testHeaderBomb refers to one large entry many times: what counts is the decoded
// size. Then it stores 10^5 headers: nothing grows.
func testHeaderBomb(t *testing.T) {
	var d HeaderDecoder
	store := append([]byte("\x91\x93\xc3\xa1n\xda\x0f\xa0"), make([]byte, 4000)...)
	h, err := d.Decode(store, nil)
	if err != nil || len(h) != 1 || d.table.count != 1 {
		t.Fatalf("Decode() = %d headers, %v, table of %d", len(h), err, d.table.count)
	}
	if h, err = d.Decode([]byte("\x92\x53\x53"), h[:0]); err != nil || len(h) != 2 {
		t.Fatalf("twice 4 KiB: %d headers, %v", len(h), err)
	}
	if _, err = d.Decode([]byte("\x93\x53\x53\x53"), h[:0]); codeOf(err) != CodeBadHeader {
		t.Fatalf("three times 4 KiB: %v, want bad_header", err)
	}

	d.Init(Limits{})
	if _, err = d.Decode(stored("n", "v"), nil); err != nil { // makes the table
		t.Fatal(err)
	}
	frames := make([][]byte, 1000)
	for i := range frames {
		frames[i] = stored(fmt.Sprint("n", i), string(make([]byte, i%300)))
	}
	if n := allocated(func() {
		for i := range 100_000 {
			if h, err = d.Decode(frames[i%len(frames)], h[:0]); err != nil {
				t.Fatal(err)
			}
		}
	}); n > 4096 || d.table.size > tableCapacity {
		t.Errorf("table of %d octets, %d bytes allocated", d.table.size, n)
	}
}

// B27: traces that are none.
func testBadTraces(t *testing.T) {
	eight := func(n byte) string { return string([]byte{n, 0, 0, 0, 0, 0, 0, 0}) }
	id, span, parent := entry("trace_id", eight(1)), entry("span_id", eight(2)), entry("parent_id", eight(3))
	for _, c := range []struct {
		h    []Header
		want Trace
	}{
		{[]Header{id, span, parent}, Trace{1, 2, 3}},
		{[]Header{parent, entry("x", "y"), span, id, entry("trace_id", eight(9))}, Trace{1, 2, 3}},
		{[]Header{id, span, entry("parent_id", eight(0))}, Trace{1, 2, 0}},
		{nil, Trace{}},
		{[]Header{id, span}, Trace{}},
		{[]Header{id, parent}, Trace{}},
		{[]Header{span, parent}, Trace{}},
		{[]Header{id, span, entry("parent_id", "")}, Trace{}},
		{[]Header{id, entry("span_id", eight(2)+"\x00"), parent}, Trace{}},
		{[]Header{entry("trace_id", "1234567"), span, parent}, Trace{}},
		{[]Header{entry("trace_id", eight(0)), entry("span_id", eight(0)), entry("parent_id", eight(0))}, Trace{}},
		{[]Header{entry("trace_id", eight(0)), span, parent}, Trace{}},
		{[]Header{id, entry("span_id", eight(0)), parent}, Trace{}},
		{[]Header{entry("Trace_id", eight(1)), span, parent}, Trace{}},
	} {
		if got, ok := TraceOf(c.h); got != c.want || ok != (c.want != Trace{}) {
			t.Errorf("TraceOf(%q) = %v, %v, want %v", c.h, got, ok, c.want)
		}
	}
	// A value of another type is no header at all.
	if _, err := new(HeaderDecoder).Decode([]byte("\x91\x93\xc2\xa8trace_id\x01"), nil); codeOf(err) != CodeBadHeader {
		t.Errorf("integer value: %v, want bad_header", err)
	}
}

// C16: 1 MiB of empty maps takes no memory.
func testEmptyMaps(t *testing.T) {
	b := AppendArrayHeader([]byte("\x94\x01\x00"), 1<<20)
	b = append(append(b, bytes.Repeat([]byte{0x80}, 1<<20)...), 0x90)
	s := NewScanner(V1, Limits{MaxElements: -1})
	var m Message
	n := allocated(func() {
		if n, err := s.Next(b, &m); n != len(b) || err != nil {
			t.Errorf("Next() = %d, %v", n, err)
		}
		r := m.Reader()
		for r.Len() > 0 {
			r.Skip()
		}
	})
	if n > 4096 {
		t.Errorf("%d bytes allocated", n)
	}
}
