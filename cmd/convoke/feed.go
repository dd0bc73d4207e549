package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/convoke-fs/convoke/ipc"
)

var feedVerb = verb{
	name: "feed", args: "[--json] [-s] GROUP", min: 1, max: 1,
	short: "Join a process group and print what happens in it",
	long: `It prints a line for each change of the members and each message, until it is
interrupted, and leaves. A group that is missing is made. With --send each line
of the input is a message, and the end of the input leaves. More: convoke-feed(1).
`,
	setup: func(flags *pflag.FlagSet) func(*call, []string) error {
		asJSON := jsonFlag(flags)
		sends := flags.BoolP("send", "s", false, "send each line of the input to the group")
		return func(c *call, args []string) error {
			name, err := groupName("feed", args[0])
			if err != nil {
				return err
			}
			f := &feeder{c: c, asJSON: *asJSON, moved: make(chan struct{}, 1)}
			if !*sends {
				return f.run(name, nil)
			}
			return f.run(name, c.stdin)
		}
	},
}

// groupName returns the group that an argument names.
func groupName(verb, arg string) (string, error) {
	name, ok := ipc.UnescapeGroup(arg)
	if !ok {
		return "", usageError{fmt.Sprintf("%s: %q is no name of a group: letters, digits, and behind the first one . _ -", verb, arg)}
	}
	return name, nil
}

// dialGroups connects to the daemon for its groups.
func (c *call) dialGroups(ctx context.Context) (*ipc.Client, error) {
	t, err := c.tree()
	if err != nil {
		return nil, err
	}
	return t.Dial(ctx)
}

// explainGroup adds what to do about an error of a group.
func explainGroup(name string, err error) error {
	dir := "cluster/groups/" + ipc.EscapeGroup(name)
	switch {
	case errors.Is(err, syscall.ETIMEDOUT):
		return statusError{exitTryLater, hinted{err, "the cluster does not agree on anything now, and what was asked for may still happen; see cluster/quorum"}}
	case errors.Is(err, syscall.ENETDOWN):
		return statusError{exitTryLater, hinted{err, "the group needs a quorum; see cluster/quorum"}}
	case errors.Is(err, syscall.ENOSYS):
		return hinted{err, "this daemon has no groups"}
	case errors.Is(err, syscall.EACCES):
		return hinted{err, "ask the owner of " + dir + " to let you; convoke groups shows who may"}
	case errors.Is(err, syscall.ENOENT):
		return hinted{err, "there is no such group: mkdir " + dir + " makes one, and so does convoke feed"}
	case errors.Is(err, syscall.ENOSPC):
		return hinted{err, "this user has too many memberships or groups"}
	case errors.Is(err, syscall.EMSGSIZE):
		return hinted{err, fmt.Sprintf("a message has at most %d bytes", ipc.MaxMessage)}
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.ESHUTDOWN):
		return hinted{err, "start it again when there is a daemon again"}
	case errors.Is(err, syscall.EPIPE):
		return hinted{err, "nobody has read its output for too long, or root did it; convoke log may say which"}
	}
	return err
}

// feeder is a membership whose records are printed.
type feeder struct {
	c      *call
	asJSON bool
	g      *ipc.Group
	sent   atomic.Uint64 // messages of the input
	behind atomic.Int64  // bytes of those that have not come back
	moved  chan struct{} // has room for one: some have
}

// maxBehind is how much of what was sent may not have come back. Who sends more
// than he reads is put out in the end.
const maxBehind = 8 << 20

// weight is what a message counts for: short ones are a burden too.
func weight(message []byte) int64 { return int64(len(message)) + 512 }

// Why a feeder stops.
var (
	errStopped  = errors.New("stopped")
	errInputEnd = errors.New("end of the input")
)

// leaveTime bounds the wait for the daemon at the end.
const leaveTime = 5 * time.Second

