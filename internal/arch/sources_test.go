package arch

import (
	"fmt"
	"go/ast"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	source    = regexp.MustCompile(`\(protocol: ([^,;)]+)`)
	protocols = regexp.MustCompile(`(?m)^#+ (.+)$|\*\*([^*]+)\*\*`)
)

// What a comment names as its source, in brackets and behind "protocol:", is a heading or a
// bold word of PROTOCOL.md, or a part of one.
func TestSources(t *testing.T) {
	text, err := os.ReadFile("../../PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range protocols.FindAllStringSubmatch(string(text), -1) {
		names = append(names, strings.ToLower(m[1]+m[2]))
	}
	tr, err := load(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range checkSources(tr, names) {
		t.Error(problem)
	}
	if got := checkSources(tr, nil); len(got) == 0 {
		t.Error("no comment names a source: want some, or this test holds nothing")
	}
}

// checkSources returns the comments whose source is in none of the names.
func checkSources(t *tree, names []string) []string {
	var problems []string
	for _, p := range t.pkgs {
		for _, f := range p.files {
			for _, c := range f.ast.Comments {
				for _, name := range sourcesOf(c) {
					if !slices.ContainsFunc(names, func(n string) bool { return strings.Contains(n, name) }) {
						line := t.fset.Position(c.Pos()).Line
						problems = append(problems, fmt.Sprintf("%s:%d: PROTOCOL.md has nothing named %q", f.path, line, name))
					}
				}
			}
		}
	}
	return problems
}

// sourcesOf returns what a comment names, in lower case.
func sourcesOf(c *ast.CommentGroup) []string {
	var names []string
	for _, m := range source.FindAllStringSubmatch(strings.Join(strings.Fields(c.Text()), " "), -1) {
		names = append(names, strings.ToLower(m[1]))
	}
	return names
}
