package fsm

import (
	"fmt"
	"strings"
)

// DOT returns the table as a Graphviz digraph. The same rules give the same text, whatever order they were given in.
// Events that make the same move share one arrow.
func (t *Table[S, E]) DOT() string {
	var b strings.Builder
	fmt.Fprintf(&b, "digraph %q {\n\trankdir=LR;\n\tnode [shape=box, style=rounded];\n", t.name)
	// The entry point needs an id that no state has: state names are never empty.
	b.WriteString("\t\"\" [shape=point];\n")
	for _, s := range t.States() {
		if t.Final(s) {
			fmt.Fprintf(&b, "\t%q [peripheries=2];\n", s)
		} else {
			fmt.Fprintf(&b, "\t%q;\n", s)
		}
	}
	fmt.Fprintf(&b, "\t\"\" -> %q;\n", t.start)
	for _, a := range t.arrows() {
		fmt.Fprintf(&b, "\t%q -> %q [label=%q];\n", a.from, a.to, a.label)
	}
	b.WriteString("}\n")
	return b.String()
}

// Mermaid returns the table as a Mermaid stateDiagram-v2, for a fenced block in Markdown. It is as deterministic as
// [Table.DOT].
func (t *Table[S, E]) Mermaid() string {
	var b strings.Builder
	b.WriteString("stateDiagram-v2\n")
	// Names may hold what Mermaid does not take in an id, so ids are values and names are labels.
	for _, s := range t.States() {
		fmt.Fprintf(&b, "    state %q as s%d\n", s, uint8(s))
	}
	fmt.Fprintf(&b, "    [*] --> s%d\n", uint8(t.start))
	for _, a := range t.arrows() {
		fmt.Fprintf(&b, "    s%d --> s%d: %s\n", uint8(a.from), uint8(a.to), a.label)
	}
	for _, s := range t.States() {
		if t.Final(s) {
			fmt.Fprintf(&b, "    s%d --> [*]\n", uint8(s))
		}
	}
	return b.String()
}

// arrow is every move from one state to another, whatever the event.
type arrow[S Enum] struct {
	from, to S
	label    string // the events' names, in order of value
}

// arrows returns the arrows in order of from, then to.
func (t *Table[S, E]) arrows() []arrow[S] {
	var out []arrow[S]
	for _, from := range t.States() {
		for _, to := range t.States() {
			var labels []string
			for _, r := range t.rules {
				if r.From == from && r.To == to {
					labels = append(labels, r.On.String())
				}
			}
			if len(labels) > 0 {
				out = append(out, arrow[S]{from, to, strings.Join(labels, ", ")})
			}
		}
	}
	return out
}
