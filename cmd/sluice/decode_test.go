package main

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-rpc/sluice/codec"
)

const conversation = `# a worker of protocol 1
worker>engine	94010091a17590	handshake
worker>engine	9401009090	heartbeat
engine>worker	9401009090

engine>worker	94020091a46563686f90	invoke
engine>worker	94020091a56865	a chunk in two
engine>worker	6c6c6f90
worker>engine	94020191922a0790	error
engine>worker	9402029090	choke
engine>worker	9401019201a362796590	terminate
`

const conversationJSON = `{"offset":0,"direction":"worker>engine","kind":"handshake","session":1,"type":0,"args":["u"],"headers":[]}
{"offset":7,"direction":"worker>engine","kind":"heartbeat","session":1,"type":0,"args":[],"headers":[]}
{"offset":0,"direction":"engine>worker","kind":"heartbeat","session":1,"type":0,"args":[],"headers":[]}
{"offset":5,"direction":"engine>worker","kind":"invoke","session":2,"type":0,"args":["echo"],"headers":[]}
{"offset":15,"direction":"engine>worker","kind":"chunk","session":2,"type":0,"args":["hello"],"headers":[]}
{"offset":12,"direction":"worker>engine","kind":"error","session":2,"type":1,"args":[[42,7]],"headers":[]}
{"offset":26,"direction":"engine>worker","kind":"choke","session":2,"type":2,"args":[],"headers":[]}
{"offset":31,"direction":"engine>worker","kind":"terminate","session":1,"type":1,"args":[1,"bye"],"headers":[]}
`

func TestDecodeCapture(t *testing.T) {
	file := filepath.Join(t.TempDir(), "capture.txt")
	for name, text := range map[string]string{"unix": conversation, "dos": strings.ReplaceAll(conversation, "\n", "\r\n")} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if r := sluice(t, "", "decode", file); r.exit != 0 || r.out != conversationJSON || r.err != "" {
			t.Errorf("%s: decode = %+v, want\n%s", name, r, conversationJSON)
		}
	}
}

// The same frames as bytes and as text, in every dialect.
func TestDecodeForms(t *testing.T) {
	for protocol, want := range map[string]string{
		"0": `{"offset":0,"kind":"invoke","session":1,"type":3,"args":["echo"]}
{"offset":9,"kind":"chunk","session":1,"type":4,"args":[{"hex":"ff00"}]}
{"offset":16,"kind":"choke","session":1,"type":6,"args":[]}
{"offset":20,"session":1,"type":9,"args":[]}
`,
		"1": `{"offset":0,"kind":"invoke","session":2,"type":0,"args":["echo"],"headers":[[false,"a","b"]]}
{"offset":16,"kind":"chunk","session":2,"type":0,"args":[{"hex":"ff00"}],"headers":[]}
{"offset":24,"kind":"choke","session":2,"type":2,"args":[],"headers":[]}
{"offset":29,"session":2,"type":9,"args":[],"headers":[]}
`,
	} {
		d, session := codec.V0, uint64(1)
		if protocol == "1" {
			d, session = codec.V1, 2
		}
		var b []byte
		for _, f := range []codec.Frame{
			{Kind: codec.KindInvoke, Session: session, Text: "echo", Headers: []codec.Header{{Name: []byte("a"), Value: []byte("b")}}},
			{Kind: codec.KindChunk, Session: session, Payload: []byte{0xff, 0}},
			{Kind: codec.KindChoke, Session: session},
			{Kind: codec.KindCall, Session: session, Type: 9},
		} {
			b = codec.AppendFrame(b, d, &f)
		}
		digits := hex.EncodeToString(b)
		for name, in := range map[string]string{
			"bytes": string(b), "hex": digits, "upper case": strings.ToUpper(digits) + "\n",
			"pieces": "# hex\n" + digits[:7] + " " + digits[7:10] + "\n\t" + digits[10:20] + "\n" + digits[20:],
		} {
			if r := sluice(t, in, "decode", "--protocol", protocol, "-"); r.exit != 0 || r.out != want {
				t.Errorf("protocol %s, %s: decode = %+v, want\n%s", protocol, name, r, want)
			}
		}
	}
}

func TestDecodeKinds(t *testing.T) {
	for _, c := range []struct{ protocol, in, want string }{
		{"0", "client>locator\t93000191a173\nlocator>client\t93040191a178\nlocator>client\t93060190", "call chunk choke"},
		{"1", "client>locator\t93010091a173\nlocator>client\t9401009090\nlocator>client\t9401019090", "call  "},
		{"1", "worker>engine\t9401079090\nengine>worker\t9403079090\nengine>worker\t9403019090", "  error"},
	} {
		r := sluice(t, c.in, "decode", "--protocol", c.protocol, "-")
		var kinds []string
		for line := range strings.Lines(r.out) {
			var frame struct{ Kind string }
			if err := json.Unmarshal([]byte(line), &frame); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			kinds = append(kinds, frame.Kind)
		}
		if got := strings.Join(kinds, " "); got != c.want || r.exit != 0 {
			t.Errorf("kinds of %q = %q, %s, want %q", c.in, got, r.err, c.want)
		}
	}
}

func TestDecodeBad(t *testing.T) {
	good := string(codec.AppendFrame(nil, codec.V1, &codec.Frame{Kind: codec.KindHeartbeat}))
	for name, c := range map[string]struct {
		in, want string
		exit     int
		lines    int
	}{
		"bad frame":   {good + "\xc1", "bad_frame at byte 5", exitRemote, 1},
		"cut short":   {good + good + good[:3], "the frame at byte 10 is cut short: 3 bytes are there", exitRemote, 2},
		"bad capture": {"a>b\t9401009090\na>b\t9190\n", "a>b: bad_frame at byte 5", exitRemote, 1},
		"no hex":      {"9401009090\nhello", "line 2 is neither hex", exitRemote, 1},
		"half a byte": {"940", "line 1 is neither hex", exitRemote, 0},
		"http":        {"GET / HTTP/1.1\r\n", "line 1 is neither hex", exitRemote, 0},
		"nothing":     {"", "", 0, 0},
	} {
		r := sluice(t, c.in, "decode", "-")
		if r.exit != c.exit || !strings.Contains(r.err, c.want) || strings.Count(r.out, "\n") != c.lines {
			t.Errorf("%s: decode = %+v, want exit status %d, %d lines, %q", name, r, c.exit, c.lines, c.want)
		}
	}
	if r := sluice(t, "", "decode", "/no/such/file"); r.exit != exitLocal {
		t.Errorf("decode of no file = %+v, want exit status 3", r)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(conversation)
	f.Add("\x94\x01\x00\x90\x90")
	f.Fuzz(func(t *testing.T, in string) {
		for _, protocol := range []string{"0", "1"} {
			r := sluice(t, in, "decode", "--protocol", protocol, "-")
			for line := range strings.Lines(r.out) {
				if !json.Valid([]byte(line)) {
					t.Fatalf("decode of %q gives %q", in, line)
				}
			}
			if r.exit != 0 && r.err == "" || r.exit == 0 && r.err != "" || r.exit == exitUsage {
				t.Fatalf("decode of %q = %+v", in, r)
			}
		}
	})
}
