// Package man holds the manual: mdoc(7) pages written by hand, which are the
// specification of what convoke does. It has no code, only the tests that keep
// the pages correct.
package man

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// foreign are the pages of others that ours may refer to. The checker looks
// for a page of each reference, and must find the same ones on every system.
var foreign = []string{
	"bash.1", "cat.1", "chmod.1", "dd.1", "find.1", "fusermount3.1", "head.1", "systemd.1", "timeout.1",
	"bind.2", "chmod.2", "chown.2", "connect.2", "getpeername.2", "listen.2", "mkdir.2", "mknod.2", "mmap.2", "open.2",
	"poll.2", "pread.2", "pwrite.2", "select.2", "send.2", "setsockopt.2", "shutdown.2", "stat.2", "unlink.2",
	"write.2",
	"services.5",
	"epoll.7", "inotify.7",
}

// pages lists the manual pages of this folder.
func pages(t *testing.T) []string {
	t.Helper()
	names, err := filepath.Glob("*.[1-8]")
	if err != nil {
		t.Fatal(err)
	}
	if len(names) == 0 {
		t.Fatal("no pages here")
	}
	return names
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// needs skips the test where command is not installed, but not in CI.
func needs(t *testing.T, command string) {
	t.Helper()
	if _, err := exec.LookPath(command); err == nil {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is not installed", command)
	}
	t.Skipf("%s is not installed", command)
}

// manpath makes a folder in which mandoc finds our pages and the foreign ones
// and no others, so that the result does not depend on what is installed.
func manpath(t *testing.T, names []string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range slices.Concat(names, foreign) {
		section := filepath.Join(dir, "man"+strings.TrimPrefix(filepath.Ext(name), "."))
		if err := os.MkdirAll(section, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(section, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// lint returns what mandoc has to say about a page, "" when it is clean.
func lint(t *testing.T, path, name string) string {
	t.Helper()
	cmd := exec.Command("mandoc", "-Tlint", "-Wstyle", name)
	cmd.Env = append(os.Environ(), "MANPATH="+path, "LC_ALL=C.UTF-8")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	for line := range strings.Lines(errs.String()) {
		// The folder has no index, which says nothing about our page.
		if !strings.Contains(line, "outdated mandoc.db") {
			out.WriteString(line)
		}
	}
	if err != nil && out.Len() == 0 {
		return err.Error()
	}
	return out.String()
}

func TestPages_LintClean(t *testing.T) {
	needs(t, "mandoc")
	names := pages(t)
	path := manpath(t, names)
	for _, name := range names {
		if got := lint(t, path, name); got != "" {
			t.Errorf("mandoc -Tlint -Wstyle %s:\n%s", name, got)
		}
	}
}

// The checks of mandoc must be on: each of these pages has one mistake.
func TestLint_FindsMistakes(t *testing.T) {
	needs(t, "mandoc")
	path := manpath(t, pages(t))
	const head = ".Dd November 22, 2026\n.Dt BAD 1\n.Os\n.Sh NAME\n.Nm bad\n.Nd a page\n.Sh DESCRIPTION\n"
	for mistake, text := range map[string]string{
		"unknown macro":          head + ".Zz top\n",
		"unknown page":           head + "See\n.Xr nosuchpage 1 .\n",
		"blank at end of line":   head + "Text \n",
		"sections out of order":  head + "Text.\n.Sh SEE ALSO\n.Xr convoke 1\n.Sh EXAMPLES\nText.\n",
		"references unsorted":    head + "Text.\n.Sh SEE ALSO\n.Xr convoked 8 ,\n.Xr convoke 1\n",
		"sentence ends mid-line": head + "One.  Two.\n",
	} {
		name := filepath.Join(t.TempDir(), "bad.1")
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if lint(t, path, name) == "" {
			t.Errorf("%s: not found by the checker", mistake)
		}
	}
}

// heading returns the text of a page between the heading and the next one of
// the same level, "" when there is no such heading.
func heading(text, macro, title string) string {
	_, after, ok := strings.Cut(text, "\n"+macro+" "+title+"\n")
	if !ok {
		return ""
	}
	before, _, _ := strings.Cut(after, "\n.Sh ")
	return before
}

// Every direct dependency has its reason in convoke-design(7), and nothing is
// named there that is not one.
func TestDesign_NamesEachDependency(t *testing.T) {
	var direct []string
	for line := range strings.Lines(read(t, filepath.Join("..", "go.mod"))) {
		fields := strings.Fields(strings.TrimPrefix(line, "require "))
		if len(fields) == 2 && strings.Contains(fields[0], ".") && fields[1][0] == 'v' {
			direct = append(direct, fields[0])
		}
	}
	section := heading(read(t, "convoke-design.7"), ".Sh", "THE PROGRAM")
	var named []string
	for _, match := range regexp.MustCompile(`(?m)^\.It (\S+\.\S+/\S+)$`).FindAllStringSubmatch(section, -1) {
		named = append(named, match[1])
	}
	slices.Sort(direct)
	slices.Sort(named)
	if len(direct) == 0 || !slices.Equal(direct, named) {
		t.Errorf("direct dependencies: go.mod has %q, convoke-design(7) has %q", direct, named)
	}
}

// Errors are looked up by name, so they stand in order and once.
func TestDiagnostics_AreSorted(t *testing.T) {
	section := heading(read(t, "convokefs.4"), ".Sh", "DIAGNOSTICS")
	var names []string
	for _, match := range regexp.MustCompile(`(?m)^\.It Bq Er (E[A-Z0-9]+)$`).FindAllStringSubmatch(section, -1) {
		names = append(names, match[1])
	}
	want := slices.Compact(slices.Sorted(slices.Values(names)))
	if len(names) == 0 || !slices.Equal(names, want) {
		t.Errorf("order of errors: got %q, want %q", names, want)
	}
	// One that is named anywhere in the text is explained. ENOTSOCK is what
	// other files give as well.
	for _, match := range regexp.MustCompile(`(?m)^\.Er (E[A-Z0-9]+)`).FindAllStringSubmatch(read(t, "convokefs.4"), -1) {
		if match[1] != "ENOTSOCK" && !slices.Contains(names, match[1]) {
			t.Errorf("convokefs(4) names %s, which DIAGNOSTICS does not explain", match[1])
		}
	}
}

// Every example can be pasted into a shell; that they do what they say is
// tested where there is a tree.
func TestExamples_ParseInAShell(t *testing.T) {
	needs(t, "dash")
	literal := regexp.MustCompile(`(?s)\n\.Bd -literal[^\n]*\n(.*?)\.Ed`)
	parsed := 0
	for _, name := range pages(t) {
		if filepath.Ext(name) == ".5" {
			continue // the examples are files of configuration
		}
		section := heading(read(t, name), ".Sh", "EXAMPLES")
		for _, example := range literal.FindAllStringSubmatch(section, -1) {
			parse(t, name, strings.ReplaceAll(example[1], `\e`, `\`))
			parsed++
		}
	}
	if parsed == 0 {
		t.Error("no examples found in the pages")
	}
}

// The examples of README are one session: its indented lines from the first
// build on.
func TestReadme_ParsesInAShell(t *testing.T) {
	needs(t, "dash")
	_, text, ok := strings.Cut(read(t, filepath.Join("..", "README")), "\nFive minutes\n")
	text, _, end := strings.Cut(text, "\nRead on\n")
	if !ok || !end {
		t.Fatal("README has no five minutes of examples before what to read on")
	}
	var script strings.Builder
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "    ") {
			script.WriteString(line)
		}
	}
	if script.Len() == 0 {
		t.Fatal("README: no indented lines")
	}
	parse(t, "README", script.String())
}

// parse has a shell read a script without running it.
func parse(t *testing.T, name, script string) {
	t.Helper()
	cmd := exec.Command("dash", "-n")
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s: an example does not parse: %v: %s\n%s", name, err, out, script)
	}
}

// Both name the commands by which the project is tried and checked.
func TestReadme_NamesTheTwoCommands(t *testing.T) {
	readme := read(t, filepath.Join("..", "README"))
	for _, command := range []string{"\n    go run ./cmd/convoke demo\n", "\n    .ci/run\n"} {
		if !strings.Contains(readme, command) {
			t.Errorf("README does not show %q", command)
		}
	}
	info, err := os.Stat(filepath.Join("..", ".ci", "run"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode()&0o111 == 0 {
		t.Error(".ci/run is not executable")
	}
	for _, name := range pages(t) {
		if !strings.Contains(readme, "man/"+name) {
			t.Errorf("README does not say that there is man/%s", name)
		}
	}
}
