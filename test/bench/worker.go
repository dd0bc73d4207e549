package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// roles are what this program does when it is started again by itself: the first argument names one.
var roles = map[string]func(args []string, out io.Writer) error{
	"peer":  peer,
	"send":  clientSend,
	"recv":  clientRecv,
	"trips": clientTrips,
	"conns": clientConns,
	"hold":  clientHold,
	"open":  clientOpen,
	"fdp":   serveLocal,

	"member":   memberRole,
	"corosync": func(args []string, _ io.Writer) error { return runCorosync(args) },
}

// work does a role and ends the process.
func work(f func([]string, io.Writer) error, args []string) {
	if err := errors.Join(raiseFiles(), f(args, os.Stdout)); err != nil {
		fmt.Fprintf(os.Stderr, "bench %s: %v\n", filepath.Base(os.Args[1]), err)
		os.Exit(exitFailed)
	}
	os.Exit(exitDone)
}

// raiseFiles raises the limit of descriptors to the hard one.
func raiseFiles() error {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return err
	}
	l.Cur = l.Max
	return unix.Setrlimit(unix.RLIMIT_NOFILE, &l)
}

// again returns this program as a command with a role. Go's runtime is kept out of the measurement as far as it
// goes: no collector, no signals that preempt, and a P for each thread that may block, so that none waits until the
// scheduler has noticed.
func again(ctx context.Context, role string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", append([]string{role}, args...)...)
	cmd.Env = append(os.Environ(), "GODEBUG=asyncpreemptoff=1", "GOGC=off", "GOMAXPROCS=16")
	cmd.Stderr = os.Stderr
	return cmd
}

// runRole runs a role to its end and returns the two numbers it prints: how many, and in how many nanoseconds.
func runRole(ctx context.Context, role string, args ...string) (n, nanos int64, err error) {
	return finishRole(again(ctx, role, args...))
}

func finishRole(cmd *exec.Cmd) (n, nanos int64, err error) {
	out, err := cmd.Output()
	if err != nil {
		return 0, 0, fmt.Errorf("%s: %w", strings.Join(cmd.Args, " "), err)
	}
	if len(out) == 0 {
		return 0, 0, nil // bulk: the peer has the time
	}
	if _, err := fmt.Sscan(string(out), &n, &nanos); err != nil {
		return 0, 0, fmt.Errorf("%s said %q: %w", strings.Join(cmd.Args, " "), out, err)
	}
	return n, nanos, nil
}

// A child is a process of ours that lives until its standard input ends.
type child struct {
	cmd *exec.Cmd
	in  io.Closer
	out *bufio.Reader
}

func startChild(ctx context.Context, role string, args ...string) (*child, error) {
	cmd := again(ctx, role, args...)
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &child{cmd, in, bufio.NewReader(out)}, nil
}

func (c *child) stop() {
	c.in.Close()
	_ = c.cmd.Wait() // how it ended is of no interest: what it had to say it has said
}

// scan reads one line of the child.
func (c *child) scan(values ...any) error {
	line, err := c.out.ReadString('\n')
	if err != nil {
		return fmt.Errorf("%s has ended: %w", c.cmd.Args[1], err)
	}
	_, err = fmt.Sscan(line, values...)
	return err
}
