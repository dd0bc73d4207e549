package imports

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"
)

// maxLines is where a file has more than one concept in it.
const maxLines = 800

func TestFiles_StayShort(t *testing.T) {
	for _, f := range goFiles(t) {
		if f.lines > maxLines {
			t.Errorf("%s has %d lines, want at most %d: split it by concept", f.name, f.lines, maxLines)
		}
	}
}

func TestPackages_AreDocumented(t *testing.T) {
	documented := make(map[string]bool) // "folder package" -> one file has a doc comment
	for _, f := range goFiles(t) {
		key := f.dir + " " + f.pkg
		documented[key] = documented[key] || f.doc
	}
	for key, ok := range documented {
		if !ok {
			dir, pkg, _ := strings.Cut(key, " ")
			t.Errorf("package %s in %s has no doc comment in any file", pkg, dir)
		}
	}
}

// What is not done is not in the tree: a mark in the source is read by nobody
// who runs the program.
func TestFiles_HoldNoMarksOfUnfinishedWork(t *testing.T) {
	// Put together here so that this file does not hold them either.
	marks := []string{"TO" + "DO", "FIX" + "ME", "XX" + "X:"}
	for _, f := range goFiles(t) {
		for _, mark := range marks {
			if i := bytes.Index(f.text, []byte(mark)); i >= 0 {
				t.Errorf("%s:%d: holds %s", f.name, 1+bytes.Count(f.text[:i], []byte("\n")), mark)
			}
		}
	}
}

// Everything has a folder that is about one thing. A new name at the top is a
// decision about the shape of the project, made here and in the manual.
func TestTopLevel_HoldsOnlyTheKnownNames(t *testing.T) {
	allowed := []string{
		"cmd", "fs", "rendezvous", "cluster", "ipc", "man", "test",
		"go.mod", "go.sum", "README", "LICENSE",
		"bin", // what a build leaves; git ignores it
	}
	entries, err := os.ReadDir(top(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		name := entry.Name()
		switch {
		case name[0] == '.' || slices.Contains(allowed, name):
		case strings.HasSuffix(name, ".test") || strings.HasSuffix(name, ".prof"):
			// Left by go test -c and the profilers; git ignores them.
		default:
			t.Errorf("the top level holds %s, want nothing but %s and dot files", name, strings.Join(allowed, " "))
		}
	}
}

// A module that is replaced or excluded builds here and nowhere else.
func TestGoMod_ReplacesNothing(t *testing.T) {
	mod, err := os.ReadFile(top(t) + "/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mod)) {
		word, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		if word == "replace" || word == "exclude" {
			t.Errorf("go.mod: %s: the module must build as a dependency too", strings.TrimSpace(line))
		}
	}
}
