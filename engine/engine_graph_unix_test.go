//go:build unix

package engine_test

import (
	"bytes"
	"encoding/hex"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-rpc/sluice/codec"
	"github.com/sluice-rpc/sluice/engine"
)

// The graphs of node and applications are those of the C++ runtime, byte for byte.
func TestGoldenGraphs(t *testing.T) {
	emptyTemp(t)
	text, err := os.ReadFile("../codec/testdata/golden/frames.tsv")
	if err != nil {
		t.Fatal(err)
	}
	r := run(t, engine.Config{Apps: []engine.Source{echoSource("app", "echo")}})
	for _, name := range []string{"app", "node"} {
		lines := strings.Split(string(text), "\n")
		i := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, "v1\tgraph "+name+"\t") })
		if i < 0 {
			t.Fatalf("there is no graph of %s", name)
		}
		want, err := hex.DecodeString(strings.Split(lines[i], "\t")[2])
		if err != nil {
			t.Fatal(err)
		}
		c := callerOf(t, r.Endpoint(), codec.V1)
		reader := codec.NewReader(c.wantOK(0, name))
		reader.Skip() // endpoints
		reader.Skip() // version
		if got := reader.Raw(); !bytes.Equal(got, want) {
			t.Errorf("the graph of %s is\n%x, want\n%x", name, got, want)
		}
		_ = c.Close()
	}
}
