package codec

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"testing"
	"time"
)

// TestCatalogue has one subtest for every row of the project's catalogue of bad
// inputs and faults that a codec can show.
func TestCatalogue(t *testing.T) {
	for _, row := range []struct {
		id   string
		test func(*testing.T)
	}{
		{"A3", testTruncated}, {"A4", testSplitAnywhere}, {"A5", testManyElements}, {"A6", testNotArray},
		{"A7", testShortArray}, {"A8", testExtraElements}, {"A9", testHugeArray}, {"A10", testHugeBytes},
		{"A11", testPayloadLimit}, {"A12", testNestedArrays}, {"A13", testDeep}, {"A14", testReservedByte},
		{"A15", testExtensions}, {"A16", testOddKeys}, {"A17", testDuplicateKeys}, {"A18", testSessionForms},
		{"A19", testSessionRange}, {"A20", testTypeRange}, {"A21", testStringForms}, {"A24", testLongIntegers},
		{"A25", testOddFloats}, {"A26", testBufferSizes}, {"A27", testSecondBad}, {"A29", testRandomBytes},
		{"A30", testOwnFrames}, {"B11", testErrorArguments}, {"B26", testBadHeaders}, {"B27", testBadTraces},
		{"C16", testEmptyMaps},
	} {
		t.Run(row.id, row.test)
	}
}

// expect scans b and wants a frame of all of it (0) or an error.
func expect(t *testing.T, d Dialect, l Limits, b []byte, want Code, at int64) Message {
	t.Helper()
	var m Message
	n, err := NewScanner(d, l).Next(b, &m)
	var e *FrameError
	errors.As(err, &e)
	switch {
	case want == 0 && (err != nil || n != len(b)):
		t.Errorf("Next(% x) = %d, %v, want a frame of %d", clip(b), n, err, len(b))
	case want != 0 && (n != 0 || e == nil || e.Code != want || e.Offset != at):
		t.Errorf("Next(% x) = %d, %v, want %v at byte %d", clip(b), n, err, want, at)
	}
	return m
}

func clip(b []byte) []byte { return b[:min(len(b), 40)] }

// frameWith returns a frame of V1 on session 1 with one argument.
func frameWith(arg []byte) []byte {
	return append(append([]byte("\x94\x01\x00\x91"), arg...), 0x90)
}

// allocated returns how many bytes f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// fastest runs both functions a few times by turns, and returns the shortest time
// of each.
func fastest(runs int, f, g func()) (bestF, bestG time.Duration) {
	bestF, bestG = math.MaxInt64, math.MaxInt64
	for range runs {
		begin := time.Now()
		f()
		middle := time.Now()
		g()
		bestF, bestG = min(bestF, middle.Sub(begin)), min(bestG, time.Since(middle))
	}
	return bestF, bestG
}

// A3: no proper prefix of a frame is a frame, or an error; Need never asks for more
// than is missing.
func testTruncated(t *testing.T) {
	for _, row := range goldenRows(t) {
		if row.isValue() {
			continue
		}
		for n := range row.bytes {
			var m Message
			s := NewScanner(row.dialect(), Limits{})
			if got, err := s.Next(row.bytes[:n], &m); got != 0 || err != nil {
				t.Fatalf("%v: Next of %d bytes = %d, %v", row, n, got, err)
			}
			if need := s.Need(); need < 1 || need > len(row.bytes)-n {
				t.Fatalf("%v: Need() = %d after %d of %d bytes", row, need, n, len(row.bytes))
			}
		}
	}
}

// A4: a conversation cut in two anywhere gives the same frames.
func testSplitAnywhere(t *testing.T) {
	var talk []byte
	for _, row := range goldenRows(t) {
		if row.version == "v1" && !row.isValue() {
			talk = append(talk, row.bytes...)
		}
	}
	want := scanAll(V1, Limits{}, talk)
	for cut := range talk {
		s := NewScanner(V1, Limits{})
		var got []verdict
		for have := cut; ; have = len(talk) {
			var m Message
			for n := -1; n != 0; {
				var err error
				if n, err = s.Next(bytes.Clone(talk[s.Offset():have]), &m); err != nil {
					t.Fatal(err)
				}
				if n > 0 {
					got = append(got, verdict{n: n, m: m})
				}
			}
			if have == len(talk) {
				break
			}
		}
		if !slices.EqualFunc(got, want, sameVerdict) {
			t.Fatalf("cut at %d: %d frames, want %d", cut, len(got), len(want))
		}
	}
}

