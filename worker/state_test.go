package worker

import (
	"flag"
	"testing"

	"github.com/sluice-rpc/sluice/fsm/fsmtest"
)

var _ = flag.Bool("rewrite", false, "write the files in testdata anew")

func TestTable(t *testing.T) {
	fsmtest.Walk(t, table, "testdata/worker")
}

func TestNames(t *testing.T) {
	if got := State(99).String() + " " + event(99).String(); got != "terminated lost" {
		t.Errorf("names beyond the last = %q", got)
	}
}
