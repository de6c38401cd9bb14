package channel

import (
	"flag"
	"testing"

	"github.com/sluice-rpc/sluice/fsm/fsmtest"
)

var _ = flag.Bool("rewrite", false, "rewrite the files in testdata")

// TestStates tries every event in every state, and keeps the diagram.
func TestStates(t *testing.T) { fsmtest.Walk(t, table, "testdata/channel") }

func TestNames(t *testing.T) {
	for s, want := range map[State]string{Idle: "idle", Connecting: "connecting", Open: "open", Closing: "closing", Closed: "closed", 77: "closed"} {
		if got := s.String(); got != want {
			t.Errorf("State(%d) is %q, want %q", s, got, want)
		}
	}
	seen := map[string]Code{}
	for c := CodeClosed; c <= CodeBadCompression; c++ {
		name := c.String()
		if other, twice := seen[name]; twice || name == "" {
			t.Errorf("Code(%d) and Code(%d) are both %q", c, other, name)
		}
		seen[name] = c
	}
	if got := Code(200).String(); got != "Code(200)" {
		t.Errorf("Code(200) is %q", got)
	}
}
