package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"

	"github.com/spf13/pflag"

	"github.com/convoke-fs/convoke/ipc"
)

var castVerb = verb{
	name: "cast", args: "[--wait SECONDS] GROUP TEXT...|-", min: 2, max: -1,
	short: "Send a message to a process group",
	long: `The message is TEXT, with blanks between several, or with - what the input holds,
without a newline at its end. Nothing is joined, and the group must let you send.
More: convoke-feed(1).
`,
	setup: func(flags *pflag.FlagSet) func(*call, []string) error {
		wait := flags.Float64("wait", 30, "wait `SECONDS` while the cluster takes no message")
		return func(c *call, args []string) error {
			if !(*wait > 0 && *wait <= maxSeconds) {
				return usageError{fmt.Sprintf("cast: --wait is above 0 and at most %d seconds", maxSeconds)}
			}
			name, err := groupName("cast", args[0])
			if err != nil {
				return err
			}
			message, err := castMessage(c.stdin, args[1:])
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(context.Background(), seconds(*wait))
			defer cancel()
			return cast(ctx, c, name, message)
		}
	},
}

// castMessage returns the message that the arguments mean.
func castMessage(input io.Reader, args []string) ([]byte, error) {
	if len(args) != 1 || args[0] != "-" {
		return []byte(strings.Join(args, " ")), nil
	}
	message, err := io.ReadAll(io.LimitReader(input, ipc.MaxMessage+2))
	if err != nil {
		return nil, fmt.Errorf("read the input: %w", err)
	}
	if n := len(message); n > 0 && message[n-1] == '\n' {
		message = message[:n-1]
	}
	return message, nil
}

// cast sends one message.
func cast(ctx context.Context, c *call, name string, message []byte) error {
	daemon, err := c.dialGroups(ctx)
	if err != nil {
		return err
	}
	defer daemon.Close()
	s, err := daemon.Sender(ctx, name)
	if errors.Is(err, syscall.EACCES) {
		return hinted{err, fmt.Sprintf("its owner may let others send: chmod a+w cluster/groups/%s/send; members send by convoke feed --send", ipc.EscapeGroup(name))}
	}
	if err != nil {
		return explainGroup(name, err)
	}
	defer s.Close()
	if err := s.Send(ctx, message); err != nil {
		return explainGroup(name, err)
	}
	return explainGroup(name, s.Finish(ctx))
}
