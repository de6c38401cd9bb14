package main

import (
	"bytes"
	"testing"
)

func TestTable(t *testing.T) {
	var out bytes.Buffer
	p := program{out: &out}
	err := p.table([]string{"NAME", "N"}, [][]string{{"echo", "1"}, {"a\x1b[2Jb\n", ""}, {"", "3"}})
	want := "NAME           N\necho           1\n\"a\\x1b[2Jb\\n\"  -\n-              3\n"
	if out.String() != want || err != nil {
		t.Errorf("table() printed %v\n%s, want\n%s", err, &out, want)
	}
}

func TestTree(t *testing.T) {
	v, _ := parseJSON(`{"pool":{"idle":1,"slaves":{}},"timings":{"50.00%":1.5,"5.00%":2,"99.00%":3},"name":"echo","list":["a\n",2]}`)
	want := `list: ["a\n",2]
name: echo
pool:
  idle: 1
  slaves: {}
timings:
  5.00%: 2
  50.00%: 1.5
  99.00%: 3
`
	if got := string(appendTree(nil, "", v)); got != want {
		t.Errorf("appendTree() = %s, want %s", got, want)
	}
}

func TestPrintable(t *testing.T) {
	for text, want := range map[string]string{"a\tb\nü": "a\tb\nü", "\x1b[2J\r": `\x1b[2J\x0d`, "\u009b1m": `\x9b1m`} {
		if got := printable(text); got != want {
			t.Errorf("printable(%q) = %q, want %q", text, got, want)
		}
	}
}
