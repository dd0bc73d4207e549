package security

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/convoke-fs/convoke/cluster"
	"github.com/convoke-fs/convoke/test/daemon"
)

func TestKeyFile_ThatOthersCanReadIsRefused(t *testing.T) {
	daemon.Need(t, "root")
	t.Parallel()
	dir := t.TempDir()
	key := cluster.NewKey()
	file := func(name string, text []byte, mode os.FileMode, uid int) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(path, uid, uid); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		path string
		want int
	}{
		{file("good", key, 0o600, 0), 0},
		{file("readonly", key, 0o400, 0), 0},
		{file("world", key, 0o644, 0), 78},
		{file("group", key, 0o640, 0), 78},
		{file("written", key, 0o620, 0), 78},
		{file("executed", key, 0o601, 0), 78},
		{file("other", key, 0o600, 1000), 78},
		{file("empty", nil, 0o600, 0), 78},
		{file("short", []byte("c2hvcnQ=\n"), 0o600, 0), 78},
		{file("twice", append(append([]byte{}, key...), key...), 0o600, 0), 78},
		{file("large", []byte(strings.Repeat(string(key), 200)), 0o600, 0), 78},
		{dir, 78},
		{filepath.Join(dir, "fifo"), 78},
		{filepath.Join(dir, "none"), 78},
	} {
		r := daemon.Finish(t, exec.Command(daemon.Convoked(t), "--check", "--name", "x", "--key-file", tc.path, dir), daemon.Bound)
		if r.Code != tc.want || tc.want != 0 && r.Err == "" {
			t.Errorf("%s: status %d, stderr %q, want %d", tc.path, r.Code, r.Err, tc.want)
		}
		if strings.Contains(r.Err+r.Out, strings.TrimSpace(string(key))) || strings.Contains(r.Err, "c2hvcnQ") {
			t.Errorf("%s: the key is in the message %q", tc.path, r.Err)
		}
	}
}

func TestKey_IsNowhereToBeRead(t *testing.T) {
	daemon.Need(t, "fuse", "root")
	t.Parallel()
	path := daemon.NewKey(t)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	key := strings.TrimSpace(string(text))
	a := daemon.Start(t, daemon.Opts{KeyFile: path, Args: []string{"--log-level", "debug"}})
	b := daemon.Start(t, daemon.Opts{KeyFile: path, Join: []*daemon.Node{a}, Args: []string{"--log-level", "debug"}})
	b.WaitAlive(a.Name, b.Name)
	places := map[string]string{"stderr": a.Stderr(), "cluster/log": a.Log(), "cluster/metrics": a.Read("cluster/metrics"), "cluster/status": a.Read("cluster/status")}
	for _, f := range []string{"cmdline", "environ"} {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", a.PID(), f))
		if err != nil {
			t.Fatal(err)
		}
		places[f] = string(b)
	}
	_ = filepath.WalkDir(a.Dir, func(path string, d os.DirEntry, err error) error {
		if d != nil && path == a.Mount {
			return filepath.SkipDir
		}
		if err == nil && d.Type().IsRegular() {
			b, _ := os.ReadFile(path)
			places[path] = string(b)
			if info, err := d.Info(); err == nil && strings.HasPrefix(path, a.State) && info.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s: mode %v, want nothing for others", path, info.Mode())
			}
		}
		return nil
	})
	for place, text := range places {
		if strings.Contains(text, key) {
			t.Errorf("the key is in %s", place)
		}
	}
	if st, err := os.Stat(a.State); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("state folder: %v, %v, want 0700", st.Mode(), err)
	}
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", a.PID()))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(limits)) {
		if strings.HasPrefix(line, "Max core file size") && strings.Join(strings.Fields(line)[4:6], " ") != "1 1" {
			t.Errorf("core files are possible: %s", line)
		}
	}
}

