package main

import (
	"errors"
	"io"
	"os"

	"github.com/spf13/pflag"

	"github.com/convoke-fs/convoke/ipc"
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
			t, err := c.tree()
			if err != nil {
				return err
			}
			s, err := t.Open(args[0])
			if err != nil {
				return err
			}
			return relay(c, s, *atEnd)
		}
	},
}

// relay copies both ways until the stream ends. With atEnd it ends when the
// input does.
func relay(c *call, s *ipc.Stream, atEnd bool) error {
	defer s.Close()
	// The sender is not waited for: it may sit in a read of a terminal. The
	// process ends with this command.
	sent := make(chan error, 1)
	go func() { sent <- send(s, c.stdin, atEnd) }()

	err := pump(c.stdout, s)
	if atEnd && errors.Is(err, os.ErrClosed) {
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

// send copies the input to the stream and ends the written side, or with atEnd
// the whole stream. A datagram socket has no end to tell: over udp what comes
// is read until the command is interrupted.
func send(s *ipc.Stream, input io.Reader, atEnd bool) error {
	err := pump(s, input)
	switch {
	case atEnd:
		return errors.Join(err, s.Close())
	case err != nil:
		return err
	case s.Path.Proto == rendezvous.UDP:
		return nil
	}
	return s.CloseWrite()
}
