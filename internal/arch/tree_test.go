package arch

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"strconv"
	"strings"
)

// module is the core module's path.
const module = "github.com/sluice-rpc/sluice"

// tree is every Go file of a module, whatever its build tags.
type tree struct {
	fset *token.FileSet
	pkgs []*pkg // in order of path
}

// pkg is one directory with Go files in it.
type pkg struct {
	path  string // from the module's root, "." for the root itself
	files []*file
}

// file is one parsed Go file.
type file struct {
	path    string // from the module's root
	test    bool
	lines   int
	imports []string
	ast     *ast.File
}

// name returns the package's name in its package clauses, without the suffix of external tests.
func (p *pkg) name() string {
	return strings.TrimSuffix(p.files[0].ast.Name.Name, "_test")
}

// base returns the file's name without its directory.
func (f *file) base() string { return path.Base(f.path) }

// load parses the module at the root of fsys. It leaves out what the go command leaves out: modules within the
// module, testdata, and names that begin with a dot or an underscore.
func load(fsys fs.FS) (*tree, error) {
	t := &tree{fset: token.NewFileSet()}
	err := fs.WalkDir(fsys, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		hidden := strings.HasPrefix(entry.Name(), ".") || strings.HasPrefix(entry.Name(), "_")
		if entry.IsDir() {
			_, noModule := fs.Stat(fsys, path.Join(name, "go.mod"))
			if hidden || entry.Name() == "testdata" || noModule == nil {
				return fs.SkipDir
			}
			return nil
		}
		if hidden || path.Ext(name) != ".go" {
			return nil
		}
		return t.add(fsys, name)
	})
	return t, err
}

// add parses one file into its package. Files of one directory come one after the other.
func (t *tree) add(fsys fs.FS, name string) error {
	src, err := fs.ReadFile(fsys, name)
	if err != nil {
		return err
	}
	parsed, err := parser.ParseFile(t.fset, name, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	f := &file{path: name, test: strings.HasSuffix(name, "_test.go"), lines: bytes.Count(src, []byte("\n")), ast: parsed}
	for _, spec := range parsed.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return err
		}
		f.imports = append(f.imports, imported)
	}
	p := t.pkg(path.Dir(name))
	p.files = append(p.files, f)
	return nil
}

// pkg returns the package of a directory, new if need be.
func (t *tree) pkg(dir string) *pkg {
	for _, p := range t.pkgs {
		if p.path == dir {
			return p
		}
	}
	p := &pkg{path: dir}
	t.pkgs = append(t.pkgs, p)
	return p
}
