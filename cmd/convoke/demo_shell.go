package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

const (
	// stepTime bounds what one command may take to show what it should. A
	// member's death is seen after a few seconds.
	stepTime = 40 * time.Second

	// endMark is what the shell prints behind the output of a command, with
	// its exit status.
	endMark = "\x01end "
)

// demoShell is one /bin/sh that runs the whole session, as a user's terminal
// does: a descriptor that one command has opened is there for the next, and a
// loop in the background goes on printing.
type demoShell struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines chan string // of standard output and error, with their newlines
	out   io.Writer
	shown string // since the last command was given
}

// startShell starts the shell in dir, with bin before everything in PATH. What
// it prints is written to out while somebody waits for it.
func startShell(dir, bin string, out io.Writer) (*demoShell, error) {
	cmd := exec.Command("/bin/sh")
	cmd.Dir = dir
	cmd.Env = append(demoEnv(), "PATH="+bin+":"+os.Getenv("PATH"), "PWD="+dir,
		// What is expected is compared with the text of errors.
		"LC_ALL=C", "ENV=")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = w, w
	err = cmd.Start()
	w.Close()
	if err != nil {
		r.Close()
		return nil, err
	}
	s := &demoShell{cmd: cmd, stdin: stdin, lines: make(chan string, 1024), out: out}
	go func() {
		defer close(s.lines)
		defer r.Close()
		text := bufio.NewReader(r)
		for {
			line, err := text.ReadString('\n')
			if line != "" {
				s.lines <- line
			}
			if err != nil {
				return
			}
		}
	}()
	return s, nil
}

// run runs a command, shows it and its output, and returns the output and the
// exit status.
func (s *demoShell) run(ctx context.Context, command string) (output string, status int, err error) {
	fmt.Fprintf(s.out, "$ %s\n", strings.ReplaceAll(command, "\n", "\n> "))
	// The status is taken first: some shells have printf as a program.
	if _, err := fmt.Fprintf(s.stdin, "%s\nprintf '\\001end %%s\\n' $?\n", command); err != nil {
		return "", 0, fmt.Errorf("the shell has ended: %w", err)
	}
	s.shown = ""
	end, err := s.until(ctx, func(line string) bool { return strings.HasPrefix(line, endMark) })
	if err != nil {
		return s.shown, 0, err
	}
	if _, err := fmt.Sscanf(end, endMark+"%d", &status); err != nil {
		return s.shown, 0, fmt.Errorf("the shell said %q: %w", end, err)
	}
	return s.shown, status, nil
}

// await waits for a line with this text from the background. It may have come
// while the last command ran.
func (s *demoShell) await(ctx context.Context, text string) error {
	if strings.Contains(s.shown, text) {
		return nil
	}
	_, err := s.until(ctx, func(line string) bool { return strings.Contains(line, text) })
	return err
}

// until shows lines until one for which last is true, and returns that. The
// mark behind a command is not shown.
func (s *demoShell) until(ctx context.Context, last func(line string) bool) (string, error) {
	timer := time.NewTimer(stepTime)
	defer timer.Stop()
	for {
		select {
		case line, ok := <-s.lines:
			if !ok {
				return "", errors.New("the shell has ended")
			}
			if !strings.HasPrefix(line, endMark) {
				fmt.Fprint(s.out, line)
				s.shown += line
			}
			if last(line) {
				return line, nil
			}
		case <-timer.C:
			return "", fmt.Errorf("nothing for %v", stepTime)
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	}
}

// kill ends the shell and everything that it has left in the background.
func (s *demoShell) kill() {
	if s.cmd.ProcessState == nil {
		syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
	}
}

// wait waits until the last of them is gone. One that sits in a call of a tree
// is gone when its daemon has answered, or has ended.
func (s *demoShell) wait() {
	s.stdin.Close()
	for range s.lines {
		// Until the last one has closed its output.
	}
	s.cmd.Wait()
}
