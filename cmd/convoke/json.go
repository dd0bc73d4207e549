package main

import (
	"encoding/json"
	"io"

	"github.com/spf13/pflag"
)

// jsonFlag adds --json.
func jsonFlag(flags *pflag.FlagSet) *bool {
	return flags.Bool("json", false, "print JSON")
}

// printJSON writes v for programs, and indented for people who look at it.
func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
