package fsmtest_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-rpc/sluice/fsm"
	"github.com/sluice-rpc/sluice/fsm/fsmtest"
)

var _ = flag.Bool("rewrite", false, "rewrite the files in testdata")

type lamp uint8

const (
	off lamp = iota
	on
	broken
)

func (l lamp) String() string { return [...]string{"off", "on", "broken"}[l] }

type action uint8

const (
	press action = iota
	drop
)

func (a action) String() string { return [...]string{"press", "drop"}[a] }

var rules = []fsm.Rule[lamp, action]{
	{From: off, On: press, To: on},
	{From: on, On: press, To: off},
	{From: off, On: drop, To: off},
	{From: on, On: drop, To: broken},
}

func TestWalk(t *testing.T) {
	fsmtest.Walk(t, fsm.Must("lamp", off, rules), "testdata/lamp")
}

// recorder keeps what a test under test reports.
type recorder struct {
	testing.TB
	errors []string
}

func (r *recorder) Helper() {}
func (r *recorder) Errorf(format string, args ...any) {
	r.errors = append(r.errors, fmt.Sprintf(format, args...))
}

func TestWalkReportsDifference(t *testing.T) {
	if flag.Lookup("rewrite").Value.String() == "true" {
		t.Skip("-rewrite writes instead of comparing")
	}
	changed := append([]fsm.Rule[lamp, action]{{From: broken, On: press, To: broken}}, rules...)
	r := &recorder{TB: t}
	fsmtest.Walk(r, fsm.Must("lamp", off, changed), "testdata/lamp")
	if len(r.errors) != 2 || !strings.Contains(r.errors[0], "lamp.txt differs") || !strings.Contains(r.errors[1], "lamp.dot differs") {
		t.Errorf("Walk of a changed table reported %q, want both files", r.errors)
	}
}

func TestWalkReportsMissingFile(t *testing.T) {
	if flag.Lookup("rewrite").Value.String() == "true" {
		t.Skip("-rewrite writes instead of comparing")
	}
	r := &recorder{TB: t}
	fsmtest.Walk(r, fsm.Must("lamp", off, rules), filepath.Join(t.TempDir(), "none"))
	if len(r.errors) != 2 || !strings.Contains(r.errors[0], "-rewrite") {
		t.Errorf("Walk without files reported %q, want both files and how to write them", r.errors)
	}
}

func TestWalkRewrites(t *testing.T) {
	set := flag.Lookup("rewrite").Value
	before := set.String()
	if err := set.Set("true"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := set.Set(before); err != nil {
			t.Error(err)
		}
	}()
	stem := filepath.Join(t.TempDir(), "new", "lamp")
	table := fsm.Must("lamp", off, rules)
	fsmtest.Walk(t, table, stem)
	for file, want := range map[string]string{stem + ".txt": fsmtest.Matrix(table), stem + ".dot": table.DOT()} {
		got, err := os.ReadFile(file)
		if err != nil || string(got) != want {
			t.Errorf("%s = %q, %v, want %q", file, got, err, want)
		}
	}
}
