package launch

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// lines collects what a process says.
type lines struct {
	mu   sync.Mutex
	text []string // guarded by mu
	lost int      // guarded by mu
}

func (l *lines) output(t *testing.T) *output {
	t.Helper()
	o, err := newOutput(
		func(s string) { l.mu.Lock(); l.text = append(l.text, s); l.mu.Unlock() },
		func(n int) { l.mu.Lock(); l.lost += n; l.mu.Unlock() })
	if err != nil {
		t.Fatal(err)
	}
	// The tests look at more lines than a second's.
	second := time.Now()
	o.now = func() time.Time { second = second.Add(time.Second); return second }
	return o
}

// program opens a file to be run.
func program(t *testing.T, path string) int {
	t.Helper()
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// runs starts s to its end and returns what it said, and how it ended.
func (s spawn) runs(t *testing.T) ([]string, string) {
	t.Helper()
	var l lines
	o := l.output(t)
	s.output = o.w
	p, err := s.run()
	o.started()
	if err != nil {
		o.discard()
		t.Fatal(err)
	}
	go o.follow()
	within(t, "the end of "+s.Name, func() { <-p.ended })
	o.end()
	return l.text, p.outcome()
}

// tellAll is a server that tells all that it can see of itself.
const tellAll = `echo "0 $0"
id -u; id -g; id -G; umask; pwd
grep -E '^(Uid|Gid|Groups|SigBlk|SigIgn|CapEff|CapPrm|CapBnd):' /proc/$$/status | tr -s '\t' ' '
read -r pid comm state ppid pgrp session rest </proc/$$/stat
[ "$pid" = "$pgrp" ] && [ "$pid" = "$session" ] && echo leader
[ "$LISTEN_PID" = $$ ] && echo listening
env | grep -v -E '^(PWD|_|OLDPWD|SHLVL|LISTEN_PID)=' | sort
exec ls /proc/self/fd`

func TestSpawn_WhatTheServerGets(t *testing.T) {
	needRoot(t)
	path := install(t, libDir(t), "tcp/echo", "server", script(tellAll))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// What the daemon ignores is at its default for the server.
	signal.Ignore(unix.SIGHUP, unix.SIGPIPE, unix.SIGUSR1)
	defer signal.Reset(unix.SIGHUP, unix.SIGPIPE, unix.SIGUSR1)
	got, outcome := spawn{
		request: request{SetIDs: true, UID: 1000, GID: 1001, Groups: []uint32{1001, 7, 8}, Name: path, Env: []string{"PATH=/usr/bin:/bin", "LISTEN_FDS=2"}},
		program: program(t, path), client: -1, listen: []int{int(f.Fd()), int(f.Fd())},
	}.runs(t)
	want := []string{
		"0 /proc/self/fd/5", "1000", "1001", "1001 7 8", "0022", "/",
		"Uid: 1000 1000 1000 1000", "Gid: 1001 1001 1001 1001", "Groups: 7 8 1001 ",
		"SigBlk: 0000000000000000", "SigIgn: 0000000000000000",
		"CapPrm: 0000000000000000", "CapEff: 0000000000000000", capBnd(t),
		"leader", "listening", "LISTEN_FDS=2", "PATH=/usr/bin:/bin",
		"0", "1", "2", "3", "4", "5", "6", // 5 is the script, as which the shell has opened it, and 6 the folder that ls reads
	}
	if !slices.Equal(got, want) || outcome != "exit status 0" {
		t.Errorf("%s\ngot  %s\nwant %s", outcome, strings.Join(got, "\n     "), strings.Join(want, "\n     "))
	}
}

func capBnd(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "CapBnd:") {
			return strings.Join(strings.Fields(line), " ")
		}
	}
	return ""
}

// Of a program that is no script nothing but its standard files and sockets is open.
func TestSpawn_BinaryHasNoStrayDescriptors(t *testing.T) {
	needRoot(t)
	lib := libDir(t)
	path := install(t, lib, "tcp/echo", "server", "")
	text, err := os.ReadFile("/bin/ls")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o755); err != nil {
		t.Fatal(err)
	}
	// Descriptors of this process must not reach it.
	stray, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(stray)
	got, outcome := spawn{
		request: request{SetIDs: true, UID: 1000, GID: 1000, Name: path, Env: []string{}},
		program: program(t, path), client: -1,
	}.runs(t)
	// ls without arguments lists the root, its folder.
	if !slices.Contains(got, "etc") || outcome != "exit status 0" {
		t.Errorf("%s: got %q", outcome, got)
	}
	probe := filepath.Join(filepath.Dir(path), "probe")
	if out, err := exec.Command("go", "build", "-o", probe, "testdata/fds.go").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	got, outcome = spawn{
		request: request{Name: probe, Env: []string{}},
		program: program(t, probe), client: -1, listen: []int{stray},
	}.runs(t)
	if want := []string{"0 /dev/null", "1 pipe", "2 pipe", "3 socket"}; !slices.Equal(got, want) || outcome != "exit status 0" {
		t.Errorf("%s: got %q, want %q", outcome, got, want)
	}
}

