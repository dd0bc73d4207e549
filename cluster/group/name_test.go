package group

import (
	"strings"
	"testing"
)

func TestName_InTheTree(t *testing.T) {
	long := strings.Repeat("x", 127)
	tests := []struct{ name, tree string }{
		{"g", "g"}, {"web-1.x_Y", "web-1.x_Y"}, {long, long},
		{"", "%"}, {".", "%2E"}, {"..", "%2E."}, {".x", "%2Ex"}, {"-x", "%2Dx"}, {"_", "%5F"},
		{"a/b", "a%2Fb"}, {"a b", "a%20b"}, {"100%", "100%25"}, {"%", "%25"}, {"a\x00", "a%00"}, {"\xc3\xa9", "%C3%A9"},
		{long + "x", "%78" + long},
	}
	for _, tt := range tests {
		if got := EscapeName(tt.name); got != tt.tree {
			t.Errorf("EscapeName(%q) = %q, want %q", tt.name, got, tt.tree)
		}
		if got, ok := UnescapeName(tt.tree); !ok || got != tt.name {
			t.Errorf("UnescapeName(%q) = %q, %v, want %q", tt.tree, got, ok, tt.name)
		}
	}
	for _, tree := range []string{"", "%2", "%2e.", "%41", "a%41", "a%", "a%zz", "%%", ".x", "a/b", strings.Repeat("x", 128), "%" + "41" + strings.Repeat("x", 128), "%78x"} {
		if got, ok := UnescapeName(tree); ok {
			t.Errorf("UnescapeName(%q) = %q, want none", tree, got)
		}
	}
}

func FuzzName(f *testing.F) {
	f.Add("group")
	f.Add("%2Ex")
	f.Add(strings.Repeat("x", MaxName))
	f.Fuzz(func(t *testing.T, s string) {
		if name, ok := UnescapeName(s); ok && EscapeName(name) != s {
			t.Fatalf("%q is the name of %q, which is %q", s, name, EscapeName(name))
		}
		if len(s) > MaxName {
			return
		}
		tree := EscapeName(s)
		if got, ok := UnescapeName(tree); !ok || got != s {
			t.Fatalf("%q is %q in the tree, which is %q, %v", s, tree, got, ok)
		}
		if strings.ContainsAny(tree, "/\x00\n ") || tree == "." || tree == ".." || len(tree) > 3*MaxName {
			t.Fatalf("%q is no file name", tree)
		}
	})
}
