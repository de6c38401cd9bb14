package arch

import (
	"fmt"
	"slices"
	"strings"
)

// deps is the modules that the core may need, as testdata/deps.txt lists them.
type deps struct {
	direct   []string // imported by the core
	indirect []string // needed by those
}

// parseDeps reads the list: a module and its reason on each line, under the headings "direct:" and "indirect:".
func parseDeps(text string) (deps, error) {
	var d deps
	var section *[]string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		mod, reason, _ := strings.Cut(line, " ")
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case line == "direct:":
			section = &d.direct
		case line == "indirect:":
			section = &d.indirect
		case section == nil || strings.TrimSpace(reason) == "":
			return d, fmt.Errorf("%q: want a module and its reason, under a heading", line)
		default:
			*section = append(*section, mod)
		}
	}
	return d, nil
}

// requirements returns the modules that a go.mod requires.
func requirements(gomod string) []string {
	var out []string
	block := false
	for line := range strings.Lines(gomod) {
		line, _, _ = strings.Cut(line, "//")
		line = strings.TrimSpace(line)
		single, isSingle := strings.CutPrefix(line, "require ")
		switch {
		case line == "require (":
			block = true
		case line == ")":
			block = false
		case isSingle:
			out = append(out, strings.Fields(single)[0])
		case block && line != "":
			out = append(out, strings.Fields(line)[0])
		}
	}
	return out
}

// checkDeps compares the list with what go.mod requires and with what the tree imports.
func checkDeps(t *tree, gomod string, want deps) []string {
	var problems []string
	listed := slices.Concat(want.direct, want.indirect)
	required := requirements(gomod)
	for _, m := range required {
		if !slices.Contains(listed, m) {
			problems = append(problems, fmt.Sprintf("go.mod: requires %s: a new dependency is a decision: list it with its reason in internal/arch/testdata/deps.txt", m))
		}
	}
	for _, m := range listed {
		if !slices.Contains(required, m) {
			problems = append(problems, fmt.Sprintf("internal/arch/testdata/deps.txt: lists %s, which go.mod does not require", m))
		}
	}
	for _, p := range t.pkgs {
		for _, f := range p.files {
			for _, imported := range f.imports {
				m, ok := moduleOf(want.indirect, imported)
				if _, direct := moduleOf(want.direct, imported); ok && !direct {
					problems = append(problems, fmt.Sprintf("%s: imports %s, of %s, which is listed as indirect in internal/arch/testdata/deps.txt", f.path, imported, m))
				}
			}
		}
	}
	return problems
}
