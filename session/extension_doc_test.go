package session_test

import (
	"encoding/binary"
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/codec/compress"
)

// The example bytes of PROTOCOL.md, extensions, are what is sent.
func TestProtocolDocument(t *testing.T) {
	text, err := os.ReadFile("../PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	const terms = "1 credit=4194304/16777216 cancel deadline s2=1048576"
	block := []byte("\x20\x0cspam\x6e\x04\x00") // 32 bytes: 4 as they are, then 28 from 4 before
	if got, err := compress.NewDecoder(compress.Limits{}).Append(nil, block, compress.S2); string(got) != strings.Repeat("spam", 8) {
		t.Errorf("the block is %q, %v", got, err)
	}
	offer := []codec.Header{{Name: []byte("sluice"), Value: []byte(terms)}}
	for _, f := range []codec.Frame{
		{Kind: codec.KindHandshake, Text: "u", Headers: offer},
		{Kind: codec.KindCall, Session: 1, Type: codec.V1Ping, Headers: offer},
		{Kind: codec.KindCall, Type: 0, Args: codec.Args(terms).Bytes()},
		{Kind: codec.KindCall, Type: 1, Args: codec.Args(2, 2<<20, 0, 2<<20).Bytes()},
		{Kind: codec.KindCall, Type: 2, Args: codec.Args(2, 42, 7, "never mind").Bytes()},
		{Kind: codec.KindCall, Session: 2, Type: 0, Args: codec.Args("users", "alice").Bytes(), Headers: []codec.Header{
			{Name: []byte("request_timeout"), Value: binary.LittleEndian.AppendUint64(nil, 1500)},
		}},
		{Kind: codec.KindCall, Session: 2, Type: 64, Args: codec.Args(block).Bytes()},
	} {
		want := hex.EncodeToString(codec.AppendFrame(nil, codec.V1, &f))
		if !strings.Contains(string(text), "`"+want+"`") {
			t.Errorf("PROTOCOL.md does not have %s", want)
		}
	}
}
