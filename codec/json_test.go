package codec

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

func TestAppendJSON(t *testing.T) {
	m := scanOne(t, V1, []byte("\x94\x02\x00\x91\xa4data\x91\x93\xc2\xa1n\xa2\xff\x00"))
	want := `x{"session":2,"type":0,"args":["data"],"headers":[[false,"n",{"hex":"ff00"}]]}`
	if got := string(AppendJSON([]byte("x"), &m, V1)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	want = `{"session":0,"type":0,"args":[]}`
	if got := string(AppendJSON(nil, &Message{}, V0)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestAppendJSONValue(t *testing.T) {
	deep := strings.Repeat("\x91", 33) + "\xc0"
	for in, want := range map[string]string{
		"\xc0":                                 `null`,
		"\xc2":                                 `false`,
		"\x05":                                 `5`,
		"\xcf\xff\xff\xff\xff\xff\xff\xff\xff": `18446744073709551615`,
		"\xd3\x80\x00\x00\x00\x00\x00\x00\x00": `-9223372036854775808`,
		"\xcb\x40\x09\x21\xfb\x54\x44\x2d\x18": `3.141592653589793`,
		"\xa0":                                 `""`,
		"\xc4\x01a":                            `"a"`,
		"\xac\"\\\n\t\x00\x7f\xd0\xb6\xe2\x80\xa8/": `"\"\\\n\u0009\u0000\u007fж` + "\u2028" + `/"`,
		"\xa2\xc3\x28":     `{"hex":"c328"}`,
		"\x90":             `[]`,
		"\x80":             `{}`,
		"\x92\x01\x91\x02": `[1,[2]]`,
		"\x87\x01\xc0\xff\xc0\xc3\xc0\xc0\xc0\xa1k\xc0\xa1\xff\xc0\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00\xc0": `{"1":null,"-1":null,"true":null,"null":null,"k":null,"hex:ff":null,"1.5":null}`,
		"\x81\xd4\x05\xaa\xc7\x01\x80\xbb": `{"hex:d405aa":"ext:-128:bb"}`,
		deep:                               strings.Repeat("[", 32) + `{"hex":"91c0"}` + strings.Repeat("]", 32),
		"":                                 `{"error":"value at byte 0: cut short"}`,
		"\xc1":                             `{"error":"value at byte 0: reserved byte c1"}`,
		"\x92\x01":                         `{"error":"value at byte 0: cut short"}`,
		"\x92\x01\xc1":                     `[1,{"error":"value at byte 2: reserved byte c1"}]`,
		"\x81\xc1\x01":                     `{"error":"value at byte 1: reserved byte c1"}`,
		"\x81\x01\xc1":                     `{"1":{"error":"value at byte 2: reserved byte c1"}}`,
		"\x81\x91\xc1\x01":                 `{"hex:":{"error":"value at byte 2: reserved byte c1"}}`,
	} {
		got := AppendJSONValue(nil, []byte(in))
		if string(got) != want {
			t.Errorf("%x:\n got %s\nwant %s", clip([]byte(in)), got, want)
		}
		if !json.Valid(got) {
			t.Errorf("%x: not JSON: %s", clip([]byte(in)), got)
		}
	}
}

// TestJSONStrings: what the standard library reads back is what was written.
func TestJSONStrings(t *testing.T) {
	var text []byte
	for r := rune(0); r < 0x300; r++ {
		text = append(text, string(r)...)
	}
	text = append(text, "\u2028\uffff\U0010ffff"...)
	var back string
	if err := json.Unmarshal(AppendJSONValue(nil, AppendRaw(nil, text)), &back); err != nil || back != string(text) {
		t.Errorf("came back as %q, %v", back, err)
	}
}

// TestJSONIsLinear: no input makes the output explode.
func TestJSONIsLinear(t *testing.T) {
	for _, in := range [][]byte{
		append([]byte("\xdd\x00\x10\x00\x00"), bytes.Repeat([]byte{0x80}, 1<<20)...),
		append([]byte("\xdb\x00\x10\x00\x00"), bytes.Repeat([]byte{0x00}, 1<<20)...),
		append([]byte("\xdb\x00\x10\x00\x00"), bytes.Repeat([]byte{0xff}, 1<<20)...),
		append(bytes.Repeat([]byte{0x91}, 1<<20), 0xc0),
		append([]byte("\xdf\x00\x08\x00\x00"), bytes.Repeat([]byte{0xc0}, 1<<20)...),
	} {
		if got := AppendJSONValue(nil, in); len(got) > 8*len(in) || !json.Valid(got) {
			t.Errorf("%x...: %d bytes from %d", in[:6], len(got), len(in))
		}
	}
}
