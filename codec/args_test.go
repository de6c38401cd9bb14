package codec

import (
	"encoding/hex"
	"errors"
	"math"
	"strings"
	"testing"
)

func TestArgs(t *testing.T) {
	for _, c := range []struct {
		got  Arguments
		want string
	}{
		{Args(), "90"},
		{Args(nil), "91c0"},
		{Args("a", []byte("b")), "92a161a162"},
		{Args([]byte(nil), ""), "92a0a0"},
		{Args(true, false), "92c3c2"},
		{Args(int(-1), int8(-2), int16(-3), int32(-4), int64(-5)), "95fffefdfcfb"},
		{Args(1, uint(2), uint8(3), uint16(4), uint32(5), uint64(6), uintptr(7)), "9701020304050607"},
		{Args(int64(math.MinInt64), uint64(math.MaxUint64)), "92d38000000000000000cfffffffffffffffff"},
		{Args(float32(1.5), 1.5), "92ca3fc00000cb3ff8000000000000"},
		{Args([]string{"a", ""}, []string(nil)), "9292a161a090"},
		{Args([][]byte{{1}, nil}, [][]byte(nil)), "9292a101a090"},
		{Args([]any{1, []any{"x", nil}, []string{"y"}}), "91930192a178c091a179"},
		{Args(strings.Repeat("x", 32)), "91da0020" + strings.Repeat("78", 32)},
	} {
		if got := hex.EncodeToString(c.got.Bytes()); got != c.want || c.got.Err() != nil {
			t.Errorf("got %s, %v, want %s", got, c.got.Err(), c.want)
		}
	}
	if a := Args(1, "x"); a.Len() != 2 {
		t.Errorf("Len() = %d, want 2", a.Len())
	}
	if a := (Arguments{}); a.Len() != 0 || a.Bytes() != nil || a.Err() != nil {
		t.Errorf("zero Arguments: %d, %x, %v", a.Len(), a.Bytes(), a.Err())
	}
}

// TestArgsCopies: what was given may change afterwards.
func TestArgsCopies(t *testing.T) {
	b := []byte("data")
	a := Args(b, [][]byte{b}, rawMarshaler("\xa4data"))
	clear(b)
	if got := string(a.Bytes()); got != "\x93\xa4data\x91\xa4data\xa4data" {
		t.Errorf("got %q", got)
	}
}

type failingMarshaler struct{ err error }

func (m failingMarshaler) MarshalMsg([]byte) ([]byte, error) { return nil, m.err }

// TestArgsMarshaler: what generated code writes is rewritten for old peers.
func TestArgsMarshaler(t *testing.T) {
	for in, want := range map[string]string{
		"05":                              "05",
		"c0":                              "c0",
		"c3":                              "c3",
		"cb3ff8000000000000":              "cb3ff8000000000000",
		"d10100":                          "cd0100", // int16 256
		"d3ffffffffffffffff":              "ff",
		"cf0000000000000005":              "05",
		"d90161":                          "a161", // str8
		"c40161":                          "a161", // bin8
		"c500020102":                      "a20102",
		"c600000000":                      "a0",
		"d920" + strings.Repeat("78", 32): "da0020" + strings.Repeat("78", 32),
		"dc0001d90161":                    "91a161",
		"82d9016101d90162920102":          "82a16101a162920102",
		"df00000001c0c0":                  "81c0c0",
	} {
		a := Args(rawMarshaler(unhex(t, in)))
		if got := hex.EncodeToString(a.Bytes()); got != "91"+want || a.Err() != nil {
			t.Errorf("%s: %s, %v, want 91%s", in, got, a.Err(), want)
		}
	}
}

// TestArgsErrors: nothing of a list with a bad value can be sent.
func TestArgsErrors(t *testing.T) {
	cyclic := []any{nil}
	cyclic[0] = cyclic
	cause := errors.New("cause")
	deep := func(n int) string { return strings.Repeat("91", n) + "c0" }
	for _, c := range []struct {
		values []any
		want   string
	}{
		{[]any{1, struct{}{}}, "codec: argument 1: type struct {} cannot be encoded"},
		{[]any{map[string]int{}}, "codec: argument 0: type map[string]int cannot be encoded"},
		{[]any{[]any{1, complex(1, 2)}}, "codec: argument 0: type complex128 cannot be encoded"},
		{[]any{cyclic}, "codec: argument 0: nested deeper than 28"},
		{[]any{failingMarshaler{cause}}, "codec: argument 0: cause"},
		{[]any{failingMarshaler{}}, "codec: argument 0: codec.failingMarshaler: MarshalMsg: value at byte 0: cut short"},
		{[]any{rawMarshaler("\x05\x06")}, "codec: argument 0: codec.rawMarshaler: MarshalMsg: 1 bytes behind the value"},
		{[]any{rawMarshaler("\x92\x05")}, "codec: argument 0: codec.rawMarshaler: MarshalMsg: value at byte 0: cut short"},
		{[]any{rawMarshaler("\xc1")}, "codec: argument 0: codec.rawMarshaler: MarshalMsg: value at byte 0: reserved byte c1"},
		{[]any{rawMarshaler("\x91\xd4\x01\x02")}, "codec: argument 0: codec.rawMarshaler: MarshalMsg: value at byte 1: extension, which peers do not know"},
		{[]any{rawMarshaler(unhex(t, deep(29)))}, "codec: argument 0: codec.rawMarshaler: MarshalMsg: value at byte 29: nested deeper than 28"},
		{[]any{[]any{rawMarshaler(unhex(t, deep(28)))}}, "codec: argument 0: codec.rawMarshaler: MarshalMsg: value at byte 28: nested deeper than 28"},
	} {
		a := Args(c.values...)
		if a.Err() == nil || a.Err().Error() != c.want || a.Bytes() != nil || a.Len() != 0 {
			t.Errorf("%v, want %s", a.Err(), c.want)
		}
	}
	if a := Args(failingMarshaler{cause}); !errors.Is(a.Err(), cause) {
		t.Errorf("%v does not wrap its cause", a.Err())
	}
	a := Args(rawMarshaler(unhex(t, deep(28))), []any{rawMarshaler(unhex(t, deep(27)))})
	if a.Err() != nil {
		t.Fatal(a.Err())
	}
	scanOne(t, V1, AppendFrame(nil, V1, &Frame{Kind: KindCall, Args: a.Bytes()}))
}

// generated is what tinylib/msgp makes of struct{ Name string }.
type generated struct{ Name string }

func (g *generated) MarshalMsg(b []byte) ([]byte, error) {
	b = append(b, 0x81, 0xa4)
	b = append(b, "Name"...)
	b = append(b, 0xd9, byte(len(g.Name)))
	return append(b, g.Name...), nil
}

func (g *generated) UnmarshalMsg(b []byte) ([]byte, error) {
	r := NewValueReader(b)
	for range r.MapLen() {
		if r.String() == "Name" {
			g.Name = r.String()
		}
	}
	return r.Rest(), r.Err()
}

// TestGenerated sends a generated type to a peer that has it too.
func TestGenerated(t *testing.T) {
	a := Args("event", &generated{Name: "a name"})
	m := scanOne(t, V1, AppendFrame(nil, V1, &Frame{Kind: KindCall, Args: a.Bytes()}))
	r := m.Reader()
	r.Skip()
	var got generated
	var u Unmarshaler = &got
	if rest, err := u.UnmarshalMsg(r.Raw()); err != nil || len(rest) != 0 || got.Name != "a name" {
		t.Errorf("got %+v, %q, %v", got, rest, err)
	}
}
