package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/pflag"
)

// A verb is one command of convoke.
type verb struct {
	name  string
	args  string // what follows the flags, as the usage shows it
	min   int    // how many arguments it needs
	max   int    // how many it takes; -1: any number
	short string // one line for the list of commands
	long  string // the rest of its help, with a final newline, or ""

	// setup adds the verb's own flags and returns what runs it once they are
	// parsed.
	setup func(flags *pflag.FlagSet) func(c *call, args []string) error
}

// verbs returns the commands in the order in which help lists them.
func verbs() []verb {
	return []verb{
		membersVerb, statusVerb, eventsVerb, connsVerb, groupsVerb,
		joinVerb, leaveVerb,
		connectVerb, serveVerb, sendVerb, recvVerb, runVerb, feedVerb, castVerb,
		logVerb, keygenVerb, demoVerb, completionVerb, helpVerb, versionVerb,
	}
}

// findVerb returns the verb of that name.
func findVerb(name string) (verb, bool) {
	for _, v := range verbs() {
		if v.name == name {
			return v, true
		}
	}
	return verb{}, false
}

// build returns the verb's flag set, the common flags included, the value of
// its --help, and what runs it.
func (v verb) build(c *call) (flags *pflag.FlagSet, help *bool, do func(*call, []string) error) {
	flags = pflag.NewFlagSet(v.name, pflag.ContinueOnError)
	do = v.setup(flags)
	return flags, commonFlags(flags, c), do
}

// checkArgs refuses a wrong number of arguments.
func (v verb) checkArgs(n int) error {
	switch {
	case n < v.min:
		return usageError{fmt.Sprintf("%s: an argument is missing; usage: convoke %s", v.name, v.synopsis())}
	case v.max >= 0 && n > v.max:
		return usageError{fmt.Sprintf("%s: too many arguments; usage: convoke %s", v.name, v.synopsis())}
	}
	return nil
}

// synopsis returns the verb with its arguments.
func (v verb) synopsis() string {
	if v.args == "" {
		return v.name
	}
	return v.name + " " + v.args
}

// plain is the setup of a verb that has no flags of its own.
func plain(do func(c *call, args []string) error) func(*pflag.FlagSet) func(*call, []string) error {
	return func(*pflag.FlagSet) func(*call, []string) error { return do }
}

// printUsage writes the list of commands.
func printUsage(w io.Writer) error {
	fmt.Fprint(w, "usage: convoke [--mount DIR] COMMAND [ARGUMENT]...\n\n")
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, v := range verbs() {
		fmt.Fprintf(table, "  %s\t%s\n", v.synopsis(), v.short)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprint(w, `
The daemon's mount is found by --mount, by CONVOKE_MOUNT, or at /n for root and
$XDG_RUNTIME_DIR/n for others. More: convoke help COMMAND, and convoke(1).
`)
	return err
}

// printVerb writes the help of one command.
func printVerb(w io.Writer, v verb) error {
	flags, _, _ := v.build(&call{})
	_, err := fmt.Fprintf(w, "usage: convoke %s\n\n%s.\n", v.synopsis(), v.short)
	if err == nil && v.long != "" {
		_, err = fmt.Fprintf(w, "\n%s", v.long)
	}
	if err == nil {
		_, err = fmt.Fprintf(w, "\n%s", flags.FlagUsages())
	}
	return err
}
