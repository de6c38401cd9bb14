package codec

import (
	"bytes"
	"math"
	"reflect"
	"testing"
	"time"
)

// TestScanBorrows shows that a Message lies in the buffer, and cannot be appended to.
func TestScanBorrows(t *testing.T) {
	buf := []byte("\x94\x02\x00\x91\xa4data\x91\x50\x94\x02\x02\x90\x90")
	s := NewScanner(V1, Limits{})
	var m Message
	n, err := s.Next(buf, &m)
	if n != 11 || err != nil || string(m.Payload) != "data" || string(m.Headers) != "\x91\x50" {
		t.Fatalf("Next() = %d, %v, %+v", n, err, m)
	}
	if &m.Args[0] != &buf[3] || &m.Payload[0] != &buf[5] || &m.Headers[0] != &buf[9] {
		t.Error("not in the buffer")
	}
	kept := m.Clone()
	_ = append(m.Payload, "overwritten"...)
	_ = append(m.Args, "overwritten"...)
	_ = append(m.Headers, "overwritten"...)
	if string(buf) != "\x94\x02\x00\x91\xa4data\x91\x50\x94\x02\x02\x90\x90" {
		t.Errorf("append wrote into the buffer: %x", buf)
	}
	clear(buf)
	if string(kept.Payload) != "data" || string(kept.Args) != "\x91\xa4data" || string(kept.Headers) != "\x91\x50" {
		t.Errorf("Clone() = %+v", kept)
	}
	if cap(kept.Args) != len(kept.Args) || &kept.Payload[0] != &kept.Args[2] {
		t.Error("the parts of a clone do not lie in each other")
	}
	if m.Reset(); m.Args != nil || m.Payload != nil || m.Headers != nil {
		t.Errorf("Reset left %+v", m)
	}
}

// TestScanOffset follows a stream: Offset counts from its first byte.
func TestScanOffset(t *testing.T) {
	var s Scanner
	s.Init(V1, Limits{})
	var m Message
	for i := range int64(3) {
		if s.Offset() != i*5 {
			t.Errorf("Offset() = %d, want %d", s.Offset(), i*5)
		}
		if n, err := s.Next([]byte("\x94\x02\x02\x90\x90"), &m); n != 5 || err != nil {
			t.Fatalf("Next() = %d, %v", n, err)
		}
	}
	for have := 1; have <= 3; have++ {
		if n, err := s.Next([]byte("\x94\x02\xff\x90\x90")[:have], &m); have == 3 && codeOf(err) != CodeBadType || have < 3 && err != nil {
			t.Fatalf("Next() = %d, %v", n, err)
		}
	}
	if want := int64(17); s.err.Offset != want || s.Offset() != 15 {
		t.Errorf("error at %d, want %d", s.err.Offset, want)
	}
	if s.Init(V0, Limits{}); s.Offset() != 0 {
		t.Errorf("after Init: Offset() = %d", s.Offset())
	}
	if n, err := s.Next([]byte("\x93\x01\x00\x90"), &m); n != 4 || err != nil || m.Type != 1 {
		t.Errorf("after Init: Next() = %d, %v, %+v", n, err, m)
	}
}

// TestScanNeed asks for what is known to be missing.
func TestScanNeed(t *testing.T) {
	for _, c := range []struct {
		have string
		want int
	}{
		{"", 1},
		{"\x94", 4},
		{"\x94\x01\xcd", 4},           // 2 of the type, arguments, headers
		{"\x94\x01\x00\x91", 2},       // 1 argument, headers
		{"\x94\x01\x00\x92\xa4da", 4}, // 2 of the string, 1 argument, headers
		{"\x93\x01\x00\x91\xda\x01\x00", 256},
		{"\x93\x01\x00\x91\xda\x01", 1},
		{"\x93\x01\x00\x91\xdb\x01\x00\x00\x00", 16 << 20},
		{"\x94\x01\x00\xdc\x01\x00", 257},
		{"\x94\x01\x00\x91\x81\x00", 2}, // the pair's value, headers
	} {
		s := NewScanner(V1, Limits{})
		var m Message
		if n, err := s.Next([]byte(c.have), &m); n != 0 || err != nil || s.Need() != c.want {
			t.Errorf("%x: Next() = %d, %v, Need() = %d, want %d", c.have, n, err, s.Need(), c.want)
		}
	}
	s := NewScanner(V1, Limits{})
	var m Message
	s.Next([]byte("\x94\x01\x00\x91\xa4da"), &m)
	if n, err := s.Next([]byte("\x94\x01"), &m); n != 0 || err != nil || s.Need() < 1 {
		t.Errorf("fewer bytes than before: Next() = %d, %v, Need() = %d", n, err, s.Need())
	}
	if n, err := s.Next([]byte("\x94\x01\x00\x91\xa4data\x90"), &m); n != 10 || err != nil {
		t.Errorf("all bytes again: Next() = %d, %v", n, err)
	}
}

