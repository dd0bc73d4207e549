package main

import (
	"bufio"
	"encoding/json"
	"io"

	"github.com/spf13/pflag"

	"github.com/convoke-fs/convoke/ipc"
)

var eventsVerb = verb{
	name: "events", args: "[--json] [KIND]...", max: -1,
	short: "Tell changes of the cluster until interrupted",
	long: `It begins with the members there are (SNAP, one each, then SNAPEND); then each
change is a line as it happens. With KIND, only these kinds are told:
SNAP, SNAPEND, MEMBER_JOINED, MEMBER_LEFT, LOST, RESET.
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
			if *asJSON {
				return eventsJSON(c.stdout, events)
			}
			return pump(c.stdout, events)
		}
	},
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
