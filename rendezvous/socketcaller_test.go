package rendezvous

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// openFolder returns a new folder into which everybody may go, which t.TempDir's are not.
func openFolder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "rendezvous")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// connector is a process that connects to an AF_UNIX socket, and goes on with a Python statement.
type connector struct {
	cmd  *exec.Cmd
	conn *net.UnixConn // the accepted end
	fd   int           // of conn
	out  *bufio.Reader // what it prints
	in   func(string)  // gives it a line
	end  func()        // ends its input and waits for it
}

// connectAs starts a process of c's that connects, and then runs the statement. It waits for "end" on stdin.
func connectAs(t *testing.T, attr *syscall.SysProcAttr, before, after string) *connector {
	t.Helper()
	const python = "/usr/bin/python3" // another one in PATH may be root's only
	if _, err := os.Stat(python); err != nil {
		skip(t, "needs python3")
	}
	path := filepath.Join(openFolder(t), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := l.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf("import os, socket, sys\ns = socket.socket(socket.AF_UNIX)\n%s\ns.connect(%q)\nsys.stdin.readline()\n%s\nprint('done', flush=True)\nsys.stdin.read()", before, path, after)
	c := &connector{cmd: exec.Command(python, "-c", script)}
	c.cmd.SysProcAttr = attr
	c.cmd.Dir = "/"
	c.cmd.Stderr = os.Stderr
	stdin, err := c.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c.end = func() {
		stdin.Close()
		c.cmd.Wait()
	}
	t.Cleanup(c.end)
	c.out = bufio.NewReader(stdout)
	c.in = func(s string) { fmt.Fprintln(stdin, s) }
	if c.conn, err = l.AcceptUnix(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.conn.Close() })
	raw, err := c.conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) { c.fd = int(fd) })
	return c
}

// goOn lets the process run its statement.
func (c *connector) goOn(t *testing.T) {
	t.Helper()
	c.in("go")
	if line, err := c.out.ReadString('\n'); line != "done\n" {
		t.Fatalf("got %q, %v", line, err)
	}
}

func credential(uid, gid uint32, groups ...uint32) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid, Groups: groups}}
}

func TestSocketCaller_IsTheProcessThatConnected(t *testing.T) {
	needRoot(t)
	var many []uint32
	for i := range uint32(500) {
		many = append(many, 100000+i)
	}
	own, err := ownNet()
	if err != nil {
		t.Fatal(err)
	}
	for _, groups := range [][]uint32{nil, {5, 6000}, many} {
		c := connectAs(t, credential(1000, 1001, groups...), "", "")
		got, err := SocketCaller(c.fd)
		if err != nil || got.UID != 1000 || got.GID != 1001 || !slices.Equal(got.Groups, groups) || got.Caps != 0 ||
			got.PID != c.cmd.Process.Pid || got.TGID != got.PID || got.NetNS != own {
			t.Errorf("got %+v, %v, want process %d with groups %v", got, err, c.cmd.Process.Pid, groups)
		}
	}
	c := connectAs(t, nil, "", "")
	if got, err := SocketCaller(c.fd); err != nil || got.UID != 0 || !got.Has(unix.CAP_NET_BIND_SERVICE) {
		t.Errorf("root: got %+v, %v", got, err)
	}
}

func TestSocketCaller_OtherNetworkNamespaceIsSeen(t *testing.T) {
	needRoot(t)
	own, err := ownNet()
	if err != nil {
		t.Fatal(err)
	}
	c := connectAs(t, &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}, "", "")
	if got, err := SocketCaller(c.fd); err != nil || got.NetNS == own || got.NetNS == (Namespace{}) {
		t.Errorf("got %+v, %v", got, err)
	}
}

// A user can connect and then become a set-uid program: it does not lend him its rights.
func TestSocketCaller_WhatItBecameLaterGivesNoRights(t *testing.T) {
	needRoot(t)
	c := connectAs(t, nil, "os.setegid(1001); os.seteuid(1000)", "os.seteuid(0)")
	c.goOn(t)
	got, err := SocketCaller(c.fd)
	if err != nil || got.UID != 1000 || got.GID != 1001 || got.Caps != 0 {
		t.Errorf("got %+v, %v, want uid 1000 without capabilities", got, err)
	}
	c = connectAs(t, nil, "", "os.seteuid(1000)")
	c.goOn(t)
	if got, err = SocketCaller(c.fd); err != nil || got.UID != 0 || got.Caps != 0 {
		t.Errorf("got %+v, %v, want root without capabilities", got, err)
	}
}

func wantCaller(t *testing.T, err error, want unix.Errno) {
	t.Helper()
	if !errors.Is(err, want) || KindOf(err) != errnoKind(want) {
		t.Errorf("got %v, want %v", err, want)
	}
}

func TestSocketCaller_WhoHasEndedIsRefused(t *testing.T) {
	// A child of it keeps the socket open.
	c := connectAs(t, nil, "", "if os.fork() == 0:\n    sys.stdin.read()\n    os._exit(0)")
	c.goOn(t)
	if _, err := SocketCaller(c.fd); err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	c.cmd.Process.Wait()
	_, err := SocketCaller(c.fd)
	wantCaller(t, err, unix.ESRCH)
	// Before Linux 6.5 the same is found by the number.
	cred, err := unix.GetsockoptUcred(c.fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		t.Fatal(err)
	}
	_, err = socketCaller(c.fd, cred, -1)
	wantCaller(t, err, unix.ESRCH)
}

func TestSocketCaller_WithoutPidfdTheUserMustBeTheSame(t *testing.T) {
	needRoot(t)
	c := connectAs(t, nil, "os.setegid(1001); os.seteuid(1000)", "os.seteuid(0); os.setresuid(1000, 1000, 1000)")
	cred, err := unix.GetsockoptUcred(c.fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		t.Fatal(err)
	}
	_, err = socketCaller(c.fd, cred, -1)
	wantCaller(t, err, unix.EACCES)
	c.goOn(t)
	got, err := socketCaller(c.fd, cred, -1)
	if err != nil || got.UID != 1000 || got.PID != c.cmd.Process.Pid {
		t.Errorf("got %+v, %v", got, err)
	}
}

// The test runs itself in a pid namespace that does not hold the process at the other end.
func TestSocketCaller_ForeignPIDNamespaceIsRefused(t *testing.T) {
	needRoot(t)
	const env = "RENDEZVOUS_TEST_PIDNS"
	if os.Getenv(env) != "" {
		_, err := SocketCaller(3)
		wantCaller(t, err, unix.EACCES)
		return
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	end := os.NewFile(uintptr(fds[1]), "socket")
	defer end.Close()
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.count=1")
	cmd.Env = append(os.Environ(), env+"=1")
	cmd.ExtraFiles = []*os.File{end}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestSocketCaller_WhatIsNoSocketIsRefused(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	_, err = SocketCaller(int(r.Fd()))
	if !errors.Is(err, unix.ENOTSOCK) {
		t.Errorf("got %v", err)
	}
	l, to := listen(t, "127.0.0.1:0")
	defer l.Close()
	c := mustDial(t, DialOpts{Creds: self}, to)
	if got, err := SocketCaller(c.FD); err == nil {
		t.Errorf("a TCP socket has a peer: %+v", got)
	}
}
