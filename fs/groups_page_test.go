package fs

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// The examples of "Groups in a shell" in convokefs(4) print this, as they are pasted into one shell.
const groupExamples = `hello, group
heard: one
heard: two  words
web1
-rw-rw-rw-
`

func TestGroups_TheExamplesOfTheManualWorkAsPasted(t *testing.T) {
	page, err := os.ReadFile("../man/convokefs.4")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(page), "\n.Ss Groups in a shell\n")
	section, _, end := strings.Cut(section, "\n.Sh ")
	if !ok || !end {
		t.Fatal("convokefs(4) has no section Groups in a shell")
	}
	var script strings.Builder
	for _, m := range regexp.MustCompile(`(?ms)^\.Bd -literal[^\n]*\n(.*?)\n\.Ed$`).FindAllStringSubmatch(section, -1) {
		script.WriteString(strings.NewReplacer(`\e`, `\`, `\&`, ``, "/n/", "").Replace(m[1]) + "\n")
	}
	if n := strings.Count(script.String(), "\n"); n < 20 {
		t.Fatalf("the examples have %d lines", n)
	}
	inShells(t, func(t *testing.T, m *mounted, o *oneNode, want func(script, out string)) {
		want(script.String()+"ls cluster/groups\n", groupExamples)
	})
}
