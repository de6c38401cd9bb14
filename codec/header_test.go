package codec

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
)

// stored returns a header array that has the peer's decoder keep the header.
func stored(name, value string) []byte {
	return AppendString(AppendString([]byte("\x91\x93\xc3"), name), value)
}

// TestStaticTable looks up every number below the dynamic table.
func TestStaticTable(t *testing.T) {
	known := map[int]Header{
		1: entry(":authority", ""), 2: entry(":method", "GET"), 3: entry(":method", "POST"), 7: entry(":scheme", "https"),
		8: entry(":status", "200"), 14: entry(":status", "500"), 16: entry("accept-encoding", "gzip, deflate"), 23: entry("authorization", ""),
		31: entry("content-type", ""), 38: entry("host", ""), 58: entry("user-agent", ""), 61: entry("www-authenticate", ""),
		62: {}, 79: {}, 80: entry("trace_id", strings.Repeat("\x00", 8)), 82: entry("parent_id", strings.Repeat("\x00", 8)),
	}
	var d HeaderDecoder
	for i := 1; i < staticSize; i++ {
		got, err := d.Decode([]byte{0x91, byte(i)}, nil)
		if err != nil || len(got) != 1 {
			t.Fatalf("%d: %q, %v", i, got, err)
		}
		if want, ok := known[i]; ok && !sameHeaders(got, []Header{want}) {
			t.Errorf("%d: %q, want %q", i, got, want)
		}
		if i <= 61 && len(got[0].Name) == 0 {
			t.Errorf("%d has no name", i)
		}
		clear(got[0].Name) // must not reach the table
		clear(got[0].Value)
		named, err := d.Decode([]byte{0x91, 0x93, 0xc2, byte(i), 0xa1, 'v'}, nil)
		if err != nil || string(named[0].Name) != string(staticTable[i].Name) || string(named[0].Value) != "v" {
			t.Errorf("name %d: %q, %v", i, named, err)
		}
	}
	if string(staticTable[2].Value) != "GET" {
		t.Error("a caller wrote to the table")
	}
}

// TestDynamicTable compares the table with a plain list of what was stored.
func TestDynamicTable(t *testing.T) {
	var d HeaderDecoder
	var list []Header // newest first
	size := func() (n int) {
		for _, h := range list {
			n += len(h.Name) + len(h.Value) + 32
		}
		return n
	}
	for i := range 5000 {
		name, value := fmt.Sprintf("n%d", i), strings.Repeat("v", i*i%900)
		switch {
		case i%977 == 976:
			value = strings.Repeat("w", 4096-32-len(name)+i%2) // fills the table, or does not fit at all
		case i%50 < 20:
			name, value = "", "" // 128 of them fit
		}
		if _, err := d.Decode(stored(name, value), nil); err != nil {
			t.Fatal(err)
		}
		list = append([]Header{entry(name, value)}, list...)
		for size() > tableCapacity {
			list = list[:len(list)-1]
		}
		if d.table.count != len(list) || d.table.size != size() {
			t.Fatalf("%d: %d entries of %d octets, want %d of %d", i, d.table.count, d.table.size, len(list), size())
		}
		for j, want := range list {
			if got, ok := d.table.at(uint64(j)); !ok || !sameHeaders([]Header{got}, []Header{want}) {
				t.Fatalf("%d: entry %d = %q, want %q", i, j, got, want)
			}
		}
		if _, ok := d.table.at(uint64(len(list))); ok {
			t.Fatalf("%d: an entry too many", i)
		}
	}
}

// TestDynamicIndex refers to stored headers: newest is 83, by name and as a whole.
func TestDynamicIndex(t *testing.T) {
	var d HeaderDecoder
	for _, h := range []Header{entry("first", "1"), entry("second", "2")} {
		if _, err := d.Decode(stored(string(h.Name), string(h.Value)), nil); err != nil {
			t.Fatal(err)
		}
	}
	got, err := d.Decode([]byte("\x94\x53\x54\x93\xc3\x54\xa1x\x55"), nil)
	want := []Header{entry("second", "2"), entry("first", "1"), entry("first", "x"), entry("first", "1")}
	if err != nil || !sameHeaders(got, want) {
		t.Errorf("Decode() = %q, %v, want %q", got, err, want)
	}
	if _, err := d.Decode([]byte("\x91\x56"), nil); codeOf(err) != CodeBadHeader || err.(*FrameError).Offset != 1 {
		t.Errorf("86 of 3: %v", err)
	}
}

