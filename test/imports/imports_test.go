// Package imports holds the layers of the module: which package may import
// which, and why; and the few rules of the house that a test can see.
package imports

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestImports_KeepTheLayers(t *testing.T) {
	edges := 0
	for _, f := range goFiles(t) {
		for _, path := range f.imports {
			edges++
			e := edge{from: f.dir, file: filepath.Base(f.name), to: path, test: f.test}
			if in(path, module) {
				e.to = "." + strings.TrimPrefix(path, module)
			}
			for _, r := range rules {
				if r.forbids(e) {
					t.Errorf("%s imports %s\n\trule: %s\n\treason: %s", f.name, path, r.name, r.reason)
				}
			}
		}
	}
	if edges == 0 {
		t.Fatal("no imports found: the walk over the module is broken")
	}
}

// A rule that forbids nothing would let the test above pass for ever.
func TestRules_EachForbidsItsExamples(t *testing.T) {
	for _, r := range rules {
		if r.reason == "" || len(r.breaks) == 0 || len(r.keeps) == 0 {
			t.Errorf("rule %q: reason or examples are missing", r.name)
		}
		for _, e := range r.breaks {
			if !r.forbids(e) {
				t.Errorf("rule %q allows %+v, want it forbidden", r.name, e)
			}
		}
		for _, e := range r.keeps {
			if r.forbids(e) {
				t.Errorf("rule %q forbids %+v, want it allowed", r.name, e)
			}
		}
	}
}
