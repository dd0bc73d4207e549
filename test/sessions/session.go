// Package sessions holds what a person types at the tree, and what he sees: shell sessions that are run under dash, bash
// and busybox, the examples of the manual as they can be pasted, and the programs that the manual says were tried.
//
// A session is a text file of commands, each followed by exactly what it prints on both of its outputs:
//
//	# A line that begins with "# " is a comment; a blank line means nothing.
//	$ cat cluster/name
//	convoke
//	$ for n in one two; do
//	>	echo "$n $PORT_ECHO"
//	> done
//	one $PORT_ECHO
//	two $PORT_ECHO
//	$ cat cluster/nothing
//	cat: cluster/nothing: No such file or directory
//	[1]
//
// All commands of a session are run by one shell, in the mount point. In what is expected,
//
//	{{REGEXP}}      inside a line stands for text that the expression matches, {{}} alone for an empty line
//	...             as a line stands for any number of lines, also none
//	$NAME           stands for the value of a variable of the session, see the list in run_test.go
//	[N]             as the last line stands for exit status N; without it the status must be 0
//	[dash] TEXT     stands for TEXT under that shell only; [bash busybox] TEXT under these
//	[end]           as the last line says that the shell has ended here, as POSIX wants for some errors
package sessions

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

// step is one command of a session and what it must print.
type step struct {
	line    int // of its first line in the file, from 1
	command string
	want    []string // the lines under it, as they stand in the file
}

// parse reads a session.
func parse(text string) ([]step, error) {
	var steps []step
	for i, line := range strings.Split(text, "\n") {
		command, isCommand := strings.CutPrefix(line, "$ ")
		more, isMore := strings.CutPrefix(line, ">")
		more = strings.TrimPrefix(more, " ")
		switch last := len(steps) - 1; {
		case line == "" || strings.HasPrefix(line, "# "):
		case isCommand:
			steps = append(steps, step{line: i + 1, command: command})
		case last < 0:
			return nil, fmt.Errorf("line %d: no command stands above %q", i+1, line)
		case isMore && len(steps[last].want) == 0:
			steps[last].command += "\n" + more
		default:
			steps[last].want = append(steps[last].want, line)
		}
	}
	return steps, nil
}

var (
	forShells = regexp.MustCompile(`^\[([a-z][a-z ]*)\] (.*)$`)
	pattern   = regexp.MustCompile(`\{\{.*?\}\}`)
)

// expected is what is wanted under one shell, with the variables put in.
func (s step) expected(shell string, vars map[string]string) []string {
	var lines []string
	for _, line := range s.want {
		if m := forShells.FindStringSubmatch(line); m != nil {
			if !slices.Contains(strings.Fields(m[1]), shell) {
				continue
			}
			line = m[2]
		}
		lines = append(lines, expand(line, vars))
	}
	return lines
}

// expand puts the values of vars in; another $ stays as it is.
func expand(line string, vars map[string]string) string {
	return os.Expand(line, func(name string) string {
		if value, ok := vars[name]; ok {
			return value
		}
		return "$" + name
	})
}

// matchLine tells whether one line is as wanted.
func matchLine(want, got string) bool {
	var re strings.Builder
	re.WriteString(`^`)
	rest := want
	for _, at := range pattern.FindAllString(want, -1) {
		before, after, _ := strings.Cut(rest, at)
		re.WriteString(regexp.QuoteMeta(before) + "(?:" + at[2:len(at)-2] + ")")
		rest = after
	}
	re.WriteString(regexp.QuoteMeta(rest) + `$`)
	return regexp.MustCompile(re.String()).MatchString(got)
}

// match tells whether got is what want describes.
func match(want, got []string) bool {
	switch {
	case len(want) == 0:
		return len(got) == 0
	case want[0] == "...":
		return match(want[1:], got) || len(got) > 0 && match(want, got[1:])
	}
	return len(got) > 0 && matchLine(want[0], got[0]) && match(want[1:], got[1:])
}

// diff shows got beside want: what is missing with -, what is too much with +. It is "" when they match.
func diff(want, got []string) string {
	if match(want, got) {
		return ""
	}
	head := 0
	for head < min(len(want), len(got)) && want[head] != "..." && matchLine(want[head], got[head]) {
		head++
	}
	tail := 0
	for tail < min(len(want), len(got))-head && want[len(want)-1-tail] != "..." &&
		matchLine(want[len(want)-1-tail], got[len(got)-1-tail]) {
		tail++
	}
	var b strings.Builder
	write := func(mark string, lines []string) {
		for _, line := range lines {
			fmt.Fprintf(&b, "%s%s\n", mark, line)
		}
	}
	write("  ", got[:head])
	write("- ", want[head:len(want)-tail])
	write("+ ", got[head:len(got)-tail])
	write("  ", got[len(got)-tail:])
	return b.String()
}
