package daemon

import (
	"bufio"
	"bytes"
	"io"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A Child is a program that runs beside the test. It is killed at the test's end at the latest.
type Child struct {
	t     testing.TB
	Cmd   *exec.Cmd
	In    io.WriteCloser
	lines chan string
	done  chan struct{}

	mu   sync.Mutex
	errs bytes.Buffer // guarded by mu
}

// Spawn starts a program of u in the mount point.
func (n *Node) Spawn(u User, argv ...string) *Child {
	n.t.Helper()
	return Spawn(n.t, n.Command(u, argv...))
}

// Spawn starts cmd with its input and output in the test's hands.
func Spawn(t testing.TB, cmd *exec.Cmd) *Child {
	t.Helper()
	c := &Child{t: t, Cmd: cmd, lines: make(chan string, 1<<14), done: make(chan struct{})}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if c.In, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = c
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(c.done)
		for s := bufio.NewScanner(out); s.Scan(); {
			c.lines <- s.Text()
		}
		close(c.lines)
		_ = cmd.Wait() // the status is in ProcessState
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		select {
		case <-c.done:
		case <-time.After(Bound):
			t.Errorf("%q cannot be killed", cmd.Args)
		}
	})
	return c
}

// Write collects what the program says on stderr.
func (c *Child) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.errs.Write(p)
}

// Stderr returns what it has said there.
func (c *Child) Stderr() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.errs.String()
}

// Line returns the next line of its output. The test ends when none comes.
func (c *Child) Line() string {
	c.t.Helper()
	select {
	case l, ok := <-c.lines:
		if ok {
			return l
		}
	case <-time.After(Bound):
	}
	c.t.Fatalf("%q: no line; stderr %q", c.Cmd.Args, c.Stderr())
	return ""
}

// Expect reads lines until one that holds text, and returns it.
func (c *Child) Expect(text string) string {
	c.t.Helper()
	for {
		if l := c.Line(); strings.Contains(l, text) {
			return l
		}
	}
}

// Say writes a line to its input.
func (c *Child) Say(line string) {
	c.t.Helper()
	if _, err := io.WriteString(c.In, line+"\n"); err != nil {
		c.t.Fatalf("%q: %v", c.Cmd.Args, err)
	}
}

// Lines are those of its output; the channel is closed at the end of that.
func (c *Child) Lines() <-chan string { return c.lines }

// Exited is closed when it has ended.
func (c *Child) Exited() <-chan struct{} { return c.done }

// PID returns its process.
func (c *Child) PID() int { return c.Cmd.Process.Pid }

// Signal sends it a signal.
func (c *Child) Signal(s syscall.Signal) {
	c.t.Helper()
	if err := c.Cmd.Process.Signal(s); err != nil {
		c.t.Fatal(err)
	}
}

// Ends waits for its end and returns its exit status, 128 + signal when it died of one. The test ends when it does not.
func (c *Child) Ends(d time.Duration) int {
	c.t.Helper()
	select {
	case <-c.done:
	case <-time.After(d):
		c.t.Fatalf("%q has not ended after %v", c.Cmd.Args, d)
	}
	ws, _ := c.Cmd.ProcessState.Sys().(syscall.WaitStatus)
	if ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ws.ExitStatus()
}
