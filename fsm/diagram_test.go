package fsm_test

import (
	"math/rand/v2"
	"testing"

	"github.com/sluice-rpc/sluice/fsm"
)

const wantDOT = `digraph "loop" {
	rankdir=LR;
	node [shape=box, style=rounded];
	"" [shape=point];
	"s0";
	"s1";
	"s2" [peripheries=2];
	"" -> "s0";
	"s0" -> "s1" [label="e0"];
	"s1" -> "s0" [label="e2, e3"];
	"s1" -> "s1" [label="e0"];
	"s1" -> "s2" [label="e1"];
	"s2" -> "s2" [label="e1"];
}
`

const wantMermaid = `stateDiagram-v2
    state "s0" as s0
    state "s1" as s1
    state "s2" as s2
    [*] --> s0
    s0 --> s1: e0
    s1 --> s0: e2, e3
    s1 --> s1: e0
    s1 --> s2: e1
    s2 --> s2: e1
    s2 --> [*]
`

func TestDiagrams(t *testing.T) {
	for range 20 {
		table := fsm.Must("loop", state(0), loop)
		if got := table.DOT(); got != wantDOT {
			t.Fatalf("DOT() = %s, want %s", got, wantDOT)
		}
		if got := table.Mermaid(); got != wantMermaid {
			t.Fatalf("Mermaid() = %s, want %s", got, wantMermaid)
		}
		shuffled := append([]rule(nil), loop...)
		rand.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		if got := fsm.Must("loop", state(0), shuffled).DOT(); got != wantDOT {
			t.Fatalf("DOT() of %v = %s, want %s", shuffled, got, wantDOT)
		}
	}
}
