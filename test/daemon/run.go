package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Bound is how long a script or a call may take that the test expects to be quick; it is far above what they take, for
// machines that are busy.
const Bound = 20 * time.Second

// Within runs f and ends the test when f has not returned after d. A call that hangs in the mount keeps its goroutine
// until the daemon ends.
func Within(t testing.TB, d time.Duration, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(d):
		t.Fatalf("%s: nothing after %v", what, d)
	}
}

// Eventually looks at f until it is true, and ends the test when it is not after d. It is for what tells nobody that it
// has come, as files of /proc; what can be waited for should be.
func Eventually(t testing.TB, d time.Duration, what string, f func() bool) {
	t.Helper()
	end := time.Now().Add(d)
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for !f() {
		if time.Now().After(end) {
			t.Fatalf("%s: not so after %v", what, d)
		}
		<-look.C
	}
}

// A Result is what a program did.
type Result struct {
	Out, Err string
	Code     int // exit status, 128 + signal when it died of one, -1 when it hung
	Took     time.Duration
}

// A User is who runs a program.
type User struct {
	UID, GID uint32
	Groups   []uint32
}

// Root and U1000 are the users that most tests need; U1001 is the other one. None of them needs an account.
var (
	Root  = User{}
	U1000 = User{UID: 1000, GID: 1000}
	U1001 = User{UID: 1001, GID: 1001}
)

// attr makes c run as u, and die with the test.
func (u User) attr() *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if u.UID != 0 || u.GID != 0 || u.Groups != nil {
		a.Credential = &syscall.Credential{Uid: u.UID, Gid: u.GID, Groups: u.Groups}
	}
	return a
}

// setpriv is how setpriv(1) becomes u.
func (u User) setpriv() []string {
	args := []string{"--reuid", fmt.Sprint(u.UID), "--regid", fmt.Sprint(u.GID), "--clear-groups", "--"}
	if len(u.Groups) > 0 {
		var groups []string
		for _, g := range u.Groups {
			groups = append(groups, fmt.Sprint(g))
		}
		args[4] = "--groups=" + strings.Join(groups, ",")
	}
	return args
}

// Command is exec.Command for a program of u in the mount point: relative paths are the tree's. It runs in the host's
// namespace if the node does.
func (n *Node) Command(u User, argv ...string) *exec.Cmd {
	// The shell goes there, not os/exec: that would wait for a hung mount without a bound.
	args := append([]string{"-c", `cd "$0" && exec "$@"`, n.Mount}, argv...)
	var cmd *exec.Cmd
	if n.opts.Host != nil {
		cmd = n.opts.Host.Command("sh", args...)
		// nsenter needs root; setpriv changes to the user behind it.
		if u.UID != 0 || u.GID != 0 || u.Groups != nil {
			cmd = n.opts.Host.Command("setpriv", append(u.setpriv(), append([]string{"sh"}, args...)...)...)
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	} else {
		cmd = exec.Command("sh", args...)
		cmd.SysProcAttr = u.attr()
	}
	return cmd
}

// Run runs a program of u in the mount point, and kills it after Bound.
func (n *Node) Run(u User, argv ...string) Result {
	n.t.Helper()
	return Finish(n.t, n.Command(u, argv...), Bound)
}

// Sh runs a shell script of root in the mount point.
func (n *Node) Sh(script string) Result { n.t.Helper(); return n.ShAs(Root, script) }

// ShAs runs a shell script of u in the mount point.
func (n *Node) ShAs(u User, script string) Result {
	n.t.Helper()
	return n.Run(u, "sh", "-c", script)
}

// Want fails the test unless the script of root succeeds and prints just that.
func (n *Node) Want(script, out string) {
	n.t.Helper()
	if r := n.Sh(script); r.Code != 0 || r.Out != out {
		n.t.Errorf("%s\ngot  %q (status %d, stderr %q)\nwant %q", script, r.Out, r.Code, r.Err, out)
	}
}

// WantErr fails the test unless the script of u fails with the text on stderr.
func (n *Node) WantErr(u User, script, text string) {
	n.t.Helper()
	if r := n.ShAs(u, script); r.Code == 0 || !strings.Contains(r.Err, text) {
		n.t.Errorf("uid %d: %s\ngot status %d, stdout %q, stderr %q\nwant failure with %q", u.UID, script, r.Code, r.Out, r.Err, text)
	}
}

// Finish runs cmd to its end, for d at most. The test goes on when it hangs, as a failure.
func Finish(t testing.TB, cmd *exec.Cmd, d time.Duration) Result {
	t.Helper()
	var out, errs bytes.Buffer
	if cmd.Stdout == nil {
		cmd.Stdout = &out
	}
	if cmd.Stderr == nil {
		cmd.Stderr = &errs
	}
	cmd.WaitDelay = time.Second
	start := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatalf("%q: %v", cmd.Args, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { cmd.Process.Kill() })
	err := cmd.Wait()
	hung := !stop()
	r := Result{out.String(), errs.String(), 0, time.Since(start)}
	var exit *exec.ExitError
	switch {
	case hung:
		t.Errorf("%q hung; stdout %q, stderr %q", cmd.Args, r.Out, r.Err)
		r.Code = -1
	case errors.As(err, &exit):
		r.Code = exit.ExitCode()
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			r.Code = 128 + int(ws.Signal())
		}
	case err != nil && !errors.Is(err, exec.ErrWaitDelay):
		t.Fatalf("%q: %v", cmd.Args, err)
	}
	return r
}
