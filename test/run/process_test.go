package run

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/convoke-fs/convoke/test/daemon"
)

func TestProcess_IsTheProgram(t *testing.T) {
	n := start(t)
	// Its number, and nobody is its child.
	c := n.Spawn(daemon.U1000, under(t, n, "sh", "-c", `echo $$; exec cat`)...)
	if got := c.Line(); got != strconv.Itoa(c.PID()) {
		t.Errorf("process: got %s, want %d", got, c.PID())
	}
	children, err := os.ReadFile("/proc/" + strconv.Itoa(c.PID()) + "/task/" + strconv.Itoa(c.PID()) + "/children")
	if err != nil || len(children) != 0 {
		t.Errorf("children: got %q, %v", children, err)
	}
	pids := supervisors(t, n)
	if len(pids) != 1 {
		t.Fatalf("supervisors: got %q", pids)
	}
	// Nothing of the caller is in the supervisor: three descriptors on /dev/null and its own, no environment, no folder,
	// its own session, and no privileges to gain.
	r := n.Sh(`cd /proc/` + pids[0] + ` && readlink fd/0 fd/1 fd/2 cwd && tr '\0' '\n' <environ && grep -h NoNewPrivs status && awk '{print ($6 == ` +
		strconv.Itoa(c.PID()) + `)}' stat && cat comm`)
	if want := "/dev/null\n/dev/null\n/dev/null\n/\nGODEBUG=asyncpreemptoff=1\nNoNewPrivs:\t1\n0\nconvoke-run\n"; r.Out != want {
		t.Errorf("supervisor: got %q %s, want %q", r.Out, r.Err, want)
	}
	c.In.Close()
	if status := c.Ends(daemon.Bound); status != 0 {
		t.Errorf("status %d", status)
	}
	gone(t, n)
}

func TestProcess_HasWhatTheCallerGaveIt(t *testing.T) {
	n := start(t)
	script := `ulimit -S -n 77; trap '' HUP; exec 7</etc/hostname; export A=b; umask 27; cd cluster; exec "$@"`
	show := `ls -x /proc/self/fd | tr -s ' '; echo $A; ulimit -n; umask; pwd; grep -E 'SigBlk|NoNewPrivs' /proc/self/status; kill -HUP $$; echo alive`
	plain := n.Run(daemon.U1000, "sh", "-c", script, "sh", "sh", "-c", show)
	under := n.Run(daemon.U1000, append([]string{"sh", "-c", script, "sh"}, under(t, n, "sh", "-c", show)...)...)
	if under.Out != strings.Replace(plain.Out, "NoNewPrivs:\t0", "NoNewPrivs:\t1", 1) || under.Code != 0 {
		t.Errorf("got %+v\nwant %+v", under, plain)
	}
}

func TestProcess_ExitStatusAndSignals(t *testing.T) {
	n := start(t)
	file := n.Dir + "/file"
	script := n.Dir + "/script"
	n.Sh(`echo x >` + file + `; printf 'echo "$1"\n' >` + script + `; chmod 755 ` + script + `; printf '#!/nowhere\n' >` + script + `.bad; chmod 755 ` + script + `.bad`)
	for _, tc := range []struct {
		argv   []string
		status int
		says   string
	}{
		{[]string{"true"}, 0, ""},
		{[]string{"sh", "-c", "exit 77"}, 77, ""},
		{[]string{"sh", "-c", "kill -KILL $$"}, 128 + 9, ""},
		{[]string{"sh", "-c", "kill -TERM $$"}, 128 + 15, ""},
		{[]string{script, "a"}, 0, ""}, // without a first line that says whose
		{[]string{"no-such-program"}, 127, "no-such-program: command not found"},
		{[]string{"/no/such"}, 127, "/no/such: no such file"},
		{[]string{file}, 126, file + ": permission denied"},
		{[]string{"/etc"}, 126, "/etc: is a directory"},
		{[]string{script + ".bad"}, 127, "no such file"},
	} {
		r := n.Run(daemon.U1000, append([]string{"env", "PATH=/usr/bin:/bin"}, under(t, n, tc.argv...)...)...)
		if r.Code != tc.status || !strings.Contains(r.Err, tc.says) || tc.says == "" && r.Err != "" {
			t.Errorf("%q: got %+v, want status %d and %q", tc.argv, r, tc.status, tc.says)
		}
	}
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGPIPE} {
		c := n.Spawn(daemon.U1000, under(t, n, "sh", "-c", `echo ready; exec cat`)...)
		c.Expect("ready")
		c.Signal(sig)
		if status := c.Ends(daemon.Bound); status != 128+int(sig) {
			t.Errorf("%v: status %d", sig, status)
		}
	}
	r := n.Run(daemon.U1000, daemon.Convoke(t), "run", "--mount", n.Dir, "--", "true")
	if r.Code != 1 || !strings.Contains(r.Err, "nothing is mounted there") {
		t.Errorf("without a daemon: got %+v", r)
	}
	gone(t, n)
}