// TestHeadersOutlive: a header is good until the next Decode, even if its entry goes
// in the same one.
func TestHeadersOutlive(t *testing.T) {
	var d HeaderDecoder
	big := strings.Repeat("A", 3000)
	if _, err := d.Decode(stored("n", big), nil); err != nil {
		t.Fatal(err)
	}
	raw := append([]byte("\x95\x53"), stored("b", strings.Repeat("B", 2000))[1:]...)
	raw = append(raw, stored("c", strings.Repeat("C", 2000))[1:]...)
	raw = append(raw, stored("d", strings.Repeat("D", 500))[1:]...)
	raw = append(raw, 0x53)
	got, err := d.Decode(raw, nil)
	if err != nil || len(got) != 5 || string(got[0].Value) != big || got[4].Value[499] != 'D' {
		t.Errorf("Decode() = %d headers, %v", len(got), err)
	}
	for i := range got {
		if n := len(got[i].Value); cap(got[i].Value) != n || cap(got[i].Name) != len(got[i].Name) {
			t.Errorf("header %d has room to append", i)
		}
	}
}

// TestHeadersOverwritten: the same where the later ones lie in the memory of that entry.
func TestHeadersOverwritten(t *testing.T) {
	var d HeaderDecoder
	keep := func(fill string, n int) []byte { return stored("n", strings.Repeat(fill, n-1)) }
	for _, raw := range [][]byte{keep("A", 4000), keep("A", 4000), keep("x", 100)} {
		if _, err := d.Decode(raw, nil); err != nil {
			t.Fatal(err)
		}
	}
	lies := d.table.next - 100
	raw := []byte("\x95\x53\x93\xc2\x53\xa0") // all of it, and its name
	for _, n := range []int{4000, 4000, 60} {
		raw = append(raw, keep("B", n)[1:]...)
	}
	got, err := d.Decode(raw, nil)
	if err != nil || len(got) != 5 {
		t.Fatalf("Decode() = %d headers, %v", len(got), err)
	}
	if d.table.next != lies+60 {
		t.Fatalf("the last entry ends at %d, want it in the place of the first, at %d", d.table.next, lies)
	}
	if string(got[0].Name) != "n" || string(got[0].Value) != strings.Repeat("x", 99) || string(got[1].Name) != "n" {
		t.Errorf("Decode() = %q, and the name %q", got[0], got[1].Name)
	}
}

// TestHeadersDst appends, and on an error returns what it was given.
func TestHeadersDst(t *testing.T) {
	var d HeaderDecoder
	dst := []Header{entry("before", "1")}
	got, err := d.Decode([]byte("\x91\x50"), dst)
	if err != nil || len(got) != 2 || string(got[0].Name) != "before" || string(got[1].Name) != "trace_id" {
		t.Errorf("Decode() = %q, %v", got, err)
	}
	for _, none := range []string{"", noTrace, "\x90"} {
		if got, err := d.Decode([]byte(none), dst); err != nil || len(got) != 1 {
			t.Errorf("Decode(%x) = %q, %v", none, got, err)
		}
	}
	if got, err := d.Decode([]byte("\x92\x50\x00"), dst); err == nil || len(got) != 1 {
		t.Errorf("Decode() = %q, %v", got, err)
	}
}

// TestHeaderErrors says where and what.
func TestHeaderErrors(t *testing.T) {
	for raw, want := range map[string]string{
		"\x92\x50\xc0":           "bad_header at byte 2: nil, want array",
		"\x91\x92\xc2\xa1n":      "bad_header at byte 1: header of other than 3 elements",
		"\x91\x93\xc0\xa1n\xa1v": "bad_header at byte 2: nil, want bool",
		"\x91\x93\xc2\xa1n\x05":  "bad_header at byte 5: integer, want string",
		"\x91\x93\xc2\xa1n\xa2v": "bad_header at byte 5: cut short",
		"\x91\xcd\x01\xf4":       "bad_header at byte 1: no header has the number 500",
		"\x91\x50\x50":           "bad_header at byte 2: bytes behind the headers",
		"\x80":                   "bad_header at byte 0: map, want array",
		string(stored("", "")):   "",
	} {
		got := ""
		if _, err := new(HeaderDecoder).Decode([]byte(raw), nil); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%x: %s, want %s", raw, got, want)
		}
	}
}

// TestHeaderLimits reaches the limits exactly, and one beyond. They hold for one
// frame, not for a connection.
func TestHeaderLimits(t *testing.T) {
	many := func(n int) []byte { return append(AppendArrayHeader(nil, n), bytes.Repeat([]byte{0x01}, n)...) }
	for _, c := range []struct {
		limits Limits
		raw    []byte
		ok     bool
	}{
		{Limits{}, many(32), true},
		{Limits{}, many(33), false},
		{Limits{MaxHeaders: 2}, many(2), true},
		{Limits{MaxHeaders: 2}, many(3), false},
		{Limits{MaxHeaders: -1}, many(800), true},
		{Limits{MaxHeaders: -1}, many(820), false}, // 8200 bytes of ":authority"
		{Limits{MaxHeaders: -1, MaxHeaderBytes: -1}, many(70000), true},
		{Limits{MaxHeaderBytes: 20}, many(2), true},
		{Limits{MaxHeaderBytes: 19}, many(2), false},
		{Limits{MaxHeaderBytes: 15}, stored("1234567", "12345678"), true},
		{Limits{MaxHeaderBytes: 14}, stored("1234567", "12345678"), false},
	} {
		var d HeaderDecoder
		d.Init(c.limits)
		for range 3 {
			if _, err := d.Decode(c.raw, nil); (err == nil) != c.ok || err != nil && codeOf(err) != CodeBadHeader {
				t.Errorf("%+v, %x...: %v", c.limits, clip(c.raw), err)
			}
		}
		if _, err := d.Decode([]byte("\x90"), nil); (err == nil) != c.ok {
			t.Errorf("%+v: then %v", c.limits, err)
		}
		if cap(d.scratch) > maxScratch {
			t.Errorf("%+v: %d bytes kept", c.limits, cap(d.scratch))
		}
	}
}

