package arch

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the files in testdata")

// checkAll runs every check of this package on a module and returns the problems in order.
func checkAll(fsys fs.FS, d deps) ([]string, error) {
	t, err := load(fsys)
	if err != nil {
		return nil, err
	}
	gomod, err := fs.ReadFile(fsys, "go.mod")
	if err != nil {
		return nil, err
	}
	problems := slices.Concat(core.check(t), checkShape(t), checkComments(t), checkDeps(t, string(gomod), d))
	slices.Sort(problems)
	return problems, nil
}

// TestCore holds this module to every rule.
func TestCore(t *testing.T) {
	text, err := os.ReadFile("testdata/deps.txt")
	if err != nil {
		t.Fatal(err)
	}
	d, err := parseDeps(string(text))
	if err != nil {
		t.Fatal(err)
	}
	problems, err := checkAll(os.DirFS("../.."), d)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Error(p)
	}
}

// TestTable holds the table itself to the order that it is there to keep.
func TestTable(t *testing.T) {
	for _, r := range core {
		for _, imported := range append(r.imports, r.tests...) {
			if _, ok := core.row(strings.TrimSuffix(imported, "/...")); !ok && imported != anything {
				t.Errorf("the row of %s names %s, which has no row", r.pkg, imported)
			}
		}
		for _, other := range core {
			if r.pkg != other.pkg && r.imports != nil && other.imports != nil && !slices.Contains(r.imports, anything) &&
				core.below(r, other.pkg) && core.below(other, r.pkg) {
				t.Errorf("%s and %s may import each other", r.pkg, other.pkg)
			}
		}
	}
	for _, pair := range [][2]string{{"worker", "service"}, {"service", "worker"}, {"engine", "worker"}, {"codec", "fsm"}, {"channel", "session"}} {
		if r, _ := core.row(pair[0]); core.below(r, pair[1]) {
			t.Errorf("%s may come to import %s, want never", pair[0], pair[1])
		}
	}
}

// TestScripts runs every check on the small modules in testdata: files between lines "-- name --", and last what the
// checks must say of them. A check that no script makes complain is one that may not be working.
func TestScripts(t *testing.T) {
	scripts, err := filepath.Glob("testdata/*.script")
	if err != nil || len(scripts) < 4 {
		t.Fatalf("Glob() = %v, %v, want the scripts", scripts, err)
	}
	for _, script := range scripts {
		t.Run(strings.TrimSuffix(filepath.Base(script), ".script"), func(t *testing.T) { runScript(t, script) })
	}
}

// runScript compares what the checks say of a script's module with its last part.
func runScript(t *testing.T, script string) {
	text, err := os.ReadFile(script)
	if err != nil {
		t.Fatal(err)
	}
	const divider = "-- problems --\n"
	input, want, ok := strings.Cut(string(text), divider)
	if !ok {
		t.Fatalf("%s has no line %q", script, strings.TrimSpace(divider))
	}
	fsys := parseFiles(input)
	d, err := parseDeps(string(fsys["deps.txt"].Data))
	if err != nil {
		t.Fatal(err)
	}
	problems, err := checkAll(fsys, d)
	if err != nil {
		t.Fatal(err)
	}
	got := ""
	for _, p := range problems {
		got += p + "\n"
	}
	if *rewrite {
		if err := os.WriteFile(script, []byte(input+divider+got), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if got != want {
		t.Errorf("%s\ngot:\n%s\nwant:\n%s", script, got, want)
	}
}

// parseFiles reads files that stand one after the other, each under a line "-- name --". Every script has a go.mod
// and a list of dependencies, empty if it does not say otherwise.
func parseFiles(text string) fstest.MapFS {
	files := fstest.MapFS{"go.mod": {}, "deps.txt": {}}
	current := &fstest.MapFile{}
	for line := range strings.Lines(text) {
		name, isName := strings.CutPrefix(strings.TrimSpace(line), "-- ")
		if isName && strings.HasSuffix(name, " --") {
			current = &fstest.MapFile{}
			files[strings.TrimSuffix(name, " --")] = current
			continue
		}
		current.Data = append(current.Data, line...)
	}
	return files
}

// TestLongFiles checks the bound on lines, which is too long for a script.
func TestLongFiles(t *testing.T) {
	for lines, want := range map[int]int{maxLines: 0, maxLines + 1: 1} {
		for name, test := range map[string]bool{"codec/frame.go": false, "codec/frame_test.go": true} {
			src := "package codec\n" + strings.Repeat("\n", lines-1)
			tr, err := load(fstest.MapFS{name: {Data: []byte(src)}})
			if err != nil {
				t.Fatal(err)
			}
			if got := checkShape(tr); len(got) != want && !test || len(got) != 0 && test {
				t.Errorf("%d lines of %s: %q, want %d problems", lines, name, got, want)
			}
		}
	}
}

// TestBrokenFiles checks that what cannot be parsed or read is an error and not a pass.
func TestBrokenFiles(t *testing.T) {
	if _, err := load(fstest.MapFS{"codec/frame.go": {Data: []byte("pack age")}}); err == nil {
		t.Error("load(a file that is not Go) = nil, want an error")
	}
	for _, text := range []string{"github.com/a/b a reason\n", "direct:\ngithub.com/a/b\n"} {
		if _, err := parseDeps(text); err == nil {
			t.Errorf("parseDeps(%q) = nil, want an error", text)
		}
	}
	if got, want := fmt.Sprint(requirements("module m\n\nrequire a.b/c v1 // indirect\nrequire (\n\td.e/f v2\n\n)\nreplace (\n\tx => y\n)\n")), "[a.b/c d.e/f]"; got != want {
		t.Errorf("requirements() = %s, want %s", got, want)
	}
}
