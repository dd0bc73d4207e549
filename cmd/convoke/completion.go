package main

import (
	"embed"
	"fmt"
)

//go:embed completion/convoke.bash completion/_convoke completion/convoke.fish
var completions embed.FS

// completionFiles tells where the completions for each shell are.
var completionFiles = map[string]string{
	"bash": "completion/convoke.bash",
	"zsh":  "completion/_convoke",
	"fish": "completion/convoke.fish",
}

var completionVerb = verb{
	name: "completion", args: "bash|zsh|fish", min: 1, max: 1,
	short: "Print the completions for a shell",
	long:  "They know convoke and convoked: eval \"$(convoke completion bash)\"\n",
	setup: plain(func(c *call, args []string) error {
		file, ok := completionFiles[args[0]]
		if !ok {
			return usageError{fmt.Sprintf("no completions for %q: bash, zsh or fish", args[0])}
		}
		text, err := completions.ReadFile(file)
		if err != nil {
			return err
		}
		_, err = c.stdout.Write(text)
		return err
	}),
}