// manyElements is a frame of n bytes whose argument array is of 1-byte values.
func manyElements(n int) []byte {
	b := AppendArrayHeader([]byte("\x94\x01\x00"), n)
	return append(append(b, make([]byte, n)...), 0x90)
}

// inPieces offers frame to s as it arrives in packets, and returns how many bytes
// there were when Next returned something other than "more".
func inPieces(s *Scanner, frame []byte, m *Message) (have int, err error) {
	for have < len(frame) {
		have = min(have+1448, len(frame))
		before := s.frame.pos
		if n, err := s.Next(frame[:have], m); n > 0 || err != nil {
			return have, err
		}
		if s.frame.pos < before {
			return have, fmt.Errorf("the scanner is at %d, and was at %d", s.frame.pos, before)
		}
	}
	return have, nil
}

// A5: a frame of many small values in pieces costs about what it costs in one: what was
// scanned is not scanned again. The times are for people; if it were so, they would be
// minutes.
func testManyElements(t *testing.T) {
	size := 16 << 20
	if testing.Short() || raceEnabled {
		size = 1 << 20
	}
	frame := manyElements(size)
	var m Message
	whole, pieces := fastest(3, func() {
		s := NewScanner(V1, Limits{MaxElements: -1})
		if n, err := s.Next(frame, &m); n != len(frame) || err != nil {
			t.Fatalf("Next() = %d, %v", n, err)
		}
	}, func() {
		m.Reset()
		s := NewScanner(V1, Limits{MaxElements: -1})
		if have, err := inPieces(s, frame, &m); have != len(frame) || err != nil || m.NumArgs != size {
			t.Fatalf("in pieces: %d arguments after %d bytes, %v", m.NumArgs, have, err)
		}
	})
	t.Logf("%d MiB in pieces %v, whole %v", size>>20, pieces, whole)
	if pieces > 10*whole+10*time.Second {
		t.Errorf("in pieces %v, whole %v, want about the same", pieces, whole)
	}

	have, err := inPieces(NewScanner(V1, Limits{}), frame, &m)
	if codeOf(err) != CodeTooManyItems || have > 1448 {
		t.Errorf("by default: %v after %d bytes, want too_many_items after the first piece", err, have)
	}
}

// A6: other protocols are called by their name.
func testNotArray(t *testing.T) {
	for in, want := range map[string]string{
		"\xc1":                         "bad_frame at byte 0: reserved byte c1, want array",
		"\x80":                         "bad_frame at byte 0: map, want array",
		"\x00":                         "bad_frame at byte 0: integer, want array",
		"\xff":                         "bad_frame at byte 0: negative integer, want array",
		"\xda":                         "bad_frame at byte 0: string, want array",
		"\xc7":                         "bad_frame at byte 0: extension, want array",
		"GET / HTTP/1.1\r\n":           "bad_frame at byte 0: looks like HTTP",
		"G":                            "bad_frame at byte 0: looks like HTTP",
		"POST /x HTTP/1.1\r\n":         "bad_frame at byte 0: looks like HTTP",
		"PRI * HTTP/2.0\r\n":           "bad_frame at byte 0: looks like HTTP",
		"GETTER":                       "bad_frame at byte 0: integer, want array",
		"\x16\x03\x01\x02\x00\x01\x00": "bad_frame at byte 0: looks like a TLS ClientHello",
		"\x16\x04":                     "bad_frame at byte 0: integer, want array",
	} {
		for _, d := range []Dialect{V0, V1} {
			var m Message
			n, err := NewScanner(d, Limits{}).Next([]byte(in), &m)
			if n != 0 || err == nil || err.Error() != want {
				t.Errorf("%v: Next(%q) = %d, %v, want %s", d, in, n, err, want)
			}
		}
	}
	s := NewScanner(V0, Limits{})
	var m Message
	if n, err := s.Next([]byte("\x93\x01\x00\x90"), &m); n != 4 {
		t.Fatalf("Next() = %d, %v", n, err)
	}
	const want = "bad_frame at byte 4: integer, want array"
	if _, err := s.Next([]byte("GET / HTTP/1.1"), &m); err == nil || err.Error() != want {
		t.Errorf("HTTP behind a frame: %v, want %s", err, want)
	}
}

