package main

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/term"
)

// progress tells a person who waits at a terminal what is done. It says nothing to anybody
// else.
type progress struct{ w io.Writer }

// clearLine goes to the beginning of the terminal's line and empties it.
const clearLine = "\r\x1b[K"

// progress returns one that begins with a step. It has to be ended.
func (p *program) progress(step string) progress {
	pr := progress{w: io.Discard}
	if p.terminal {
		pr.w = p.err
	}
	pr.step(step)
	return pr
}

// step says what is done from now on.
func (p progress) step(text string) { fmt.Fprint(p.w, clearLine+text+" …") }

// end takes away what was said.
func (p progress) end() { fmt.Fprint(p.w, clearLine) }

// isTerminal reports whether a person reads f.
func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }
