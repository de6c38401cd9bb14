package fsmtest

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-rpc/sluice/fsm"
)

// Walk fires every event in every state of the table and compares the outcome with stem.txt and the diagram with
// stem.dot, or writes both when the test's -rewrite flag is set. It also checks that values which the table does not
// know move nothing. The files are relative to the caller's package, as in "testdata/channel".
func Walk[S, E fsm.Enum](t testing.TB, table *fsm.Table[S, E], stem string) {
	t.Helper()
	walkUnknown(t, table)
	golden(t, stem+".txt", Matrix(table))
	golden(t, stem+".dot", table.DOT())
}

// Matrix returns what every event does in every state: a line per event, a column per state, the state that the
// event leads to, or "." where it is not legal.
func Matrix[S, E fsm.Enum](table *fsm.Table[S, E]) string {
	states, events := table.States(), table.Events()
	rows := [][]string{{table.Name()}}
	for _, s := range states {
		rows[0] = append(rows[0], s.String()+mark(table, s))
	}
	for _, e := range events {
		row := []string{e.String()}
		for _, s := range states {
			cell := "."
			if to, ok := table.Next(s, e); ok {
				cell = to.String()
			}
			row = append(row, cell)
		}
		rows = append(rows, row)
	}
	return "# > start, | final, . not legal\n" + columns(rows)
}

// mark returns the signs that stand behind a state in the matrix's head.
func mark[S, E fsm.Enum](table *fsm.Table[S, E], s S) string {
	out := ""
	if s == table.Start() {
		out += " >"
	}
	if table.Final(s) {
		out += " |"
	}
	return out
}

// columns aligns the cells of each column and ends each row with a newline, with no space before it.
func columns(rows [][]string) string {
	width := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			width[i] = max(width[i], len(cell))
		}
	}
	var b strings.Builder
	for _, row := range rows {
		line := ""
		for i, cell := range row {
			line += fmt.Sprintf("%-*s", width[i]+2, cell)
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	return b.String()
}

// walkUnknown fires all 256 x 256 pairs. One is legal only if a rule says so, and an illegal one leaves a machine's
// state alone.
func walkUnknown[S, E fsm.Enum](t testing.TB, table *fsm.Table[S, E]) {
	t.Helper()
	type pair struct {
		s S
		e E
	}
	legal := make(map[pair]S)
	for _, r := range table.Rules() {
		legal[pair{r.From, r.On}] = r.To
	}
	for s := range 256 {
		for e := range 256 {
			p := pair{S(s), E(e)}
			want, wantOK := legal[p]
			if !wantOK {
				want = p.s
			}
			if got, ok := table.Next(p.s, p.e); got != want || ok != wantOK {
				t.Errorf("%s: Next(%d, %d) = %d, %v, want %d, %v", table.Name(), s, e, uint8(got), ok, uint8(want), wantOK)
			}
		}
	}
}

// golden compares got with the file, or writes it when the test's -rewrite flag is set.
func golden(t testing.TB, file, got string) {
	t.Helper()
	if rewriting() {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Errorf("%v; run the test with -rewrite to write it", err)
		return
	}
	if string(want) != got {
		t.Errorf("%s differs; if the change is meant, run the test with -rewrite\ngot:\n%s\nwant:\n%s", file, got, want)
	}
}

// rewriting reports whether the test binary has a boolean flag -rewrite and it is set.
func rewriting() bool {
	f := flag.Lookup("rewrite")
	return f != nil && f.Value.String() == "true"
}
