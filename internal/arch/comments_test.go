package arch

import (
	"fmt"
	"go/ast"
	"go/token"
	"strings"
)

// checkComments returns the packages without a proper doc.go and the exported names without a comment.
func checkComments(t *tree) []string {
	var problems []string
	for _, p := range t.pkgs {
		problems = append(problems, checkPackageComment(p)...)
		if p.name() == "main" {
			continue
		}
		for _, f := range p.files {
			if f.test {
				continue
			}
			for _, name := range uncommented(f.ast) {
				line := t.fset.Position(name.Pos()).Line
				problems = append(problems, fmt.Sprintf("%s:%d: exported %s has no comment", f.path, line, name.Name))
			}
		}
	}
	return problems
}

// checkPackageComment wants one package comment, in doc.go. A program may have it in any file.
func checkPackageComment(p *pkg) []string {
	want, anyFile := "Package "+p.name()+" ", false
	if p.name() == "main" {
		want, anyFile = "", true
	}
	var problems []string
	found := false
	for _, f := range p.files {
		text := f.ast.Doc.Text()
		switch {
		case text == "":
		case f.base() != "doc.go" && !anyFile:
			problems = append(problems, f.path+": a package comment outside of doc.go")
		case !strings.HasPrefix(text, want):
			problems = append(problems, fmt.Sprintf("%s: the package comment should begin with %q", f.path, want))
		}
		found = found || text != "" && (anyFile || f.base() == "doc.go")
	}
	if !found {
		problems = append(problems, p.path+": no doc.go with a package comment: one sentence that says what it is for")
	}
	return problems
}

// uncommented returns the exported names that a file declares at its top level, or as methods of exported types,
// without a comment.
func uncommented(f *ast.File) []*ast.Ident {
	var names []*ast.Ident
	for _, decl := range f.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			if d.Name.IsExported() && receiverIsExported(d) && d.Doc.Text() == "" {
				names = append(names, d.Name)
			}
		case *ast.GenDecl:
			names = append(names, uncommentedSpecs(d)...)
		}
	}
	return names
}

// receiverIsExported reports whether a function has no receiver, or one of an exported type.
func receiverIsExported(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	t := d.Recv.List[0].Type
	for {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
		case *ast.IndexExpr:
			t = x.X
		case *ast.IndexListExpr:
			t = x.X
		case *ast.ParenExpr:
			t = x.X
		default:
			name, ok := t.(*ast.Ident)
			return ok && name.IsExported()
		}
	}
}

// uncommentedSpecs returns the exported types, constants and variables of a declaration without a comment. A comment
// on a group of constants or variables is one on each; a type needs its own unless it stands alone.
func uncommentedSpecs(d *ast.GenDecl) []*ast.Ident {
	var names []*ast.Ident
	grouped := d.Doc.Text() != ""
	for _, spec := range d.Specs {
		switch s := spec.(type) {
		case *ast.TypeSpec:
			alone := grouped && d.Lparen == token.NoPos
			if s.Name.IsExported() && !alone && s.Doc.Text() == "" && s.Comment.Text() == "" {
				names = append(names, s.Name)
			}
		case *ast.ValueSpec:
			if grouped || s.Doc.Text() != "" || s.Comment.Text() != "" {
				continue
			}
			for _, name := range s.Names {
				if name.IsExported() {
					names = append(names, name)
				}
			}
		}
	}
	return names
}
