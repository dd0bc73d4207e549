package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/rendezvous"
)

var sendVerb = verb{
	name: "send", args: "[--wait SECONDS] PATH FD...", min: 2, max: 1 + maxFDs,
	short: "Pass open descriptors to a local service",
	long: `PATH is dev/fdp/local/NAME[,OPTION]..., which convoke recv or a program that
takes descriptors has announced. FD is the number of a descriptor that the shell
has opened: convoke send dev/fdp/local/log 0 5 </etc/hosts 5>>log
It ends when the receiver says that it has them. More: convoke-serve(1).
`,
	setup: func(flags *pflag.FlagSet) func(*call, []string) error {
		wait := flags.Float64("wait", 10, "wait `SECONDS` for the receiver")
		return func(c *call, args []string) error {
			if !(*wait > 0 && *wait <= maxSeconds) {
				return usageError{fmt.Sprintf("send: --wait is above 0 and at most %d seconds", maxSeconds)}
			}
			p, err := rendezvous.Parse(args[0])
			if err == nil {
				err = checkProto("send", p, rendezvous.FDP)
			}
			if err != nil {
				return err
			}
			fds, err := inherited(args[1:])
			if err != nil {
				return err
			}
			return send(c, p, fds, seconds(*wait))
		}
	},
}

// inherited returns the descriptors of these numbers, which must be open, and
// be those that convoke was started with: the others are closed on exec, and
// are its own.
func inherited(numbers []string) (fds []int, err error) {
	for _, number := range numbers {
		fd, err := strconv.ParseInt(number, 10, 32)
		if err != nil || fd < 0 {
			return nil, usageError{fmt.Sprintf("send: %q is no number of a descriptor", number)}
		}
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err == nil && flags&unix.FD_CLOEXEC != 0 {
			err = syscall.EBADF
		}
		if err != nil {
			return nil, fmt.Errorf("send: descriptor %d: %w", fd, err)
		}
		fds = append(fds, int(fd))
	}
	return fds, nil
}

// send passes descriptors to the service p.
func send(c *call, p rendezvous.Path, fds []int, wait time.Duration) error {
	deadline := time.Now().Add(wait)
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	t, err := c.tree()
	if err != nil {
		return err
	}
	daemon, err := c.dial(t)
	if err != nil {
		return err
	}
	defer daemon.Close()
	fd, err := daemon.OpenFD(ctx, p.String())
	if err != nil {
		return connectError(p, err)
	}
	sock := os.NewFile(uintptr(fd), p.String())
	defer sock.Close()
	if err := sock.SetDeadline(deadline); err != nil {
		return err
	}
	return explainSend(p, wait, handOver(sock, fds))
}

// explainSend returns err, of handOver, with what it means for people.
func explainSend(p rendezvous.Path, wait time.Duration, err error) error {
	if err == nil {
		return nil
	}
	err = &rendezvous.Error{Op: "send to", Path: p.String(), Kind: rendezvous.KindOf(err), Err: err}
	switch {
	case errors.Is(err, syscall.ETIMEDOUT):
		return hinted{err, fmt.Sprintf("the receiver has not answered for %v; it may have taken them all the same", wait)}
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return hinted{err, "the receiver has gone without an answer, or does not take descriptors as convoke-serve(1) says"}
	case errors.Is(err, syscall.E2BIG):
		return hinted{err, "the receiver takes fewer descriptors; see its --fds"}
	}
	return err
}
