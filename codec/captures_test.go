package codec

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// The comments of testdata/golden/captures show each frame as
//
//	[2, 0, ["echo"], [[false, 80, "\x01"], ...]]
//
// written by the tool that recorded them, which is not this package.
// zeroTraceText stands for a trace of zeros.
const zeroTraceText = "<the 3 trace headers, all zero>"

// textOf writes the next value of r in the notation of the captures.
func textOf(r *Reader) string {
	switch r.Peek() {
	case NilValue:
		r.Nil()
		return "nil"
	case BoolValue:
		return strconv.FormatBool(r.Bool())
	case UintValue:
		return strconv.FormatUint(r.Uint64(), 10)
	case IntValue:
		return strconv.FormatInt(r.Int64(), 10)
	case FloatValue:
		s := strconv.FormatFloat(r.Float64(), 'g', -1, 64)
		if !strings.ContainsAny(s, ".e") {
			s += ".0"
		}
		return s
	case RawValue:
		return quotedText(r.Bytes())
	case ArrayValue:
		items := make([]string, r.ArrayLen())
		for i := range items {
			items[i] = textOf(r)
		}
		return "[" + strings.Join(items, ", ") + "]"
	case MapValue:
		pairs := make([]string, r.MapLen())
		for i := range pairs {
			pairs[i] = textOf(r) + ": " + textOf(r)
		}
		return "{" + strings.Join(pairs, ", ") + "}"
	}
	return fmt.Sprint("?", r.Err())
}

func quotedText(b []byte) string {
	var s strings.Builder
	s.WriteByte('"')
	for _, c := range b {
		switch {
		case c == '"' || c == '\\':
			s.WriteByte('\\')
			s.WriteByte(c)
		case c == '\n':
			s.WriteString(`\n`)
		case c < 0x20 || c >= 0x7f:
			fmt.Fprintf(&s, `\x%02x`, c)
		default:
			s.WriteByte(c)
		}
	}
	return s.String() + `"`
}