// run joins, prints, sends what input has, which may be nil, and leaves.
func (f *feeder) run(name string, input io.Reader) error {
	ctx, stop := context.WithCancelCause(context.Background())
	defer stop(nil)
	signals := make(chan os.Signal, 4)
	notifyStop(signals)
	defer signal.Stop(signals)
	go func() {
		select {
		case <-signals:
			stop(errStopped)
		case <-ctx.Done():
		}
	}()
	out, isFile := outputFD(f.c.stdout)
	if isFile {
		// Else it would go on until the next record comes.
		defer watchOutput(out, func() { stop(errStopped) })()
	}
	err := f.join(ctx, name)
	if err == nil {
		defer f.g.Close()
		reading, ended := context.WithCancelCause(ctx)
		defer ended(nil)
		if input != nil {
			go func() { ended(f.send(reading, input)) }()
		}
		if err = f.print(ctx, reading); err == nil {
			err = f.leave()
		} else {
			f.leave()
		}
	}
	if ctx.Err() != nil || isFile && unread(out) {
		return nil // whoever read the output has what he wanted
	}
	return err
}

// join joins the group, and tells if it had to be made.
func (f *feeder) join(ctx context.Context, name string) error {
	daemon, err := f.c.dialGroups(ctx)
	if err != nil {
		return err
	}
	defer daemon.Close() // the membership is of its own
	f.g, err = daemon.Join(ctx, name, ipc.JoinOpts{})
	if errors.Is(err, syscall.ENOENT) {
		f.g, err = daemon.Join(ctx, name, ipc.JoinOpts{Create: true})
		if err == nil {
			fmt.Fprintf(f.c.stderr, "convoke: made the group %s\n", ipc.EscapeGroup(name))
		}
	}
	return explainGroup(name, err)
}

// print prints records until ctx ends. When reading has ended with the input, it is until all that was sent has come
// back.
func (f *feeder) print(ctx, reading context.Context) error {
	out := bufio.NewWriterSize(f.c.stdout, pumpSize)
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	var line []byte
	var back uint64
	begun := false // the own join has been read
	own, until := f.g.ID(), reading
	for {
		if reading.Err() != nil && ctx.Err() == nil {
			if cause := context.Cause(reading); cause != errInputEnd {
				return errors.Join(out.Flush(), cause)
			}
			if begun && back >= f.sent.Load() {
				return out.Flush()
			}
			until = ctx
		}
		if !f.g.Buffered() {
			if err := out.Flush(); err != nil {
				return err
			}
		}
		r, err := f.g.Receive(until)
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return out.Flush()
		case until.Err() != nil:
			continue
		default:
			return errors.Join(out.Flush(), explainGroup(f.g.Name(), err))
		}
		begun = true
		if r.Kind == ipc.MessageRecord && r.From == own {
			back++
			f.behind.Add(-weight(r.Data))
			select {
			case f.moved <- struct{}{}:
			default:
			}
		}
		if f.asJSON {
			err = enc.Encode(r)
		} else {
			line = r.AppendText(line[:0])
			_, err = out.Write(line)
		}
		if err != nil {
			return err
		}
	}
}

// send sends each line of the input. It returns errInputEnd at its end.
func (f *feeder) send(ctx context.Context, input io.Reader) error {
	in := bufio.NewReaderSize(input, ipc.MaxMessage+1)
	for n := 1; ; n++ {
		line, err := in.ReadSlice('\n')
		if err == bufio.ErrBufferFull {
			return explainGroup(f.g.Name(), fmt.Errorf("line %d of the input: %w", n, syscall.EMSGSIZE))
		}
		if err == nil {
			line = line[:len(line)-1]
		}
		if err == nil || len(line) > 0 {
			for f.behind.Load() > maxBehind {
				select {
				case <-f.moved:
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
			f.sent.Add(1)
			f.behind.Add(weight(line))
			if err := f.g.Send(ctx, line); err != nil {
				return explainGroup(f.g.Name(), err)
			}
		}
		switch err {
		case nil:
		case io.EOF:
			return errInputEnd
		default:
			return err
		}
	}
}

// leave leaves the group, and waits until the daemon says that all was taken.
func (f *feeder) leave() error {
	ctx, cancel := context.WithTimeout(context.Background(), leaveTime)
	defer cancel()
	err := f.g.Leave(ctx)
	for err == nil {
		_, err = f.g.Receive(ctx)
	}
	if err == io.EOF {
		return nil
	}
	return explainGroup(f.g.Name(), err)
}
