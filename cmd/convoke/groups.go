package main

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"github.com/convoke-fs/convoke/ipc"
)

var groupsVerb = verb{
	name: "groups", args: "[--json] [GROUP]", max: 1,
	short: "List the process groups, or the members of one",
	long: `Each line is
  GROUP uid=U gid=G feed=MODE send=MODE members=NODEID:PID,...
and with GROUP
  NODEID PID NODE JOINED
Members that this user may not see are a question mark. More: convoke-feed(1).
`,
	setup: func(flags *pflag.FlagSet) func(*call, []string) error {
		asJSON := jsonFlag(flags)
		return func(c *call, args []string) error {
			if len(args) > 0 {
				return listMembers(c, args[0], *asJSON)
			}
			t, err := c.tree()
			if err != nil {
				return err
			}
			groups, err := t.Groups()
			if err != nil {
				return err
			}
			if *asJSON {
				return printJSON(c.stdout, groups)
			}
			for _, g := range groups {
				if _, err := fmt.Fprintln(c.stdout, groupLine(g)); err != nil {
					return err
				}
			}
			return nil
		}
	},
}

// listMembers prints the members of one group.
func listMembers(c *call, arg string, asJSON bool) error {
	name, err := groupName("groups", arg)
	if err != nil {
		return err
	}
	t, err := c.tree()
	if err != nil {
		return err
	}
	g, err := t.Group(ipc.EscapeGroup(name))
	if err != nil {
		return explainGroup(name, err)
	}
	if asJSON {
		return printJSON(c.stdout, g)
	}
	for _, m := range g.Members {
		node := m.NodeName
		if node == "" {
			node = "-"
		}
		_, pid, _ := strings.Cut(m.Process.String(), ":")
		if _, err := fmt.Fprintf(c.stdout, "%d %s %s %s\n", m.Node, pid, node, m.Joined); err != nil {
			return err
		}
	}
	return nil
}

// groupLine returns the record of one group.
func groupLine(g ipc.GroupInfo) string {
	members := "?"
	if g.Members != nil {
		names := make([]string, len(g.Members))
		for i, m := range g.Members {
			names[i] = m.Process.String()
		}
		if members = strings.Join(names, ","); members == "" {
			members = "-"
		}
	}
	return fmt.Sprintf("%s uid=%d gid=%d feed=%v send=%v members=%s", g.Name, g.UID, g.GID, g.Feed, g.Send, members)
}