// messageText writes a Message; from its frame it takes how many elements there
// were, and those that a Message does not hold.
func messageText(m *Message, d Dialect, frame []byte) string {
	first, second := m.Session, m.Type
	if d == V0 {
		first, second = second, first
	}
	args := m.Reader()
	items := make([]string, m.NumArgs)
	for i := range items {
		items[i] = textOf(&args)
	}
	parts := []string{fmt.Sprint(first), fmt.Sprint(second), "[" + strings.Join(items, ", ") + "]"}
	all := NewReader(frame)
	elements := all.Len()
	if d == V1 && elements > 3 {
		headers := "[]"
		switch {
		case string(m.Headers) == noTrace:
			headers = zeroTraceText
		case m.Headers != nil:
			r := NewValueReader(m.Headers)
			headers = textOf(&r)
		}
		parts = append(parts, headers)
	}
	for range elements - m.Extra {
		all.Skip()
	}
	for range m.Extra {
		parts = append(parts, textOf(&all))
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

// refusedCaptures is what a client sent to see the runtime close the connection,
// and what we say to it.
var refusedCaptures = map[string]Code{
	"81a16101":                   CodeBadFrame,   // a map
	"920100":                     CodeBadFrame,   // 2 elements
	"920302":                     CodeBadFrame,   //
	"c1":                         CodeBadFrame,   // no msgpack
	"94ff0092a3636170a26b3290":   CodeBadSession, // session -1
	"94a1610092a3636170a26b3290": CodeBadSession, // session "a"
	"9401008090":                 CodeBadFrame,   // arguments are a map
	"94010092a3636170a26b3280":   CodeBadHeader,  // headers are a map
}

// TestCaptures decodes conversations recorded from the live C++ runtimes and the Go
// framework, and holds every frame against the recorder's description of it.
func TestCaptures(t *testing.T) {
	files, err := filepath.Glob("testdata/golden/captures/*.txt")
	if err != nil || len(files) != 14 {
		t.Fatalf("%d captures, %v, want 14", len(files), err)
	}
	frames, refused := 0, 0
	for _, file := range files {
		d := V1
		if name := filepath.Base(file); strings.HasPrefix(name, "core11-") || strings.HasPrefix(name, "go11-") {
			d = V0
		}
		f, r := checkCapture(t, file, d)
		frames, refused = frames+f, refused+r
	}
	if frames != 449 || refused != 10 {
		t.Errorf("%d frames, %d refused, want 449 and 10", frames, refused)
	}
}

func checkCapture(t *testing.T, file string, d Dialect) (frames, refused int) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var begun []byte // of a frame that the recorder saw in two pieces
	for line := range strings.Lines(string(text)) {
		columns := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(columns) != 3 {
			if !strings.HasPrefix(line, "#") {
				t.Errorf("%s: no frame in %q", file, line)
			}
			continue
		}
		if code, ok := refusedCaptures[columns[1]]; ok {
			checkRefused(t, d, unhex(t, columns[1]), code)
			refused++
			continue
		}
		got, n, whole := decodeCapture(t, d, append(begun, unhex(t, columns[1])...))
		frames += n
		if !whole {
			begun = unhex(t, columns[1])
			continue
		}
		from, to := strings.IndexByte(columns[2], '['), strings.LastIndexByte(columns[2], ']')
		if want := columns[2][from : to+1]; got != want && begun == nil {
			t.Errorf("%s:\n got %s\nwant %s", file, got, want)
		}
		begun = nil
	}
	return frames, refused
}

// decodeCapture returns the frames in b as the recorder writes them.
func decodeCapture(t *testing.T, d Dialect, b []byte) (text string, frames int, whole bool) {
	s := NewScanner(d, Limits{})
	var texts []string
	for len(b) > 0 {
		var m Message
		n, err := s.Next(b, &m)
		if err != nil {
			t.Fatalf("Next(%x) = %v", b, err)
		}
		if n == 0 {
			return "", frames, false
		}
		texts = append(texts, messageText(&m, d, b[:n]))
		b = b[n:]
		frames++
	}
	return strings.Join(texts, "  "), frames, true
}

func checkRefused(t *testing.T, d Dialect, b []byte, want Code) {
	t.Helper()
	var m Message
	n, err := NewScanner(d, Limits{}).Next(b, &m)
	if n != 0 || codeOf(err) != want {
		t.Errorf("Next(%x) = %d, %v, want %v", b, n, err, want)
	}
}

// codeOf returns the code of a FrameError, or 0.
func codeOf(err error) Code {
	if e, ok := err.(*FrameError); ok {
		return e.Code
	}
	return 0
}

// TestAcceptance is the table of what the real C++ decoder accepts. Where we are
// more tolerant on purpose, or strict where it reads out of bounds, it says so.
func TestAcceptance(t *testing.T) {
	const waits = Code(255)
	for _, c := range []struct {
		frame string
		want  Code // 0: accepted
		note  string
	}{
		{"93010091a161", 0, "3 elements"},
		{"94010091a16190", 0, "empty headers"},
		{"95010091a1619005", 0, "5 elements"},
		{"94010091a161c0", 0, "headers nil: C++ frame_format_error, we take it for none"},
		{"94010091a16180", CodeBadHeader, "headers map"},
		{"920100", CodeBadFrame, "2 elements"},
		{"930100", waits, "arguments missing"},
		{"93ff0090", CodeBadSession, "session -1"},
		{"93d300000000000000050090", 0, "session 5 as int64"},
		{"93010080", CodeBadFrame, "arguments map"},
		{"930100c0", CodeBadFrame, "arguments nil"},
		{"93010091d90161", 0, "str8"},
		{"93010091c40161", 0, "bin8"},
		{"93010091d40161", 0, "ext: C++ parse_error, we skip it"},
		{"940100909150", 0, "header 80"},
		{"940100909153", CodeBadHeader, "header 83, table empty"},
		{"940100909154", CodeBadHeader, "header 84"},
		{"940100909100", CodeBadHeader, "header 0"},
		{"940100909193c250a80100000000000000", 0, "name 80"},
		{"940100909193c250d9080100000000000000", 0, "str8 value"},
		{"940100909193c250c4080100000000000000", 0, "bin8 value"},
		{"940100909193c2c40161c40162", 0, "bin8 name and value"},
		{"940100909193c253a161", CodeBadHeader, "name 83, table empty: C++ reads out of range"},
		{"940100909193c2a16105", CodeBadHeader, "value integer"},
		{"940100909192c2a161", CodeBadHeader, "array of 2"},
		{"940100909194c2a161a16290", CodeBadHeader, "array of 4"},
		{"940100909193c0a161a162", CodeBadHeader, "store is nil"},
	} {
		frame := unhex(t, c.frame)
		var m Message
		n, err := NewScanner(V1, Limits{}).Next(frame, &m)
		if err == nil && n > 0 {
			_, err = new(HeaderDecoder).Decode(m.Headers, nil)
		}
		got := codeOf(err)
		if n == 0 && err == nil {
			got = waits
		}
		if got != c.want {
			t.Errorf("%s (%s): %d, %v, want %v", c.frame, c.note, n, err, c.want)
		}
	}

	m := scanOne(t, V1, unhex(t, "940100909150"))
	if got := headersOf(t, &m); !sameHeaders(got, []Header{entry("trace_id", "\x00\x00\x00\x00\x00\x00\x00\x00")}) {
		t.Errorf("header 80 = %q", got)
	}
	m = scanOne(t, V1, unhex(t, "940100909193c2c40161c40162"))
	if got := headersOf(t, &m); !sameHeaders(got, []Header{entry("a", "b")}) {
		t.Errorf("bin8 header = %q", got)
	}
}

// TestAcceptanceOfNumbers feeds every first byte of a session and of a type, with
// enough bytes behind, to see that each has one verdict.
func TestAcceptanceOfNumbers(t *testing.T) {
	for c := range 256 {
		wantSession, wantType := CodeBadSession, CodeBadType
		if c < 0x80 || c >= 0xcc && c <= 0xd3 {
			wantSession, wantType = 0, 0 // the bytes behind are small and not negative
		}
		if c == 0xcf || c == 0xd3 {
			wantType = CodeBadType // more than 32 bits
		}
		number := append([]byte{byte(c)}, bytes.Repeat([]byte{1}, 40)...)
		for _, where := range []struct {
			before, behind string
			want           Code
		}{{"\x93", "\x00\x90", wantSession}, {"\x93\x05", "\x90", wantType}} {
			h, ok := parseHead(number)
			if !ok {
				t.Fatalf("parseHead(%x) is not whole", number)
			}
			end := min(uint64(h.size)+dataSize(h), 41)
			b := []byte(where.before + string(number[:end]) + where.behind)
			var m Message
			_, err := NewScanner(V1, Limits{}).Next(b, &m)
			if got := codeOf(err); got != where.want {
				t.Errorf("% x: %v, want %v", b, err, where.want)
			}
		}
	}
}

// dataSize returns how many bytes of a string or extension are behind h.
func dataSize(h head) uint64 {
	if n, nested := h.body(); !nested {
		return min(n, math.MaxInt)
	}
	return 0
}