// A7: an array of less than 3.
func testShortArray(t *testing.T) {
	for _, b := range []string{"\x90", "\x91\x01", "\x92\x01\x00", "\xdc\x00\x02", "\xdd\x00\x00\x00\x00"} {
		expect(t, V0, Limits{}, []byte(b), CodeBadFrame, 0)
		expect(t, V1, Limits{}, []byte(b), CodeBadFrame, 0)
	}
	_, err := NewScanner(V1, Limits{}).Next([]byte("\x92"), new(Message))
	if want := "bad_frame at byte 0: array of 2 elements, want 3 or more"; err == nil || err.Error() != want {
		t.Errorf("Next(92) = %v, want %s", err, want)
	}
}

// A8: elements of the future are skipped and counted.
func testExtraElements(t *testing.T) {
	extra := [][]byte{{0x05}, {0xc0}, {0x91, 0x01}, []byte("\x81\xa1k\x90"), []byte("\xc7\x01\x05\xaa"), {0xcb, 0, 0, 0, 0, 0, 0, 0, 0}}
	for n := 3; n <= 40; n++ {
		for _, d := range []Dialect{V0, V1} {
			b := append(AppendArrayHeader(nil, n), "\x01\x00\x91\xa1a"...)
			for i := 3; i < n; i++ {
				if i == 3 && d == V1 {
					b = append(b, 0x90)
				} else {
					b = append(b, extra[i%len(extra)]...)
				}
			}
			m := expect(t, d, Limits{}, b, 0, 0)
			if want := max(n-3-int(d), 0); m.Extra != want || string(m.Payload) != "a" || m.Headers != nil {
				t.Errorf("%v: array of %d: Extra = %d, want %d; %+v", d, n, m.Extra, want, m)
			}
		}
	}
	m := expect(t, V0, Limits{}, append([]byte("\x94\x01\x00\x90"), noTrace...), 0, 0)
	if m.Extra != 1 || m.Headers != nil {
		t.Errorf("v0 with headers: %+v", m)
	}
	expect(t, V1, Limits{MaxElements: 6}, []byte("\x96\x01\x00\x90\x90\x90\x91\x00"), CodeTooManyItems, 6)
}

// A9: an array that declares 4 G items, in 5 bytes.
func testHugeArray(t *testing.T) {
	huge := []byte("\xdd\xff\xff\xff\xff")
	s := NewScanner(V1, Limits{})
	var m Message
	bytes := allocated(func() { s.Next(huge, &m) })
	if s.err == nil || s.err.Code != CodeTooManyItems {
		t.Errorf("Next(% x) = %v, want too_many_items", huge, s.err)
	}
	if bytes > 4096 {
		t.Errorf("%d bytes allocated", bytes)
	}
	expect(t, V1, Limits{}, append([]byte("\x94\x01\x00"), huge...), CodeTooManyItems, 3)
	expect(t, V1, Limits{}, frameWith(huge), CodeTooManyItems, 4)
	if math.MaxInt > math.MaxUint32 { // else even no limit is less than this
		expect(t, V1, Limits{MaxElements: -1}, huge, CodeTooLarge, 0)
	}
	expect(t, V1, Limits{}, []byte("\xdd\x00\x01\x00\x01"), CodeTooManyItems, 0)
}

