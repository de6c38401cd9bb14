package arch

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// anything, in a row, allows every import.
const anything = "*"

// row says what one package may import besides the standard library.
type row struct {
	pkg     string   // "a/..." is a and all below it
	imports []string // packages of the core
	modules []string // other modules
	tests   []string // what its tests may import further; see layers.allowsTest
}

// layers is the table, from the bottom up. A new package needs a row here and one sentence for its doc.go.
type layers []row

// core is the table of this module. Its picture is in ARCHITECTURE.md.
var core = layers{
	{pkg: "codec"},
	{pkg: "codec/compress", imports: []string{"codec"}, modules: []string{"github.com/klauspost/compress"}},
	{pkg: "fsm"},
	{pkg: "fsm/fsmtest", imports: []string{"fsm"}},
	{pkg: "internal/arch"},
	{pkg: "internal/golden"},
	{pkg: "internal/invariants"},
	{
		pkg:     "channel",
		imports: []string{"codec", "fsm", "internal/invariants"},
		modules: []string{"github.com/panjf2000/gnet/v2", "github.com/valyala/bytebufferpool", "golang.org/x/sys"},
	},
	{pkg: "session", imports: []string{"channel", "codec", "codec/compress", "fsm", "internal/invariants"}},
	{pkg: "service", imports: []string{"session", "channel", "codec", "codec/compress", "fsm", "internal/invariants"}},
	{pkg: "worker", imports: []string{"session", "channel", "codec", "fsm", "internal/invariants"}},
	{
		pkg:     "engine",
		imports: []string{"engine/storage", "service", "session", "channel", "codec", "fsm", "internal/invariants"},
		tests:   []string{"worker"}, // to run one in the same process
	},
	{pkg: "engine/storage"},
	{pkg: "engine/enginetest", imports: []string{"engine", "worker", "service", "session", "channel", "codec", "fsm"}},
	{
		pkg:     "gateway",
		imports: []string{"worker", "service", "session", "channel", "codec", "internal/invariants"},
		tests:   []string{"engine/..."}, // to stand between its two ends
	},
	{pkg: "mesh", imports: []string{"service", "session", "channel", "codec", "fsm", "internal/invariants"}},
	{pkg: "examples/...", imports: []string{"gateway", "worker", "service", "session", "channel", "codec"}, tests: []string{"engine/..."}},
	{pkg: "bench/...", imports: []string{anything}, modules: []string{anything}},
	{pkg: "fuzz/...", imports: []string{anything}, modules: []string{anything}},
	{pkg: ".", tests: []string{anything}},
}

// oneFile names the modules that only one file of the core may import, tests aside, and the names that it may have.
var oneFile = map[string][]string{
	"github.com/panjf2000/gnet/v2": {"loop_linux.go", "poller_linux.go"},
}

// check returns what is wrong with the imports of the tree.
func (l layers) check(t *tree) []string {
	var problems []string
	users := make(map[string][]string) // of the modules in oneFile
	for _, p := range t.pkgs {
		r, ok := l.row(p.path)
		if !ok {
			problems = append(problems, fmt.Sprintf("%s: no row: add one to internal/arch/layers_test.go that says what it may import, "+
				"and say in its doc.go what it is for", p.path))
			continue
		}
		for _, f := range p.files {
			for _, imported := range f.imports {
				if problem := l.checkImport(r, p, f, imported); problem != "" {
					problems = append(problems, f.path+": "+problem)
				}
				if m, ok := moduleOf(slices.Collect(maps.Keys(oneFile)), imported); ok && !f.test && !slices.Contains(users[m], f.path) {
					users[m] = append(users[m], f.path)
				}
			}
		}
	}
	for m, files := range users {
		if len(files) > 1 {
			problems = append(problems, fmt.Sprintf("%s: %s is imported there too: one file only", strings.Join(files[1:], ", "), m))
		}
	}
	return problems
}

// checkImport returns what is wrong with one import, or "".
func (l layers) checkImport(r row, p *pkg, f *file, imported string) string {
	inner, isInner := innerPath(imported)
	switch {
	case isInner && (l.allows(r, inner) || f.test && l.allowsTest(r, p.path, inner)):
		return ""
	case isInner:
		return fmt.Sprintf("imports %s: the row of %s allows only %v, and its tests what is below", inner, r.pkg, r.imports)
	case !strings.Contains(strings.Split(imported, "/")[0], "."):
		return "" // the standard library
	}
	m, ok := moduleOf(r.modules, imported)
	if !ok {
		return fmt.Sprintf("imports %s: the row of %s allows only %v", imported, r.pkg, r.modules)
	}
	if names := oneFile[m]; names != nil && !f.test && !slices.Contains(names, f.base()) {
		return fmt.Sprintf("imports %s: only a file named %s may", imported, strings.Join(names, " or "))
	}
	return ""
}

// row returns the row of a package.
func (l layers) row(pkg string) (row, bool) {
	i := slices.IndexFunc(l, func(r row) bool { return matches(r.pkg, pkg) })
	if i < 0 {
		return row{}, false
	}
	return l[i], true
}

// allows reports whether code of the row may import the package.
func (l layers) allows(r row, imported string) bool {
	return slices.ContainsFunc(r.imports, func(pattern string) bool { return matches(pattern, imported) })
}

// allowsTest reports whether tests of the row's package may import the package: itself, whatever is below it in the
// table however deep, the test kits of those ("a/atest"), everything internal, and what the row names. So no test
// imports upward unless its row says so.
func (l layers) allowsTest(r row, pkg, imported string) bool {
	below := func(target string) bool { return target == pkg || l.below(r, target) }
	kit := path.Base(imported) == path.Base(path.Dir(imported))+"test"
	return below(imported) || kit && below(path.Dir(imported)) || matches("internal/...", imported) ||
		slices.ContainsFunc(r.tests, func(pattern string) bool { return matches(pattern, imported) })
}

// below reports whether code of the row may come to the package by any chain of imports.
func (l layers) below(r row, target string) bool {
	if l.allows(r, target) {
		return true
	}
	return slices.ContainsFunc(l, func(lower row) bool {
		return lower.pkg != r.pkg && slices.Contains(r.imports, lower.pkg) && l.below(lower, target)
	})
}

// matches reports whether a pattern of the table ("a", "a/..." or anything) covers the package.
func matches(pattern, pkg string) bool {
	dir, all := strings.CutSuffix(pattern, "/...")
	return pattern == anything || pkg == dir || all && strings.HasPrefix(pkg, dir+"/")
}

// innerPath returns the path of a package of this module from its root.
func innerPath(imported string) (string, bool) {
	if imported == module {
		return ".", true
	}
	return strings.CutPrefix(imported, module+"/")
}

// moduleOf returns which of the modules an import is from.
func moduleOf(modules []string, imported string) (string, bool) {
	i := slices.IndexFunc(modules, func(m string) bool { return matches(m+"/...", imported) || m == anything })
	if i < 0 {
		return "", false
	}
	return modules[i], true
}
