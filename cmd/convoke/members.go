package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/convoke-fs/convoke/ipc"
)

var membersVerb = verb{
	name: "members", args: "[--json]",
	short: "List the members, a line each",
	long: `Each line is
  ID NAME ADDR STATE ROLE BOOT VERSION [TAG=VALUE]...
STATE is alive, leaving, left or failed.
`,
	setup: func(flags *pflag.FlagSet) func(*call, []string) error {
		asJSON := jsonFlag(flags)
		return func(c *call, _ []string) error {
			t, err := c.tree()
			if err != nil {
				return err
			}
			members, err := t.Members()
			if err != nil {
				return err
			}
			if *asJSON {
				return printJSON(c.stdout, members)
			}
			for _, m := range members {
				if _, err := fmt.Fprintln(c.stdout, memberLine(m)); err != nil {
					return err
				}
			}
			return nil
		}
	},
}

// memberLine returns the record of one member, its tags in the order of their
// keys.
func memberLine(m ipc.Member) string {
	var line strings.Builder
	fmt.Fprintf(&line, "%d %s %s %s %s %d %s", m.ID, m.Name, m.Addr, m.State, m.Role, m.Boot, m.Version)
	for _, key := range slices.Sorted(maps.Keys(m.Tags)) {
		fmt.Fprintf(&line, " %s=%s", key, m.Tags[key])
	}
	return line.String()
}
