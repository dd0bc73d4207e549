package main

import (
	"bufio"
	"encoding/json"
	"io"
	"os"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/ipc"
)

var eventsVerb = verb{
	name: "events", args: "[--json] [KIND]...", max: -1,
	short: "Tell changes of the cluster until interrupted",
	long: `It begins with the members there are (SNAP, one each, then SNAPEND); then each
change is a line as it happens. With KIND, only these kinds are told:
SNAP, SNAPEND, MEMBER_JOINED, MEMBER_LEFT, STALE_CLUSTER, INVALID_CLUSTER,
VALID_CLUSTER, LOST, RESET.
With --json each event is an object on a line of its own.
`,
	setup: func(flags *pflag.FlagSet) func(*call, []string) error {
		asJSON := jsonFlag(flags)
		return func(c *call, kinds []string) error {
			t, err := c.tree()
			if err != nil {
				return err
			}
			events, err := t.Events(kinds...)
			if err != nil {
				return err
			}
			defer events.Close()
			out, ok := outputFD(c.stdout)
			if ok {
				// Else the command would go on until the next event, and that may take days.
				defer watchOutput(out, func() { events.Close() })()
			}
			if *asJSON {
				err = eventsJSON(c.stdout, events)
			} else {
				err = pump(c.stdout, events)
			}
			if ok && unread(out) {
				return nil // whoever read the output has what he wanted
			}
			return err
		}
	},
}

// outputFD returns the descriptor of the output, if it has one.
func outputFD(w io.Writer) (fd int, ok bool) {
	f, ok := w.(*os.File)
	if !ok {
		return -1, false
	}
	return int(f.Fd()), true
}

// watchOutput calls gone when nobody reads the pipe out any more, as after `convoke events | sed q`. stop ends that, and
// must be called while out is open: who waits in poll(2) holds on to the file, whichever has the number.
func watchOutput(out int, gone func()) (stop func()) {
	r, w, err := os.Pipe()
	if err != nil {
		return func() {}
	}
	fds := []unix.PollFd{{Fd: int32(out)}, {Fd: int32(r.Fd())}} // no events: POLLERR and POLLHUP come unasked
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			_, err := unix.Poll(fds, -1)
			if err == unix.EINTR {
				continue
			}
			if err == nil && fds[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0 {
				gone()
			}
			return
		}
	}()
	return func() {
		w.Close()
		<-done
		r.Close()
	}
}

// unread tells whether out is a pipe or a socket whose other end is closed.
func unread(out int) bool {
	fds := []unix.PollFd{{Fd: int32(out)}}
	for {
		n, err := unix.Poll(fds, 0)
		if err != unix.EINTR {
			return err == nil && n > 0 && fds[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0
		}
	}
}

// eventsJSON writes each line of events as an object, at once.
func eventsJSON(w io.Writer, events io.Reader) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	lines := bufio.NewScanner(events)
	for lines.Scan() {
		event, err := ipc.ParseEvent(lines.Text())
		if err != nil {
			return err
		}
		if err := enc.Encode(event); err != nil {
			return err
		}
	}
	return lines.Err()
}
