package sessions

import (
	"slices"
	"strings"
	"testing"
)

func TestParse_TakesCommandsAndWhatTheyPrint(t *testing.T) {
	steps, err := parse("# why\n\n$ one\n$ two\n> more\nout\n> out\n\n# and\n[1]\n")
	if err != nil {
		t.Fatal(err)
	}
	if len(steps) != 2 || steps[0].command != "one" || steps[0].want != nil || steps[1].line != 4 ||
		steps[1].command != "two\nmore" || !slices.Equal(steps[1].want, []string{"out", "> out", "[1]"}) {
		t.Errorf("got %+v", steps)
	}
	if _, err := parse("text\n"); err == nil {
		t.Error("text above the first command: no error")
	}
}

func TestExpected_DependsOnTheShell(t *testing.T) {
	s := step{want: []string{"all $PORT $other", "[dash] d", "[bash busybox] b", "[1]"}}
	for shell, want := range map[string]string{"dash": "all 7 $other|d|[1]", "bash": "all 7 $other|b|[1]"} {
		if got := strings.Join(s.expected(shell, map[string]string{"PORT": "7"}), "|"); got != want {
			t.Errorf("%s: got %s, want %s", shell, got, want)
		}
	}
}

func TestDiff_ShowsWhatDiffers(t *testing.T) {
	for _, c := range []struct{ want, got, diff string }{
		{"", "", ""},
		{"a|b", "a|b", ""},
		{"a.c", "abc", "- a.c|+ abc|"},
		{`id {{\d+}} is {{\w+}}.`, "id 12 is up.", ""},
		{`id {{\d+}}`, "id x", `- id {{\d+}}|+ id x|`},
		{"{{}}|x", "|x", ""},
		{"a|...|z", "a|z", ""},
		{"a|...|z", "a|b|z|z", ""},
		{"a|...|z", "a|b", "  a|- ...|- z|+ b|"},
		{"a|b|c", "a|x|c", "  a|- b|+ x|  c|"},
		{"a|b", "a", "  a|- b|"},
		{"a", "a|b", "  a|+ b|"},
		{"{{a|b}}", "b", ""},
	} {
		got := strings.ReplaceAll(diff(lines(c.want), lines(c.got)), "\n", "|")
		if got != c.diff {
			t.Errorf("want %q, got %q: diff is %q, want %q", c.want, c.got, got, c.diff)
		}
	}
}

// lines splits at bars that stand outside of patterns.
func lines(s string) []string {
	if s == "" {
		return nil
	}
	if strings.HasPrefix(s, "{{a|") {
		return []string{s}
	}
	return strings.Split(s, "|")
}