// TestScanLimits reaches each limit exactly, and one beyond.
func TestScanLimits(t *testing.T) {
	frame := []byte("\x94\x02\x00\x93\xa4data\x81\xa1k\xcd\x01\x00\x05\x90") // 4 + 3 + 2 values
	for _, c := range []struct {
		limits Limits
		want   Code
		at     int64
	}{
		{Limits{}, 0, 0},
		{Limits{-1, -1, -1, -1, -1, -1}, 0, 0},
		{Limits{MaxElements: 9}, 0, 0},
		{Limits{MaxElements: 8}, CodeTooManyItems, 9},
		{Limits{MaxElements: 6}, CodeTooManyItems, 3},
		{Limits{MaxElements: 3}, CodeTooManyItems, 0},
		{Limits{MaxDepth: 3}, 0, 0},
		{Limits{MaxDepth: 2}, CodeTooDeep, 9},
		{Limits{MaxDepth: 1}, CodeTooDeep, 3},
		{Limits{MaxPayloadBytes: 4}, 0, 0},
		{Limits{MaxPayloadBytes: 3}, CodeTooLarge, 4},
		{Limits{MaxFrameBytes: len(frame)}, 0, 0},
		{Limits{MaxFrameBytes: len(frame) - 1}, CodeTooLarge, 12}, // the value that makes it so
		{Limits{MaxFrameBytes: 12}, CodeTooLarge, 9},
		{Limits{MaxFrameBytes: 10}, CodeTooLarge, 4},
		{Limits{MaxFrameBytes: 6}, CodeTooLarge, 3},
		{Limits{MaxFrameBytes: 3}, CodeTooLarge, 0},
	} {
		expect(t, V1, c.limits, frame, c.want, c.at)
	}
}

// TestScanLimitsPlain reaches the limits with frames of the shape that has a faster
// way, with every kind of tail.
func TestScanLimitsPlain(t *testing.T) {
	for _, tail := range []string{"", "\x90", noTrace} {
		frame := []byte("\x94\x02\x00\x91\xb4twenty bytes of data" + tail)
		elements, depth := 5, 2
		switch tail {
		case "":
			frame[0], elements = 0x93, 4
		case noTrace:
			elements, depth = plainElements, plainDepth
		}
		expect(t, V1, Limits{MaxElements: elements, MaxDepth: depth, MaxFrameBytes: len(frame), MaxPayloadBytes: 20}, frame, 0, 0)
		for _, l := range []Limits{
			{MaxElements: elements - 1}, {MaxDepth: depth - 1}, {MaxFrameBytes: len(frame) - 1}, {MaxPayloadBytes: 19},
		} {
			if _, err := NewScanner(V1, l).Next(frame, new(Message)); err == nil {
				t.Errorf("tail of %d: accepted with %+v", len(tail), l)
			}
		}
	}
}

// TestSetLimits tightens and widens limits between two frames, and within one.
func TestSetLimits(t *testing.T) {
	chunk := func(n int) []byte {
		return AppendFrame(nil, V1, &Frame{Kind: KindChunk, Session: 2, Payload: make([]byte, n)})
	}
	var m Message
	s := NewScanner(V1, Limits{MaxPayloadBytes: 100})
	if n, err := s.Next(chunk(100), &m); n == 0 {
		t.Fatal(err)
	}
	s.SetLimits(Limits{MaxPayloadBytes: 1000})
	if n, err := s.Next(chunk(1000), &m); n == 0 {
		t.Fatal(err)
	}
	if n, err := s.Next(chunk(500)[:300], &m); n != 0 || err != nil {
		t.Fatal(n, err)
	}
	s.SetLimits(Limits{MaxPayloadBytes: 400})
	if n, err := s.Next(chunk(500), &m); n != 0 || codeOf(err) != CodeTooLarge {
		t.Errorf("tightened within a frame: Next() = %d, %v", n, err)
	}
}