// A10: anything else that declares 4 GiB, at its head.
func testHugeBytes(t *testing.T) {
	for _, head := range []string{"\xdf\xff\xff\xff\xff", "\xc6\xff\xff\xff\xff", "\xdb\xff\xff\xff\xff", "\xc9\xff\xff\xff\xff\x05"} {
		expect(t, V1, Limits{}, []byte("\x94\x01\x00\x91"+head), CodeTooLarge, 4)
		expect(t, V1, Limits{}, []byte("\x94\x01\x00\x90\x91"+head), CodeTooLarge, 5)
		expect(t, V1, Limits{}, []byte("\x95\x01\x00\x90\x90"+head), CodeTooLarge, 5)
	}
	expect(t, V1, Limits{}, []byte("\x93\x01\x00\x91\xdf\x00\x01\x00\x00"), CodeTooManyItems, 4)
}

// A11: the payload limit is exact, and the frame may be 64 KiB larger.
func testPayloadLimit(t *testing.T) {
	for _, form := range []byte{0xdb, 0xc6} {
		b := append([]byte{0x94, 1, 0, 0x92, form, 0x01, 0, 0, 0}, make([]byte, 16<<20)...)
		second := AppendRaw(nil, make([]byte, 65000))
		m := expect(t, V1, Limits{}, append(append(b, second...), 0x90), 0, 0)
		if len(m.Payload) != 16<<20 || m.NumArgs != 2 {
			t.Errorf("%d arguments, payload of %d", m.NumArgs, len(m.Payload))
		}
		expect(t, V1, Limits{}, append(b, "\xda\xff\xff"...), CodeTooLarge, int64(len(b)))
		b[8] = 1
		expect(t, V1, Limits{}, b[:9], CodeTooLarge, 4)
	}
	for limit := 10; limit < 80; limit++ {
		at := Frame{Kind: KindChunk, Session: 300, Payload: make([]byte, limit)}
		above := Frame{Kind: KindChunk, Session: 300, Payload: make([]byte, limit+1)}
		l := Limits{MaxPayloadBytes: limit}
		expect(t, V1, l, AppendFrame(nil, V1, &at), 0, 0)
		expect(t, V1, l, AppendFrame(nil, V1, &above), CodeTooLarge, 6)
	}
}

// A12: nested arrays that declare 65535 items each never get past 32 levels, even
// with no limit on values; by default they do not get past the first.
func testNestedArrays(t *testing.T) {
	b := append([]byte("\x93\x01\x00"), bytes.Repeat([]byte("\xdc\xff\xff"), 24000)...)
	expect(t, V1, Limits{MaxElements: -1}, b, CodeTooDeep, 3+31*3)
	expect(t, V1, Limits{}, b, CodeTooManyItems, 3)
}

// A13: 10 MB of containers in each other.
func testDeep(t *testing.T) {
	for level, want := range map[string]int64{"\x91": 3 + 31, "\x81\xa0": 4 + 30*2} {
		b := append([]byte("\x93\x01\x00\x91"), bytes.Repeat([]byte(level), 10_000_000/len(level))...)
		var m Message
		var err error
		took, _ := fastest(50, func() { _, err = NewScanner(V1, Limits{}).Next(b, &m) }, func() {})
		if e, _ := err.(*FrameError); e == nil || e.Code != CodeTooDeep || e.Offset != want {
			t.Errorf("%x...: %v, want too_deep at byte %d", level, err, want)
		}
		if took > time.Millisecond {
			t.Errorf("%x...: %v, want less than 1ms", level, took)
		}
	}
	expect(t, V1, Limits{}, bytes.Repeat([]byte{0x91}, 100), CodeBadFrame, 0)
	nested := func(levels int) []byte { // the frame and its arguments are 2 of them
		return append([]byte("\x93\x01\x00\x91"), append(bytes.Repeat([]byte{0x91}, levels-3), 0x90)...)
	}
	expect(t, V1, Limits{}, nested(32), 0, 0)
	expect(t, V1, Limits{}, nested(33), CodeTooDeep, 34)
	expect(t, V1, Limits{MaxDepth: 5}, nested(5), 0, 0)
	expect(t, V1, Limits{MaxDepth: 5}, nested(6), CodeTooDeep, 7)
	expect(t, V1, Limits{MaxDepth: -1}, nested(33), CodeTooDeep, 34)
}

