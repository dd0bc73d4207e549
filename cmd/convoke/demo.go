package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

var demoVerb = verb{
	name: "demo", args: "[--no-wait]",
	short: "Start three daemons and show what they do",
	long: `The daemons are members web1, web2 and web3 of a cluster on 127.0.0.1 to
127.0.0.3, with a mount each in a folder of their own. What is shown are shell
commands that can be typed as they stand, and what they print. Then the mounts
stay to be tried, until Enter. Everything is removed at the end, after ^C too.
The exit status is 1 when a step does not show what it should.
`,
	setup: func(flags *pflag.FlagSet) func(*call, []string) error {
		noWait := flags.Bool("no-wait", false, "end at once, without waiting for Enter")
		return func(c *call, _ []string) error {
			ctx, stop := signal.NotifyContext(context.Background(),
				syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
			defer stop()
			return runDemo(ctx, c, !*noWait && isTerminal(c.stdin))
		}
	},
}

// errInterrupted ends a demonstration that somebody has had enough of.
var errInterrupted = errors.New("demo: interrupted")

// runDemo shows everything in a new folder and removes all traces, whatever
// happens. With wait it leaves the mounts until Enter.
func runDemo(ctx context.Context, c *call, wait bool) (err error) {
	// The daemons ask to be told when the thread that has started them ends
	// (Pdeathsig), so all are started by one that ends with this process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	if err := demoNeeds(os.Geteuid()); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// A reader that has seen enough, as in convoke demo | head, must not take
	// the process away from its daemons. Ignoring the signal would be
	// inherited by all that is started here.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	d := &demo{ctx: ctx, fail: cancel, out: failingWriter{c.stdout, cancel}, progress: c.stderr}
	defer func() {
		// A member that has ended, or ^C, explains why a step failed.
		if cause := context.Cause(ctx); err != nil && cause != nil {
			err = cause
		}
		if errors.Is(err, context.Canceled) {
			err = errInterrupted
		}
		err = errors.Join(err, d.cleanUp())
	}()
	if err := d.prepare(); err != nil {
		return err
	}
	if err := d.show(); err != nil {
		return err
	}
	if wait {
		return d.leaveToUser(c.stdin)
	}
	return nil
}

// demo is one demonstration.
type demo struct {
	ctx      context.Context
	fail     context.CancelCauseFunc // ends ctx when a daemon ends by itself
	out      io.Writer               // the session
	progress io.Writer               // all else

	dir      string // everything is below
	convoked string // the daemon's binary
	port     int    // of all members, each at its own address
	nodes    []*demoNode
	shell    *demoShell
	servers  []io.Closer
}

// failingWriter tells fail when somebody no longer listens.
type failingWriter struct {
	w    io.Writer
	fail context.CancelCauseFunc
}

func (f failingWriter) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	if err != nil {
		f.fail(fmt.Errorf("demo: %w", err))
	}
	return n, err
}

// say writes what the following commands are about, as a comment of the shell.
func (d *demo) say(lines ...string) {
	fmt.Fprintln(d.out)
	for _, line := range lines {
		fmt.Fprintf(d.out, "# %s\n", line)
	}
}

// leaveToUser leaves everything running until a line comes on input, or the
// demonstration is interrupted.
func (d *demo) leaveToUser(input io.Reader) error {
	d.say("The three mounts are yours until you press Enter. In another terminal:")
	fmt.Fprintf(d.out, "cd %s; PATH=$PWD/bin:$PATH\n", d.dir)
	enter := make(chan struct{})
	go func() {
		bufio.NewReader(input).ReadString('\n')
		close(enter)
	}()
	select {
	case <-enter:
		return nil
	case <-d.ctx.Done():
		return context.Cause(d.ctx)
	}
}

// isTerminal tells whether somebody may press Enter.
func isTerminal(r io.Reader) bool {
	f, ok := r.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