// SO_PEERCRED of a listener names who called listen(2) last.
func TestSpawn_UnixListenerIsTheServers(t *testing.T) {
	needRoot(t)
	path := install(t, libDir(t), "fdp/echo", "server", script("sleep 60"))
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	name := filepath.Join(t.TempDir(), "s")
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: name}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 1); err != nil {
		t.Fatal(err)
	}
	var l lines
	o := l.output(t)
	p, err := spawn{
		request: request{SetIDs: true, UID: 1000, GID: 1001, Name: path, Env: []string{"PATH=/bin"}},
		program: program(t, path), client: -1, listen: []int{fd}, output: o.w,
	}.run()
	o.started()
	defer o.discard()
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("unix", name)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	f, err := c.(*net.UnixConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cred, err := unix.GetsockoptUcred(int(f.Fd()), unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil || cred.Uid != 1000 || cred.Gid != 1001 || int(cred.Pid) != p.pid {
		t.Errorf("got %+v, %v, want pid %d, uid 1000, gid 1001", cred, err, p.pid)
	}
	if n, err := queued(fd); n != 1 || err != nil {
		t.Errorf("queue: got %d, %v, want 1", n, err)
	}
	p.signal(unix.SIGTERM)
	within(t, "the end of sleep", func() { <-p.ended })
	if got := p.outcome(); got != "killed by SIGTERM" {
		t.Errorf("got %s", got)
	}
	p.signal(unix.SIGTERM) // does nothing
}

func TestSpawn_TellsWhyNot(t *testing.T) {
	needRoot(t)
	lib := libDir(t)
	for _, c := range []struct{ name, text, want string }{
		{"interpreter", "#!/nonexistent\n", "no such file"},
		{"format", "\x7fELFxx", "exec format error"},
		{"permission", script("exit"), "permission denied"},
	} {
		path := install(t, lib, "tcp/"+c.name, "server", c.text)
		if c.name == "permission" {
			chmod(t, path, 0o700)
		}
		var l lines
		o := l.output(t)
		p, err := spawn{
			request: request{SetIDs: true, UID: 1000, GID: 1000, Name: path, Env: []string{}},
			program: program(t, path), client: -1, output: o.w,
		}.run()
		o.started()
		o.discard()
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %+v, %v, want %q", c.name, p, err, c.want)
		}
	}
}

// A server ends with its daemon, however that ends. The daemon is a child here, killed while its server runs.
func TestSpawn_EndsWithTheDaemon(t *testing.T) {
	needRoot(t)
	const env = "LAUNCH_TEST_DAEMON"
	if path := os.Getenv(env); path != "" {
		p, err := spawn{
			request: request{SetIDs: true, UID: 1000, GID: 1000, Name: path, Env: []string{"PATH=/bin"}},
			program: program(t, path), client: -1, output: 1,
		}.run()
		if err != nil {
			t.Fatal(err)
		}
		<-p.ended
		return
	}
	path := install(t, libDir(t), "tcp/echo", "server", script("echo running\nexec sleep 60"))
	daemon := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.count=1")
	daemon.Env = append(os.Environ(), env+"="+path)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	daemon.Stdout = w
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	said := make([]byte, 8)
	within(t, "the start of the server", func() {
		if _, err := io.ReadFull(r, said); err != nil || string(said) != "running\n" {
			t.Errorf("got %q, %v", said, err)
		}
	})
	if err := daemon.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = daemon.Wait()
	// Its end closes the pipe.
	within(t, "the end of the server", func() { _, _ = io.Copy(io.Discard, r) })
}

// Whoever starts a helper himself gets nothing but an exit status.
func TestHelper_StartedByAnybody(t *testing.T) {
	fd, err := request{Parent: os.Getpid(), Name: "/bin/true"}.seal()
	if err != nil {
		t.Fatal(err)
	}
	order := os.NewFile(uintptr(fd), "request")
	defer order.Close()
	open, err := os.Create(filepath.Join(t.TempDir(), "request"))
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	for _, c := range []struct {
		name  string
		arg   string
		files []*os.File
	}{
		{"nothing", "0", nil},
		{"no number", "x", nil},
		{"negative", "-1", nil},
		{"no seal", "0", []*os.File{open, open, open}},
		{"another number", "1", []*os.File{order, order, open, open}},
	} {
		cmd := exec.Command("/proc/self/exe")
		cmd.Args = []string{helperName, c.arg}
		cmd.ExtraFiles = c.files
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != 127 || len(out) > 0 {
			t.Errorf("%s: got %v, %q, want exit status 127", c.name, err, out)
		}
	}
}

func TestOutput_LinesAreCutAndCounted(t *testing.T) {
	var l lines
	o := l.output(t)
	now := time.Now()
	o.now = func() time.Time { return now }
	go o.follow()
	var text strings.Builder
	text.WriteString("one\r\n\n" + strings.Repeat("x", maxLine+1) + "\n")
	for i := range 100 {
		fmt.Fprintf(&text, "line %d\n", i)
	}
	text.WriteString("end")
	if _, err := unix.Write(o.w, []byte(text.String())); err != nil {
		t.Fatal(err)
	}
	o.started()
	o.end()
	want := []string{"one", "", strings.Repeat("x", maxLine), "x", "line 0", "line 1", "line 2", "line 3", "line 4", "line 5"}
	if !slices.Equal(l.text, want) || l.lost != 95 {
		t.Errorf("got %q, %d lost, want %q and 95", l.text, l.lost, want)
	}
}