// TestHeaderSetLimits widens the limits in mid-stream; the table stays.
func TestHeaderSetLimits(t *testing.T) {
	var d HeaderDecoder
	d.Init(Limits{MaxHeaders: 1})
	if _, err := d.Decode(stored("name", "value"), nil); err != nil {
		t.Fatal(err)
	}
	d.SetLimits(Limits{})
	h, err := d.Decode([]byte("\x92\x53\x53"), nil)
	if want := []Header{entry("name", "value"), entry("name", "value")}; err != nil || !sameHeaders(h, want) {
		t.Errorf("Decode() = %q, %v, want %q", h, err, want)
	}
}

func TestTraceHeaders(t *testing.T) {
	var scratch [24]byte
	want := Trace{ID: 0x0102030405060708, Span: 2, Parent: 0}
	h := want.AppendHeaders([]Header{entry("x", "y")}, &scratch)
	if len(h) != 4 || string(h[1].Value) != "\x08\x07\x06\x05\x04\x03\x02\x01" {
		t.Errorf("AppendHeaders() = %q", h)
	}
	f := Frame{Kind: KindInvoke, Session: 2, Text: "event", Headers: h}
	m := scanOne(t, V1, AppendFrame(nil, V1, &f))
	if got, ok := TraceOf(headersOf(t, &m)); !ok || got != want {
		t.Errorf("TraceOf() = %v, %v, want %v", got, ok, want)
	}
	for _, none := range []Trace{{}, {ID: 1}, {Span: 1, Parent: 1}} {
		if h := none.AppendHeaders(nil, &scratch); h != nil {
			t.Errorf("%v.AppendHeaders() = %q", none, h)
		}
	}
}

func TestTimeout(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"\x88\x13\x00\x00\x00\x00\x00\x00": 5 * time.Second,
		"\x00\x00\x00\x00\x00\x00\x00\x00": 0,
		"\xff\xff\xff\xff\xff\xff\xff\xff": math.MaxInt64,
		"\x00\x00\x00\x00\x00\x00\x00\x80": math.MaxInt64,
		"\xf6\x5a\xd0\x7b\x63\x08\x00\x00": 9223372036854 * time.Millisecond,
		"\xf7\x5a\xd0\x7b\x63\x08\x00\x00": math.MaxInt64,
	} {
		if got, ok := TimeoutOf([]Header{entry("x", "y"), entry("request_timeout", value)}); got != want || !ok {
			t.Errorf("TimeoutOf(%x) = %v, %v, want %v", value, got, ok, want)
		}
	}
	for _, h := range [][]Header{nil, {entry("request_timeout", "5000")}, {entry("request_timeout", "")}} {
		if got, ok := TimeoutOf(h); got != 0 || ok {
			t.Errorf("TimeoutOf(%q) = %v, %v", h, got, ok)
		}
	}
	// The largest number of milliseconds that a Duration holds, and one more.
	most := int64(math.MaxInt64 / int64(time.Millisecond))
	for in, want := range map[time.Duration]time.Duration{
		5 * time.Second:           5 * time.Second,
		1:                         time.Millisecond,
		time.Millisecond + 1:      2 * time.Millisecond,
		0:                         0,
		-time.Hour:                0,
		math.MaxInt64:             math.MaxInt64, // rounded up, beyond
		time.Duration(most) * 1e6: time.Duration(most) * 1e6,
	} {
		var scratch [8]byte
		if got, ok := TimeoutOf([]Header{TimeoutHeader(in, &scratch)}); got != want || !ok {
			t.Errorf("timeout %v came back as %v, %v, want %v", in, got, ok, want)
		}
	}
}

func TestCloneHeaders(t *testing.T) {
	h := []Header{entry("a", "1"), entry("b", "")}
	c := CloneHeaders(h)
	h[0].Name[0], h[0].Value[0] = 'x', 'y'
	if len(c) != 2 || string(c[0].Name) != "a" || string(c[0].Value) != "1" || string(c[1].Name) != "b" {
		t.Errorf("CloneHeaders() = %q, want what was there before the change", c)
	}
	if CloneHeaders([]Header{}) != nil {
		t.Error("CloneHeaders() of none is not nil")
	}
}
