package main

import (
	"fmt"
	"io"
	"runtime/debug"
	"strings"
)

var versionVerb = verb{
	name:  "version",
	short: "Print the version",
	long:  "The version of the daemon is in cluster/version.\n",
	setup: plain(func(c *call, _ []string) error { return printVersion(c.stdout) }),
}

// printVersion writes what the Go tool has stamped on this binary.
func printVersion(w io.Writer) error {
	version := ""
	if info, ok := debug.ReadBuildInfo(); ok {
		version = strings.Trim(info.Main.Version, "()")
	}
	if version == "" {
		version = "devel"
	}
	_, err := fmt.Fprintf(w, "convoke %s\n", version)
	return err
}
