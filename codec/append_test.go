package codec

import (
	"encoding/hex"
	"math"
	"testing"
)

// TestAppend holds the primitives against msgpack's forms, shortest first.
func TestAppend(t *testing.T) {
	long := func(head string, n int) string { return head + hex.EncodeToString(make([]byte, n)) }
	text := func(n int) string { return string(make([]byte, n)) }
	for _, c := range []struct {
		got  []byte
		want string
	}{
		{AppendUint(nil, 0), "00"},
		{AppendUint(nil, 127), "7f"},
		{AppendUint(nil, 128), "cc80"},
		{AppendUint(nil, 255), "ccff"},
		{AppendUint(nil, 256), "cd0100"},
		{AppendUint(nil, 65535), "cdffff"},
		{AppendUint(nil, 65536), "ce00010000"},
		{AppendUint(nil, math.MaxUint32), "ceffffffff"},
		{AppendUint(nil, 1<<32), "cf0000000100000000"},
		{AppendUint(nil, math.MaxUint64), "cfffffffffffffffff"},
		{AppendInt(nil, 0), "00"},
		{AppendInt(nil, 200), "ccc8"},
		{AppendInt(nil, math.MaxInt64), "cf7fffffffffffffff"},
		{AppendInt(nil, -1), "ff"},
		{AppendInt(nil, -32), "e0"},
		{AppendInt(nil, -33), "d0df"},
		{AppendInt(nil, -128), "d080"},
		{AppendInt(nil, -129), "d1ff7f"},
		{AppendInt(nil, -32768), "d18000"},
		{AppendInt(nil, -32769), "d2ffff7fff"},
		{AppendInt(nil, math.MinInt32), "d280000000"},
		{AppendInt(nil, math.MinInt32-1), "d3ffffffff7fffffff"},
		{AppendInt(nil, math.MinInt64), "d38000000000000000"},
		{AppendRaw(nil, nil), "a0"},
		{AppendRaw(nil, []byte("a")), "a161"},
		{AppendString(nil, text(31)), long("bf", 31)},
		{AppendString(nil, text(32)), long("da0020", 32)},
		{AppendString(nil, text(255)), long("da00ff", 255)},
		{AppendString(nil, text(65535)), long("daffff", 65535)},
		{AppendString(nil, text(65536)), long("db00010000", 65536)},
		{AppendBool(nil, false), "c2"},
		{AppendBool(nil, true), "c3"},
		{AppendNil(nil), "c0"},
		{AppendFloat64(nil, 1.5), "cb3ff8000000000000"},
		{AppendFloat32(nil, 1.5), "ca3fc00000"},
		{AppendArrayHeader(nil, 0), "90"},
		{AppendArrayHeader(nil, 15), "9f"},
		{AppendArrayHeader(nil, 16), "dc0010"},
		{AppendArrayHeader(nil, 65535), "dcffff"},
		{AppendArrayHeader(nil, 65536), "dd00010000"},
		{AppendMapHeader(nil, 0), "80"},
		{AppendMapHeader(nil, 15), "8f"},
		{AppendMapHeader(nil, 16), "de0010"},
		{AppendMapHeader(nil, 65536), "df00010000"},
	} {
		if got := hex.EncodeToString(c.got); got != c.want {
			t.Errorf("got %.40s, want %.40s", got, c.want)
		}
	}
}