// A process that is not dumpable shows in /proc as root's, to its own user too.
func TestMemory_OfAUsersDaemonIsClosedToHisOtherProcesses(t *testing.T) {
	daemon.Need(t, "fuse-users", "root", "fusermount3", "setpriv")
	t.Parallel()
	n := daemon.Prepare(t, daemon.Opts{})
	if err := os.Chown(n.Dir, 1000, 1000); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(n.Mount, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(n.Mount, 1000, 1000); err != nil {
		t.Fatal(err)
	}
	user := []string{"--reuid", "1000", "--regid", "1000", "--clear-groups", "--"}
	cmd := exec.Command("setpriv", append(user, daemon.Convoked(t), "--name", "u", "--state", n.State, "--run", n.RunDir, n.Mount)...)
	c := daemon.Spawn(t, cmd)
	daemon.Eventually(t, daemon.Bound, "ready", func() bool { return strings.Contains(c.Stderr(), "msg=ready") })
	var st syscall.Stat_t
	if err := syscall.Stat(fmt.Sprintf("/proc/%d/environ", c.PID()), &st); err != nil || st.Uid != 0 {
		t.Errorf("its memory belongs to uid %d, %v, want 0; stderr %s", st.Uid, err, c.Stderr())
	}
	r := daemon.Finish(t, exec.Command("setpriv", append(user, "cat", fmt.Sprintf("/proc/%d/environ", c.PID()))...), daemon.Bound)
	if r.Code == 0 {
		t.Errorf("its user reads its environment: %+v", r)
	}
	c.Signal(syscall.SIGTERM)
	if status := c.Ends(daemon.Bound); status != 0 {
		t.Errorf("status %d, stderr %s", status, c.Stderr())
	}
}

// ports returns the sockets that the daemon listens on, as lines of ss(8).
func ports(t *testing.T, n *daemon.Node) string {
	t.Helper()
	out, err := exec.Command("ss", "-Hlnptu").Output()
	if err != nil {
		t.Fatal(err)
	}
	var own []string
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, fmt.Sprintf("pid=%d,", n.PID())) {
			own = append(own, line)
		}
	}
	return strings.Join(own, "")
}

func TestGossip_NoPortWithoutAKey(t *testing.T) {
	daemon.Need(t, "ss")
	n := start(t, "--bind", "127.77.77.77")
	if got := ports(t, n); got != "" {
		t.Errorf("it listens on\n%s", got)
	}
}

func TestGossip_GarbageChangesNothing(t *testing.T) {
	daemon.Need(t, "fuse", "root", "ss")
	t.Parallel()
	key := daemon.NewKey(t)
	a := daemon.Start(t, daemon.Opts{KeyFile: key})
	b := daemon.Start(t, daemon.Opts{KeyFile: key, Join: []*daemon.Node{a}})
	a.WaitAlive(a.Name, b.Name)
	host, _, _ := net.SplitHostPort(a.Addr)
	for line := range strings.Lines(ports(t, a)) {
		if !strings.Contains(line, host+":") {
			t.Errorf("it listens elsewhere than at its address: %s", line)
		}
	}
	before := a.Read("cluster/status")
	garbage := [][]byte{
		nil, {0}, []byte("GET / HTTP/1.0\r\n\r\n"), []byte(strings.Repeat("\xff", 1400)), []byte(strings.Repeat("\x00", 60000)),
		{244, 0}, append([]byte{244, 7}, "convoke"...), {9, 0xff, 0xff, 0xff, 0xff}, {10, 0, 0xff, 0xff, 0xff}, []byte("\x1b]0;pwned\x07\n"),
	}
	for range 5 {
		for _, g := range garbage {
			if c, err := net.Dial("udp", a.Addr); err == nil {
				_, _ = c.Write(g)
				c.Close()
			}
			if c, err := net.DialTimeout("tcp", a.Addr, time.Second); err == nil {
				_, _ = c.Write(g)
				c.Close()
			}
		}
	}
	// Connections that say nothing do not keep members from one another.
	for range 100 {
		if c, err := net.DialTimeout("tcp", a.Addr, 100*time.Millisecond); err == nil {
			defer c.Close()
		}
	}
	c := daemon.Start(t, daemon.Opts{KeyFile: key, Join: []*daemon.Node{b}})
	a.WaitAlive(a.Name, b.Name, c.Name)
	c.Stop()
	a.WaitAlive(a.Name, b.Name)
	if after := a.Read("cluster/status"); !strings.HasPrefix(after, strings.SplitAfter(before, "\n")[0][:4]) || strings.Count(after, "alive") != 2 {
		t.Errorf("the members are\n%s\nwere\n%s", after, before)
	}
	if log := a.Log(); strings.ContainsAny(log, "\x1b\x07\x00\xff") {
		t.Error("control bytes are in the log")
	} else if len(log) > 200<<10 {
		t.Errorf("the log has grown to %d bytes", len(log))
	}
}
