package codec

import (
	"bytes"
	"encoding/hex"
	"maps"
	"os"
	"strings"
	"testing"
	"time"
)

// goldenRow is one row of testdata/golden/frames.tsv, which holds the output of the
// real encoders of five generations of runtimes.
type goldenRow struct {
	version, name string
	bytes         []byte
}

func (r goldenRow) String() string { return r.version + " " + r.name }

// isValue reports whether the row is a value that travels inside a payload.
func (r goldenRow) isValue() bool {
	return strings.HasPrefix(r.name, "graph ") || strings.Contains(r.name, "(inner)") ||
		strings.HasPrefix(r.name, "multicast ")
}

// dialect returns what the row is to be read as. Frames of the transitional runtime
// have the order of V1.
func (r goldenRow) dialect() Dialect {
	if r.version == "v0" || strings.HasPrefix(r.name, "v0 ") {
		return V0
	}
	return V1
}

func goldenRows(tb testing.TB) []goldenRow {
	tb.Helper()
	text, err := os.ReadFile("testdata/golden/frames.tsv")
	if err != nil {
		tb.Fatal(err)
	}
	var rows []goldenRow
	for line := range strings.Lines(string(text)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) != 3 {
			tb.Fatalf("row %q has %d columns, want 3", line, len(f))
		}
		rows = append(rows, goldenRow{f[0], f[1], unhex(tb, f[2])})
	}
	if len(rows) != 185 {
		tb.Fatalf("%d golden rows, want 185", len(rows))
	}
	return rows
}