func TestWithDefaults(t *testing.T) {
	maxElements := int(min(uint64(math.MaxInt), math.MaxUint32))
	for _, c := range []struct{ in, want Limits }{
		{Limits{}, Limits{16 << 20, 16<<20 + 64<<10, 65536, 32, 32, 8 << 10}},
		{Limits{-1, -1, -1, -1, -1, -1}, Limits{math.MaxInt, math.MaxInt, maxElements, 32, math.MaxInt, math.MaxInt}},
		{Limits{1000, 0, 5, 99, 1, 2}, Limits{1000, 1000 + 64<<10, 5, 32, 1, 2}},
		{Limits{MaxPayloadBytes: -5}, Limits{math.MaxInt, math.MaxInt, 65536, 32, 32, 8 << 10}},
		{Limits{MaxPayloadBytes: math.MaxInt - 1}, Limits{math.MaxInt - 1, math.MaxInt, 65536, 32, 32, 8 << 10}},
		{Limits{1000, 70, 5, 3, 1, 2}, Limits{1000, 70, 5, 3, 1, 2}},
	} {
		if got := c.in.WithDefaults(); got != c.want {
			t.Errorf("%+v.WithDefaults() = %+v, want %+v", c.in, got, c.want)
		}
	}
}

// arrive copies a frame into buf packet by packet, as a connection would, and
// offers what is there to s each time.
func arrive(buf, frame []byte, s *Scanner) (n int, err error) {
	var m Message
	for have := 0; have < len(frame) && n == 0 && err == nil; {
		have += copy(buf[have:], frame[have:min(have+1448, len(frame))])
		n, err = s.Next(buf[:have], &m)
	}
	return n, err
}

// TestLargePayloadIsLinear: to scan a payload of 16 MiB while it arrives costs little
// beside copying it. To look at it each time would cost the copying of 100 GB.
func TestLargePayloadIsLinear(t *testing.T) {
	frame := AppendFrame(nil, V1, &Frame{Kind: KindChunk, Session: 2, Payload: make([]byte, 16<<20)})
	buf := make([]byte, len(frame))
	memcpy, pieces := fastest(5, func() { copy(buf, frame) }, func() {
		if n, err := arrive(buf, frame, NewScanner(V1, Limits{})); n != len(frame) || err != nil {
			t.Fatalf("Next() = %d, %v", n, err)
		}
	})
	t.Logf("in pieces %v, memcpy %v", pieces, memcpy)
	if pieces > 10*memcpy+3*time.Second {
		t.Errorf("in pieces %v, memcpy %v, want little more", pieces, memcpy)
	}
}

// TestCodeNames: logs and counters are named by these.
func TestCodeNames(t *testing.T) {
	want := "bad_frame too_many_items too_large too_deep bad_msgpack bad_session bad_type bad_header Code(9) Code(0)"
	var got []byte
	for c := CodeBadFrame; c <= CodeBadHeader+1; c++ {
		got = append(append(got, c.String()...), ' ')
	}
	got = append(got, Code(0).String()...)
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := (&FrameError{17, CodeBadFrame, "array of 2 elements, want 3 or more"}).Error(); got != "bad_frame at byte 17: array of 2 elements, want 3 or more" {
		t.Errorf("Error() = %s", got)
	}
}

// TestScannerSize: there is one for every connection, also the idle ones.
func TestScannerSize(t *testing.T) {
	n := reflect.TypeFor[Scanner]().Size()
	if n > 352 {
		t.Errorf("a Scanner takes %d bytes, want at most 352", n)
	}
}

