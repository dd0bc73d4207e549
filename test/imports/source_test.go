package imports

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// module is the path of the module, which go.mod must name.
const module = "github.com/convoke-fs/convoke"

// goFile is what the tests know about one Go file of the module.
type goFile struct {
	name    string // path from the top of the module
	dir     string // folder of the package from the top of the module, "." for the top
	pkg     string // name in the package clause, without _test
	test    bool   // the file is compiled for tests only
	doc     bool   // a comment stands before the package clause
	lines   int
	imports []string
	text    []byte
}

// top is the folder of the module, and fails the test where it is not.
func top(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(mod, []byte("module "+module+"\n")) {
		t.Fatalf("%s/go.mod does not begin with module %s", dir, module)
	}
	return dir
}

// goFiles parses every Go file of the module. It reads files and does not ask
// the go command, so that files for other systems and build tags count too.
func goFiles(t *testing.T) []goFile {
	t.Helper()
	dir := top(t)
	var files []goFile
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := d.Name()
		if d.IsDir() {
			// The go command leaves these out as well.
			if path != dir && (base == "testdata" || base == "vendor" || base[0] == '.' || base[0] == '_') {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(base, ".go") || base[0] == '.' || base[0] == '_' {
			return nil
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		f, err := parseFile(filepath.ToSlash(name), text)
		if err != nil {
			return err
		}
		files = append(files, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// parseFile reads the head of one Go file; name is its path in the module.
func parseFile(name string, text []byte) (goFile, error) {
	tree, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ImportsOnly|parser.ParseComments)
	if err != nil {
		return goFile{}, err
	}
	f := goFile{
		name:  name,
		dir:   filepath.ToSlash(filepath.Dir(name)),
		pkg:   strings.TrimSuffix(tree.Name.Name, "_test"),
		test:  strings.HasSuffix(name, "_test.go"),
		doc:   hasText(tree.Doc),
		lines: bytes.Count(text, []byte("\n")),
		text:  text,
	}
	for _, spec := range tree.Imports {
		path, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return goFile{}, err
		}
		f.imports = append(f.imports, path)
	}
	return f, nil
}

// hasText tells a comment with words from a missing one and from one that
// holds directives only.
func hasText(doc *ast.CommentGroup) bool {
	return doc != nil && strings.TrimSpace(doc.Text()) != ""
}
