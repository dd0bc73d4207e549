package main

import "fmt"

var helpVerb = verb{
	name: "help", args: "[COMMAND]", max: 1,
	short: "Explain a command",
}

func init() {
	// Set here, since the list of verbs, which help prints, holds help itself.
	helpVerb.setup = plain(func(c *call, args []string) error {
		if len(args) == 0 {
			return printUsage(c.stdout)
		}
		v, ok := findVerb(args[0])
		if !ok {
			return usageError{fmt.Sprintf("unknown command %q; try: convoke help", args[0])}
		}
		return printVerb(c.stdout, v)
	})
}