// TestAppendPanics: what msgpack has no form for must not reach the wire.
func TestAppendPanics(t *testing.T) {
	for name, f := range map[string]func(){
		"negative length": func() { AppendArrayHeader(nil, -1) },
		"negative pairs":  func() { AppendMapHeader(nil, -5) },
		"zero Kind":       func() { AppendFrame(nil, V1, &Frame{}) },
		"Kind 9":          func() { AppendFrame(nil, V0, &Frame{Kind: KindCall + 1}) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}

// TestAppendKeeps: what is in dst stays, and what is given is copied.
func TestAppendKeeps(t *testing.T) {
	payload := []byte("data")
	f := Frame{Kind: KindChunk, Session: 2, Payload: payload, Headers: []Header{entry("n", "v")}}
	dst := AppendFrame([]byte("before"), V1, &f)
	clear(payload)
	if want := "before\x94\x02\x00\x91\xa4data\x91\x93\xc2\xa1n\xa1v"; string(dst) != want {
		t.Errorf("got %q, want %q", dst, want)
	}
}

// TestFrameKinds holds each kind in each dialect against its bytes; fields that do
// not count are set to see that they do not.
func TestFrameKinds(t *testing.T) {
	f := Frame{
		Session: 9, Type: 7, Payload: []byte("p"), Text: "t", Category: 42, Code: -1,
		Args: []byte("\x92\x01\x02"), Headers: []Header{entry("n", "v")},
	}
	for kind, want := range map[Kind][2]string{
		KindHandshake: {"93000091a174", "94010091a174"},
		KindHeartbeat: {"93010090", "94010090"},
		KindTerminate: {"93020092ffa174", "94010192ffa174"},
		KindInvoke:    {"93030991a174", "94090091a174"},
		KindChunk:     {"93040991a170", "94090091a170"},
		KindError:     {"93050992ffa174", "94090192922affa174"},
		KindChoke:     {"93060990", "94090290"},
		KindCall:      {"930709920102", "940907920102"},
	} {
		f.Kind = kind
		for _, d := range []Dialect{V0, V1} {
			want := want[d]
			if d == V1 {
				want += "9193c2a16ea176"
			}
			if got := hex.EncodeToString(AppendFrame(nil, d, &f)); got != want {
				t.Errorf("%v %v: got %s, want %s", d, kind, got, want)
			}
		}
	}
	if got := hex.EncodeToString(AppendFrame(nil, V1, &Frame{Kind: KindCall, Session: 1})); got != "9401009090" {
		t.Errorf("call without arguments: %s", got)
	}
}

// TestChunkInParts: head, data and tail are what AppendFrame appends.
func TestChunkInParts(t *testing.T) {
	for _, d := range []Dialect{V0, V1} {
		for _, n := range []int{0, 31, 32, 70000} {
			f := Frame{Kind: KindChunk, Session: 300, Payload: make([]byte, n), Headers: []Header{entry("n", "v")}}
			parts := AppendChunkHead(nil, d, f.Session, n)
			parts = AppendFrameTail(append(parts, f.Payload...), d, f.Headers)
			if whole := AppendFrame(nil, d, &f); string(parts) != string(whole) {
				t.Errorf("%v, %d bytes: in parts %x..., whole %x...", d, n, clip(parts), clip(whole))
			}
		}
	}
}

// TestMaxSize is close above the size of the largest frame of each kind.
func TestMaxSize(t *testing.T) {
	for kind := KindHandshake; kind <= KindCall; kind++ {
		f := Frame{
			Kind: kind, Session: math.MaxUint64, Type: math.MaxUint32, Payload: make([]byte, 70000), Text: string(make([]byte, 70000)),
			Category: math.MinInt64, Code: math.MinInt64, Args: make([]byte, 70000), Headers: make([]Header, 70000),
		}
		for i := range f.Headers {
			f.Headers[i] = entry("name", "value")
		}
		for _, d := range []Dialect{V0, V1} {
			if got, most := len(AppendFrame(nil, d, &f)), f.MaxSize(); got > most {
				t.Errorf("%v %v: %d bytes, MaxSize() = %d", d, kind, got, most)
			}
		}
	}
	f := Frame{Kind: KindChunk, Payload: make([]byte, 64)}
	if f.MaxSize() > 64+100 {
		t.Errorf("MaxSize() = %d for 64 bytes of data", f.MaxSize())
	}
}

func TestNames(t *testing.T) {
	for got, want := range map[string]string{
		V0.String(): "v0", V1.String(): "v1", Dialect(2).String(): "Dialect(2)",
		KindHandshake.String(): "handshake", KindCall.String(): "call", KindChoke.String(): "choke",
		Kind(0).String(): "Kind(0)", Kind(9).String(): "Kind(9)",
		RawValue.String(): "string", badValue.String(): "reserved byte c1", ValueKind(99).String(): "ValueKind(99)",
	} {
		if got != want {
			t.Errorf("String() = %s, want %s", got, want)
		}
	}
	if !V0.Valid() || !V1.Valid() || Dialect(2).Valid() {
		t.Error("Valid")
	}
}
