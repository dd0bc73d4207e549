package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/spf13/pflag"

	"github.com/convoke-fs/convoke/ipc"
	"github.com/convoke-fs/convoke/rendezvous"
)

// Exit statuses, after sysexits.h where it has one.
const (
	exitDone     = 0
	exitFailed   = 1
	exitUsage    = 2
	exitTryLater = 75
	exitConfig   = 78

	// As a shell has them, for a program that convoke is to run.
	exitCannotRun = 126
	exitNotFound  = 127
)

// call is what a command works with: the streams of the process, and the way
// to the daemon.
type call struct {
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	mount  string // --mount
	locate func(mount string) (*ipc.Tree, error)
	dial   func(t *ipc.Tree) (client, error)
}

// tree finds the daemon's tree.
func (c *call) tree() (*ipc.Tree, error) { return c.locate(c.mount) }

func main() {
	c := &call{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, locate: ipc.Locate, dial: dialDaemon}
	os.Exit(run(c, os.Args[1:]))
}

// run executes one command line and returns the exit status.
func run(c *call, args []string) int {
	err := dispatch(c, args)
	if err == nil {
		return exitDone
	}
	var ended statusError
	if errors.As(err, &ended) && ended.err == nil {
		return ended.status
	}
	fmt.Fprintf(c.stderr, "convoke: %v\n", err)
	if hint := explain(err); hint != "" {
		fmt.Fprintf(c.stderr, "convoke: %s\n", hint)
	}
	return exitStatus(err)
}

// explain returns a sentence on what to do about err, or "".
func explain(err error) string {
	var told hinted
	if errors.As(err, &told) {
		return told.hint
	}
	return ipc.Explain(err)
}

// dispatch finds the command that args name and runs it.
func dispatch(c *call, args []string) error {
	global := pflag.NewFlagSet("convoke", pflag.ContinueOnError)
	global.SetInterspersed(false)
	help := commonFlags(global, c)
	version := global.Bool("version", false, "print the version")
	if err := parse(global, args); err != nil {
		return err
	}
	switch {
	case *help:
		return printUsage(c.stdout)
	case *version:
		return printVersion(c.stdout)
	case global.NArg() == 0:
		return usageError{"a command is missing; try: convoke help"}
	}
	v, ok := findVerb(global.Arg(0))
	if !ok {
		return usageError{fmt.Sprintf("unknown command %q; try: convoke help", global.Arg(0))}
	}
	flags, help, do := v.build(c)
	if err := parse(flags, global.Args()[1:]); err != nil {
		return usageError{v.name + ": " + err.Error()}
	}
	if *help {
		return printVerb(c.stdout, v)
	}
	if err := v.checkArgs(flags.NArg()); err != nil {
		return err
	}
	return do(c, flags.Args())
}

// commonFlags adds the flags that stand before and behind every command, and
// returns the value of --help.
func commonFlags(flags *pflag.FlagSet, c *call) *bool {
	flags.StringVar(&c.mount, "mount", c.mount, "the daemon's mount point is `DIR` (default $CONVOKE_MOUNT, /n or $XDG_RUNTIME_DIR/n)")
	return flags.BoolP("help", "h", false, "explain and exit")
}

// parse parses args and makes a usage error of what is wrong with them.
func parse(flags *pflag.FlagSet, args []string) error {
	flags.Usage = func() {}
	if err := flags.Parse(args); err != nil {
		return usageError{err.Error()}
	}
	return nil
}

// usageError is a command line that says nothing that can be done.
type usageError struct{ text string }

func (e usageError) Error() string { return e.text }

// hinted is an error with a sentence on what to do about it.
type hinted struct {
	err  error
	hint string
}

func (e hinted) Error() string { return e.err.Error() }

func (e hinted) Unwrap() error { return e.err }

// statusError ends convoke with an exit status that is a program's: what a
// shell gives for one that cannot be run, or what it has ended with. Without
// err nothing is printed, since the program has said it all.
type statusError struct {
	status int
	err    error
}

func (e statusError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.status)
	}
	return e.err.Error()
}

func (e statusError) Unwrap() error { return e.err }

// tryLater tells whether the same may succeed in a while: a limit is reached,
// the name servers have failed for now, or the cluster is not complete.
func tryLater(err error) bool {
	return errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EMFILE) ||
		rendezvous.KindOf(err) == rendezvous.NoQuorum
}

// malformed tells whether an argument can mean nothing, as found before the
// daemon was asked: an EINVAL of the daemon is no wrong usage of this command.
func malformed(err error) bool {
	var errno syscall.Errno
	return rendezvous.KindOf(err) == rendezvous.Invalid && !errors.As(err, &errno)
}

// exitStatus returns the exit status that tells err's nature to a script.
func exitStatus(err error) int {
	var usage usageError
	var ended statusError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &ended):
		return ended.status
	case errors.As(err, &usage), malformed(err):
		return exitUsage
	case tryLater(err):
		return exitTryLater
	case errors.Is(err, syscall.ENOKEY):
		return exitConfig
	}
	return exitFailed
}
