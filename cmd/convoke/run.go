package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"

	"github.com/spf13/pflag"

	"github.com/convoke-fs/convoke/ipc"
	"github.com/convoke-fs/convoke/ipc/supervisor"
)

var runVerb = verb{
	name: "run", args: "[--] PROGRAM [ARGUMENT]...", min: 1, max: -1,
	short: "Run a program whose open(2) of a stream gives the socket itself",
	long: `convoke becomes PROGRAM: process, signals and exit status are its own. Whatever it
and its children open under the mount's dev/ is a connected socket, for poll(2)
and full speed. More: convoke-run(1).
`,
	setup: func(flags *pflag.FlagSet) func(*call, []string) error {
		flags.SetInterspersed(false)
		step := flags.String("supervisor", "", "")
		_ = flags.MarkHidden("supervisor") // it fails for an unknown flag only
		return func(c *call, args []string) error {
			switch *step {
			case "":
				return runProgram(c, args)
			case "detach":
				return supervisor.Detach(supervisorArgs("serve", c.mount, args[0]))
			case "serve":
				tree := &ipc.Tree{Dir: c.mount}
				return supervisor.Serve(c.mount, func(ctx context.Context) (supervisor.Client, error) {
					return tree.Dial(ctx)
				})
			}
			return usageError{fmt.Sprintf("run: unknown step %q", *step)}
		}
	},
}

// The program must be executed by the first thread. The kernel would let another take its place, but that one has
// lost what the caller may have given to this one only: the signal that it gets when its parent dies, its priority,
// who may trace it.
func init() {
	if slices.Contains(os.Args, runVerb.name) {
		runtime.LockOSThread()
	}
}

// supervisorArgs is the command line of a supervisor. What it tells of the program is for ps(1).
func supervisorArgs(step, mount, program string) []string {
	return []string{"convoke", "run", "--supervisor=" + step, "--mount=" + mount, "--", program}
}

// runProgram becomes the program, under a supervisor. It returns with an error only.
func runProgram(c *call, args []string) error {
	tree, err := c.tree()
	if err != nil {
		return err
	}
	path, err := lookCommand(args[0])
	if err != nil {
		return err
	}
	mount, err := realPath(tree.Dir)
	if err != nil {
		return err
	}
	if err := supervisor.Start(mount, func(step string) []string { return supervisorArgs(step, mount, args[0]) }); err != nil {
		return fmt.Errorf("run: %w", err)
	}
	err = syscall.Exec(path, args, os.Environ())
	if errors.Is(err, syscall.ENOEXEC) {
		// A script without a first line that says whose. Shells run it, and so does execvp(3).
		err = syscall.Exec("/bin/sh", append([]string{"sh", path}, args[1:]...), os.Environ())
	}
	return cannotRun(args[0], err)
}

// realPath returns the absolute path without symbolic links, as the kernel lists a mount.
func realPath(dir string) (string, error) {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", err
	}
	return filepath.Abs(dir)
}
