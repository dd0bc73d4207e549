package main

import (
	"context"
	"errors"
	"io"
	"syscall"

	"github.com/spf13/pflag"

	"github.com/convoke-fs/convoke/rendezvous"
)

var connectVerb = verb{
	name: "connect", args: "[--close] PATH", min: 1, max: 1,
	short: "Connect standard input and output to a stream",
	long: `PATH is dev/tcp/HOST/SERVICE[,OPTION]... or the same with / for each comma.
At the end of the input the other side is told so (half-close) and its answer is
still read; the command ends when the stream ends.
`,
	setup: func(flags *pflag.FlagSet) func(*call, []string) error {
		atEnd := flags.Bool("close", false, "end at the end of the input, without waiting for the answer")
		return func(c *call, args []string) error {
			s, err := connect(c, args[0])
			if err != nil {
				return err
			}
			return relay(c, s, *atEnd)
		}
	},
}

// connect opens a path. The daemon has no part in what is done with the
// socket.
func connect(c *call, path string) (*socket, error) {
	p, err := rendezvous.Parse(path)
	if err != nil {
		return nil, err
	}
	t, err := c.tree()
	if err != nil {
		return nil, err
	}
	daemon, err := c.dial(t)
	if err != nil {
		return nil, err
	}
	fd, err := daemon.OpenFD(context.Background(), p.String())
	daemon.Close() // the socket is of its own
	if err != nil {
		return nil, connectError(p, err)
	}
	return &socket{fd: fd, path: p}, nil
}

// connectError returns err, of OpenFD, as connect tells it.
func connectError(p rendezvous.Path, err error) error {
	kind := rendezvous.KindOf(err)
	var told *rendezvous.Error
	if errors.As(err, &told) && told.Err != nil {
		err = told.Err
	}
	if err == syscall.ENOENT {
		// "No such file" would be true, and no help.
		err = nil
	}
	return &rendezvous.Error{Op: "connect", Path: p.String(), Kind: kind, Err: err}
}

// relay copies both ways until the stream ends. With atEnd it ends when the
// input does.
func relay(c *call, s *socket, atEnd bool) error {
	// The sender is not waited for: it may sit in a read of a terminal. The
	// process ends with this command.
	sent := make(chan error, 1)
	go func() { sent <- sendInput(s, c.stdin, atEnd) }()

	err := receive(c.stdout, s)
	if s.ended.Load() {
		return <-sent
	}
	if err != nil {
		return err
	}
	select {
	case err := <-sent:
		// Some of the input has not reached the other side.
		return err
	default:
		return nil
	}
}

// sendInput copies the input to the socket and ends the written side, or with
// atEnd the whole connection. Over udp, which has no end to tell, what comes
// is read until the command is interrupted.
func sendInput(s *socket, input io.Reader, atEnd bool) error {
	err := transmit(s, input)
	switch {
	case atEnd:
		s.Close()
		return err
	case err != nil:
		return err
	}
	return s.CloseWrite()
}
