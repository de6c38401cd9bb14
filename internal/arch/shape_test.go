package arch

import (
	"fmt"
	"go/ast"
	"slices"
	"strings"
)

// maxLines is the longest that a file may be, tests aside. A longer one has two things in it.
const maxLines = 500

// shapeless are the names that say nothing of what is inside.
var shapeless = []string{"util", "utils", "common", "types", "helper", "helpers", "misc"}

// unsafeFiles are the files that may import unsafe or C, each with the reason.
var unsafeFiles = map[string]string{}

// checkShape returns what is wrong with the packages and files of the tree, imports and comments aside.
func checkShape(t *tree) []string {
	var problems []string
	for _, p := range t.pkgs {
		if slices.Contains(shapeless, p.name()) {
			problems = append(problems, fmt.Sprintf("%s: a package named %s: name it for what it is about", p.path, p.name()))
		}
		for _, f := range p.files {
			for _, problem := range checkFile(f) {
				problems = append(problems, f.path+": "+problem)
			}
		}
	}
	return problems
}

// checkFile returns what is wrong with one file.
func checkFile(f *file) []string {
	var problems []string
	stem, _, _ := strings.Cut(strings.TrimSuffix(f.base(), ".go"), "_")
	if slices.Contains(shapeless, stem) {
		problems = append(problems, "a file is named for the one thing in it")
	}
	if f.lines > maxLines && !f.test {
		problems = append(problems, fmt.Sprintf("%d lines: over %d there are two things in it", f.lines, maxLines))
	}
	for _, imported := range f.imports {
		if (imported == "unsafe" || imported == "C") && unsafeFiles[f.path] == "" {
			problems = append(problems, fmt.Sprintf("imports %q: list the file with its reason in internal/arch/shape_test.go", imported))
		}
	}
	for _, decl := range f.ast.Decls {
		if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
			problems = append(problems, "an init function: let a constructor or a package-level table do it")
		}
	}
	return problems
}
