package main

import (
	"github.com/spf13/pflag"
)

var logVerb = verb{
	name: "log", args: "[-f]",
	short: "Print the daemon's log",
	long:  "It tells what happened and why opens failed. root and group adm may read it.\n",
	setup: func(flags *pflag.FlagSet) func(*call, []string) error {
		follow := flags.BoolP("follow", "f", false, "go on with what comes, until interrupted")
		return func(c *call, _ []string) error {
			t, err := c.tree()
			if err != nil {
				return err
			}
			log, err := t.Log(*follow)
			if err != nil {
				return err
			}
			defer log.Close()
			return pump(c.stdout, log)
		}
	},
}