// A14: the byte that msgpack reserves, anywhere.
func testReservedByte(t *testing.T) {
	expect(t, V1, Limits{}, []byte("\x94\x01\x00\x92\x01\xc1\x90"), CodeBadMsgpack, 5)
	expect(t, V1, Limits{}, []byte("\x94\x01\x00\x91\x81\xa1k\xc1\x90"), CodeBadMsgpack, 7)
	expect(t, V1, Limits{}, []byte("\x94\x01\x00\x90\x91\xc1"), CodeBadMsgpack, 5)
	expect(t, V1, Limits{}, []byte("\x95\x01\x00\x90\x90\xc1"), CodeBadMsgpack, 5)
	expect(t, V1, Limits{}, []byte("\x94\xc1\x00\x90\x90"), CodeBadSession, 1)
	expect(t, V1, Limits{}, []byte("\x94\x01\xc1\x90\x90"), CodeBadType, 2)
	expect(t, V1, Limits{}, []byte("\x94\x01\x00\xc1\x90"), CodeBadFrame, 3)
	expect(t, V1, Limits{}, []byte("\x94\x01\x00\x90\xc1"), CodeBadHeader, 4)
}

// A15: extensions of every form are skipped when whole, and waited for when not.
func testExtensions(t *testing.T) {
	for _, head := range []string{
		"\xd4\xff", "\xd5\xff", "\xd6\xff", "\xd7\x80", "\xd8\x05", "\xc7\x00\xff", "\xc7\x03\xff", "\xc8\x00\x03\xff", "\xc9\x00\x00\x00\x03\x7f",
	} {
		h, _ := parseHead([]byte(head))
		whole := append([]byte(head), make([]byte, h.n)...)
		frame := frameWith(whole)
		m := expect(t, V1, Limits{}, frame, 0, 0)
		r := m.Reader()
		typ, data := r.Ext()
		if typ != int8(head[len(head)-1]) || len(data) != int(h.n) || r.Err() != nil || m.Payload != nil {
			t.Errorf("%x: Ext() = %d, %x, %v", head, typ, data, r.Err())
		}
		for n := range frame {
			if got, err := NewScanner(V1, Limits{}).Next(frame[:n], &m); got != 0 || err != nil {
				t.Errorf("% x: Next() = %d, %v, want to wait", frame[:n], got, err)
			}
		}
	}
	expect(t, V1, Limits{MaxPayloadBytes: 2}, frameWith([]byte("\xd6\xff\x00\x00\x00\x00")), CodeTooLarge, 4)
}

// A16: keys of any kind pass through as they lie.
func testOddKeys(t *testing.T) {
	arg := []byte("\x84\x90\x01\x81\xa1a\x02\x02\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00\x03\xa1k\x04")
	m := expect(t, V1, Limits{}, frameWith(arg), 0, 0)
	r := m.Reader()
	if raw := r.Raw(); !bytes.Equal(raw, arg) {
		t.Errorf("Raw() = %x, want %x", raw, arg)
	}
	want := `{"session":1,"type":0,"args":[{"hex:90":1,"hex:81a16102":2,"1":3,"k":4}],"headers":[]}`
	if got := string(AppendJSON(nil, &m, V1)); got != want {
		t.Errorf("AppendJSON() = %s, want %s", got, want)
	}
}

// A17: duplicate keys are all there, in order; who keeps the last has what peers have.
func testDuplicateKeys(t *testing.T) {
	m := expect(t, V1, Limits{}, frameWith([]byte("\x83\xa1k\x01\xa1j\x02\xa1k\x03")), 0, 0)
	r := m.Reader()
	got := map[string]int{}
	for range r.MapLen() {
		key := r.String()
		got[key] = r.Int()
	}
	if r.Err() != nil || len(got) != 2 || got["k"] != 3 || got["j"] != 2 {
		t.Errorf("got %v, %v", got, r.Err())
	}
}
