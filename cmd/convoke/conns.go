package main

import (
	"fmt"

	"github.com/spf13/pflag"

	"github.com/convoke-fs/convoke/ipc"
)

var connsVerb = verb{
	name: "conns", args: "[--json]",
	short: "List the open connections, a line each",
	long: `Each line is
  ID STATE PATH LOCAL REMOTE uid=U pid=P in=BYTES out=BYTES age=SECONDS
STATE is open, or shut when the written side is shut down. root sees all
connections, a user his own.
`,
	setup: func(flags *pflag.FlagSet) func(*call, []string) error {
		asJSON := jsonFlag(flags)
		return func(c *call, _ []string) error {
			t, err := c.tree()
			if err != nil {
				return err
			}
			conns, err := t.Conns()
			if err != nil {
				return err
			}
			if *asJSON {
				return printJSON(c.stdout, conns)
			}
			for _, conn := range conns {
				if _, err := fmt.Fprintln(c.stdout, connLine(conn)); err != nil {
					return err
				}
			}
			return nil
		}
	},
}

// connLine returns the record of one connection.
func connLine(c ipc.Conn) string {
	return fmt.Sprintf("%d %s %s %s %s uid=%d pid=%d in=%d out=%d age=%.1f",
		c.ID, c.State, c.Path, c.Local, c.Remote, c.UID, c.PID, c.In, c.Out, c.Age)
}