func unhex(tb testing.TB, s string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// scanOne scans exactly one frame.
func scanOne(tb testing.TB, d Dialect, frame []byte) Message {
	tb.Helper()
	var m Message
	if n, err := NewScanner(d, Limits{}).Next(frame, &m); n != len(frame) || err != nil {
		tb.Fatalf("Next(%x) = %d, %v, want %d, nil", frame, n, err, len(frame))
	}
	return m
}

// headersOf decodes headers that refer to no earlier frame.
func headersOf(tb testing.TB, m *Message) []Header {
	tb.Helper()
	h, err := new(HeaderDecoder).Decode(m.Headers, nil)
	if err != nil {
		tb.Fatalf("Decode(%x) = %v", m.Headers, err)
	}
	return h
}

// TestGoldenDecode reads every row: frames with the Scanner, values with a Reader.
// Frames that name their headers must come out of AppendFrame as they went in.
func TestGoldenDecode(t *testing.T) {
	frames, values := 0, 0
	for _, row := range goldenRows(t) {
		if row.isValue() {
			values++
			r := NewValueReader(row.bytes)
			if r.Skip(); r.Err() != nil || r.Len() != 0 || len(r.Rest()) != 0 {
				t.Errorf("%v: Skip: %v, %d bytes left", row, r.Err(), len(r.Rest()))
			}
			continue
		}
		frames++
		m := scanOne(t, row.dialect(), row.bytes)
		if m.Extra != 0 {
			t.Errorf("%v: Extra = %d, want 0", row, m.Extra)
		}
		r := m.Reader()
		for range m.NumArgs {
			r.Skip()
		}
		if r.Err() != nil || r.Len() != 0 || len(r.Rest()) != 0 {
			t.Errorf("%v: arguments: %v, %d items and %d bytes left", row, r.Err(), r.Len(), len(r.Rest()))
		}
		if row.version == "v1-hpack" || row.name == "enqueue+trace" {
			continue // headers by number: we write their names
		}
		f := Frame{Kind: KindCall, Session: m.Session, Type: m.Type, Args: m.Args, Headers: headersOf(t, &m)}
		if got, want := AppendFrame(nil, row.dialect(), &f), canonical(row); !bytes.Equal(got, want) {
			t.Errorf("%v: AppendFrame:\n got %x\nwant %x", row, got, want)
		}
	}
	if frames != 167 || values != 18 {
		t.Errorf("read %d frames and %d values, want 167 and 18", frames, values)
	}
}

// canonical returns the row as we write it: in V1 with four elements, and with no
// headers in place of a trace of zeros.
func canonical(row goldenRow) []byte {
	b := bytes.Clone(row.bytes)
	if row.dialect() == V0 {
		return b
	}
	if rest, ok := bytes.CutSuffix(b, []byte(noTrace)); ok {
		return append(rest, 0x90)
	}
	if b[0] == 0x93 {
		b[0] = 0x94
		b = append(b, 0x90)
	}
	return b
}

const goldenUUID = "0f9dac46-1a6c-4b1c-9c1b-6d1b9f4c3a10"

// list is an argument that is an array.
type list = []any

// TestGoldenEncode describes frames in our words; AppendFrame must write the bytes
// of the real encoders.
func TestGoldenEncode(t *testing.T) {
	rows := map[string]goldenRow{}
	for _, row := range goldenRows(t) {
		rows[row.String()] = row
	}
	for name, f := range goldenFrames(rows) {
		row, ok := rows[name]
		if !ok {
			t.Errorf("no golden row %q", name)
			continue
		}
		got := AppendFrame(nil, row.dialect(), &f)
		if want := canonical(row); !bytes.Equal(got, want) {
			t.Errorf("%s: AppendFrame(%v):\n got %x\nwant %x", name, f.Kind, got, want)
		}
		if got, most := len(got), f.MaxSize(); got > most {
			t.Errorf("%s: %d bytes, MaxSize() = %d", name, got, most)
		}
	}
}

// goldenFrames is keyed by version and name of a row.
func goldenFrames(rows map[string]goldenRow) map[string]Frame {
	frames := goldenFramesV0(rows)
	maps.Copy(frames, goldenFramesV1())
	for _, version := range []string{"v0", "v1", "v1-go"} {
		frames[version+" handshake"] = Frame{Kind: KindHandshake, Session: 77, Text: goldenUUID}
		frames[version+" heartbeat"] = Frame{Kind: KindHeartbeat, Session: 77}
	}
	return frames
}

// call describes a call.
func call(session, typ uint64, args ...any) Frame {
	return Frame{Kind: KindCall, Session: session, Type: typ, Args: Args(args...).Bytes()}
}

func goldenFramesV0(rows map[string]goldenRow) map[string]Frame {
	return map[string]Frame{
		"v0 terminate normal idle":     {Kind: KindTerminate, Code: 1, Text: "slave is idle"},
		"v0 terminate normal shutdown": {Kind: KindTerminate, Code: 1, Text: "the engine is shutting down"},
		"v0 terminate abnormal":        {Kind: KindTerminate, Code: 2, Text: "boom"},
		"v0 invoke http s1":            {Kind: KindInvoke, Session: 1, Text: "http"},
		"v0 invoke s128":               {Kind: KindInvoke, Session: 128, Text: "e"},
		"v0 invoke s65536":             {Kind: KindInvoke, Session: 65536, Text: "e"},
		"v0 invoke s2^32":              {Kind: KindInvoke, Session: 1 << 32, Text: "e"},
		"v0 chunk data s1":             {Kind: KindChunk, Session: 1, Payload: []byte("data")},
		"v0 chunk empty s1":            {Kind: KindChunk, Session: 1},
		"v0 chunk 31":                  {Kind: KindChunk, Session: 1, Payload: bytes.Repeat([]byte("a"), 31)},
		"v0 chunk 32":                  {Kind: KindChunk, Session: 1, Payload: bytes.Repeat([]byte("a"), 32)},
		"v0 resolve reply chunk":       {Kind: KindChunk, Session: 1, Payload: rows["v0 resolve result (inner)"].bytes},
		"v0 error resource":            {Kind: KindError, Session: 1, Category: 99, Code: 2, Text: "the queue is full"},
		"v0 error invocation":          {Kind: KindError, Session: 1, Code: 1, Text: "someerror"},
		"v0 error -100":                {Kind: KindError, Session: 1, Code: -100, Text: "no handler"},
		"v0 choke s1":                  {Kind: KindChoke, Session: 1},
		"v0 locator.resolve storage":   call(1, 0, "storage"),
		"v0 locator.refresh g":         call(1, 3, "g"),
		"v0 app.enqueue":               call(1, 0, "http", "body"),
		"v0 app.enqueue tag":           call(1, 0, "http", []byte("body"), "tag"),
		"v0 app.info":                  call(1, 1),
		"v0 logging.emit info":         call(1, 0, 3, "app/x", "hello"),
		"v0 storage.write":             call(1, 1, "ns", "k", "blob", []string{"t1"}),
		"v0 storage.find":              call(1, 3, "ns", []string{"t1", "t2"}),
	}
}

func goldenFramesV1() map[string]Frame {
	with := func(f Frame, h ...Header) Frame {
		f.Headers = h
		return f
	}
	zero := []Header{staticTable[80], staticTable[81], staticTable[82]}
	var traceBytes [24]byte
	trace := Trace{0x0102030405060708, 0x1112131415161718, 0x2122232425262728}.AppendHeaders(nil, &traceBytes)
	var timeoutBytes [8]byte

	return map[string]Frame{
		"v1 terminate ok(0)":      {Kind: KindTerminate, Code: 0, Text: "confirmed"},
		"v1 terminate 1 normal":   {Kind: KindTerminate, Code: 1, Text: "normal"},
		"v1 terminate 14 sealing": {Kind: KindTerminate, Code: 14, Text: "slave is sealing"},
		"v1 invoke http ch2":      {Kind: KindInvoke, Session: 2, Text: "http"},
		"v1 invoke ch127":         {Kind: KindInvoke, Session: 127, Text: "e"},
		"v1 invoke ch128":         {Kind: KindInvoke, Session: 128, Text: "e"},
		"v1 invoke ch256":         {Kind: KindInvoke, Session: 256, Text: "e"},
		"v1 invoke ch65536":       {Kind: KindInvoke, Session: 65536, Text: "e"},
		"v1 invoke ch2^32":        {Kind: KindInvoke, Session: 1 << 32, Text: "e"},
		"v1 write 'data' ch2":     {Kind: KindChunk, Session: 2, Payload: []byte("data")},
		"v1 write empty ch2":      {Kind: KindChunk, Session: 2, Payload: []byte{}},
		"v1 write 32x'a' ch2":     {Kind: KindChunk, Session: 2, Payload: bytes.Repeat([]byte("a"), 32)},
		"v1 error [[7,1],msg] ch2": {
			Kind: KindError, Session: 2, Category: 7, Code: 1, Text: "msg"},
		"v1 error locator": {
			Kind: KindError, Session: 2, Category: 10, Code: 1, Text: "service is not available"},
		"v1 close ch2":                {Kind: KindChoke, Session: 2},
		"v1 ctl revoke ch2":           call(1, V1Revoke, 2, list{7, 4}),
		"v1 ctl settings":             call(1, V1Settings),
		"v1 ctl ping":                 call(1, V1Ping),
		"v1 ctl goaway":               call(1, V1Goaway, list{7, 3}),
		"v1 resolve storage ch1":      call(1, 0, "storage"),
		"v1 resolve storage+seed ch1": call(1, 0, "storage", "seed"),
		"v1 refresh [g]":              call(3, 2, []string{"g"}),
		"v1 cluster":                  call(4, 3),
		"v1 emit info attrs":          call(1, 0, 1, "app/x", "hello", list{list{"k", "v"}, list{"n", uint8(7)}}),
		"v1 primitive error":          {Kind: KindError, Session: 3, Category: 7, Code: 2, Text: "bad"},
		"v1 void value":               call(3, V1Value),
		"v1 verbosity value info":     call(1, V1Value, 1),
		"v1 storage.find value":       call(1, V1Value, [][]byte{[]byte("k1"), []byte("k2")}),
		"v1 publish name eps":         call(7, 4, "ext", list{list{"10.0.0.1", int64(80)}}),
		"v1 enqueue traced":           with(call(1, 0, "http"), trace...),
		"v1 enqueue hdr authorization": with(call(1, 0, "http"),
			append(zero, entry("authorization", "Bearer x"))...),
		"v1 enqueue hdr request_timeout=5000": with(call(1, 0, "http"),
			append(zero, TimeoutHeader(5*time.Second, &timeoutBytes))...),

		"v1-go invoke":           {Kind: KindInvoke, Session: 2, Text: "http"},
		"v1-go chunk":            {Kind: KindChunk, Session: 2, Payload: []byte("data")},
		"v1-go chunk32":          {Kind: KindChunk, Session: 2, Payload: bytes.Repeat([]byte("a"), 32)},
		"v1-go error":            {Kind: KindError, Session: 2, Category: 42, Code: 200, Text: "no handler"},
		"v1-go choke":            {Kind: KindChoke, Session: 2},
		"v1-go enqueue no trace": call(1, 0, "http"),
	}
}

// TestGoldenHeaders decodes a conversation with headers by number, in order.
func TestGoldenHeaders(t *testing.T) {
	trace := []Header{
		entry("trace_id", "\x08\x07\x06\x05\x04\x03\x02\x01"),
		entry("span_id", "\x18\x17\x16\x15\x14\x13\x12\x11"),
		entry("parent_id", "\x28\x27\x26\x25\x24\x23\x22\x21"),
	}
	and := func(h ...Header) []Header { return append(trace[:3:3], h...) }
	want := [][]Header{
		trace,
		trace,
		and(entry("authorization", "Bearer x")),
		and(entry("authorization", "Bearer x")),
		and(entry("x-custom", "1")),
		and(entry("x-custom", "2")),
		{
			entry("trace_id", "\x99\x00\x00\x00\x00\x00\x00\x00"),
			entry("span_id", "\x98\x00\x00\x00\x00\x00\x00\x00"),
			entry("parent_id", "\x97\x00\x00\x00\x00\x00\x00\x00"),
		},
	}
	var d HeaderDecoder
	seen := 0
	for _, row := range goldenRows(t) {
		if row.version != "v1-hpack" || !strings.HasPrefix(row.name, "SEQ") {
			continue
		}
		m := scanOne(t, V1, row.bytes)
		got, err := d.Decode(m.Headers, nil)
		if err != nil || !sameHeaders(got, want[seen]) {
			t.Errorf("%v: Decode() = %q, %v, want %q", row, got, err, want[seen])
		}
		seen++
	}
	if seen != len(want) {
		t.Errorf("%d rows SEQ, want %d", seen, len(want))
	}
}

func sameHeaders(a, b []Header) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !bytes.Equal(a[i].Name, b[i].Name) || !bytes.Equal(a[i].Value, b[i].Value) {
			return false
		}
	}
	return true
}
