package main

import (
	"fmt"

	"github.com/spf13/pflag"
)

var statusVerb = verb{
	name: "status", args: "[--json]",
	short: "Show the cluster as a table",
	long: `First comes what this daemon is, then the line of cluster/quorum and the table of
cluster/status. With --json it is an object that tells cluster, self, version,
quorum and members.
`,
	setup: func(flags *pflag.FlagSet) func(*call, []string) error {
		asJSON := jsonFlag(flags)
		return func(c *call, _ []string) error {
			t, err := c.tree()
			if err != nil {
				return err
			}
			status, err := t.Status()
			if err != nil {
				return err
			}
			if *asJSON {
				return printJSON(c.stdout, status)
			}
			table, err := t.Table()
			if err != nil {
				return err
			}
			quorum := ""
			if status.Quorum != "" {
				quorum = status.Quorum + "\n"
			}
			_, err = fmt.Fprintf(c.stdout, "cluster %s, this node %s, convoked %s\n%s%s",
				status.Cluster, status.Self, status.Version, quorum, table)
			return err
		}
	},
}