// TestScanReuse: nothing of one frame shows in the next that goes to the same
// Message, whichever way the two are scanned.
func TestScanReuse(t *testing.T) {
	full := []byte("\x96\x02\x00\x91\xa4data\x91\x50\x01\x02")
	for _, c := range []struct {
		next    string
		payload string
	}{
		{"\x94\x02\x02\x90\x90", ""},
		{"\x94\x02\x02\x90\x90 and more bytes", ""},
		{"\x93\x02\x02\x90 and more bytes", ""},
		{"\x94\x02\x00\x91\xa4DATA\x90", "DATA"},
		{"\x94\x02\x00\x91\xa4DATA\x90 and more bytes", "DATA"},
		{"\x94\x02\x00\x92\x05\x05\x90 and more bytes", ""},
	} {
		s := NewScanner(V1, Limits{})
		var m Message
		if n, err := s.Next(full, &m); n != len(full) || m.Payload == nil || m.Headers == nil || m.Extra != 2 {
			t.Fatalf("Next() = %d, %v, %+v", n, err, m)
		}
		n, err := s.Next([]byte(c.next), &m)
		r := m.Reader()
		if n == 0 || string(m.Payload) != c.payload || (m.Payload == nil) != (c.payload == "") || m.Headers != nil || m.Extra != 0 || m.NumArgs != r.Len() {
			t.Errorf("Next(%q) = %d, %v, %+v", c.next, n, err, m)
		}
	}
}

// TestScanFastAgain: after a frame in two pieces the faster way is open again.
func TestScanFastAgain(t *testing.T) {
	frame := AppendFrame(nil, V1, &Frame{Kind: KindChunk, Session: 2, Payload: data64})
	s := NewScanner(V1, Limits{})
	var m Message
	for _, have := range []int{5, 40, len(frame)} {
		s.Next(frame[:have], &m)
		if want := have == len(frame); (s.plainMax > 0) != want {
			t.Errorf("after %d bytes: %v, want %v", have, s.plainMax > 0, want)
		}
	}
}

// TestDamagedHeads puts every byte in every place of the first 8 of a frame that is
// scanned the faster way: the verdict must be the reference decoder's.
func TestDamagedHeads(t *testing.T) {
	for _, d := range []Dialect{V0, V1} {
		for _, session := range []uint64{5, 200, 300, 70000, 1 << 40} {
			for _, kind := range []Kind{KindChunk, KindChoke} {
				b := AppendFrame(nil, d, &Frame{Kind: kind, Session: session, Payload: []byte{1, 2, 0xc0, 0x90}})
				b = append(b, "\x90\x90\x90 of the next frame"...)
				for at := range 8 {
					for c := range 256 {
						damaged := bytes.Clone(b)
						damaged[at] = byte(c)
						got := append(scanAll(d, Limits{}, damaged), verdict{})[0]
						if want := referenceNext(d, Limits{}, damaged); !sameVerdict(got, want) {
							t.Fatalf("%v, %x:\nscanner   %v\nreference %v", d, damaged, got, want)
						}
					}
				}
			}
		}
	}
}

// TestDamagedFrames flips every bit of some frames: the verdict must be the
// reference decoder's.
func TestDamagedFrames(t *testing.T) {
	frames := [][]byte{
		AppendFrame(nil, V1, &Frame{Kind: KindChunk, Session: 300, Payload: []byte("some payload")}),
		AppendFrame(nil, V1, &Frame{Kind: KindChoke, Session: 70000}),
		append([]byte("\x94\x05\x00\x91\xa5event"), noTrace...),
		AppendFrame(nil, V0, &Frame{Kind: KindChunk, Session: 200, Payload: bytes.Repeat([]byte("x"), 40)}),
		AppendFrame(nil, V1, &Frame{Kind: KindError, Session: 5, Category: 42, Code: 200, Text: "no handler"}),
	}
	for _, frame := range frames {
		for _, behind := range []string{"", "and bytes of the next frame"} {
			b := append(bytes.Clone(frame), behind...)
			for bit := range 8 * len(frame) {
				b[bit/8] ^= 1 << (bit % 8)
				for which := range byte(128) {
					d, l := Dialect(which&1), fuzzLimits(which)
					var got verdict
					if all := scanAll(d, l, b); len(all) > 0 {
						got = all[0]
					}
					if want := referenceNext(d, l, b); !sameVerdict(got, want) {
						t.Fatalf("%v, %+v, %x:\nscanner   %v\nreference %v", d, l, b, got, want)
					}
				}
				b[bit/8] ^= 1 << (bit % 8)
			}
		}
	}
}
