package launch

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/test/daemon"
)

// proxyd is a socket-activated daemon that knows nothing of convoke.
const proxyd = "/usr/lib/systemd/systemd-socket-proxyd"

func TestLaunch_SocketActivatedDaemon(t *testing.T) {
	daemon.Need(t, proxyd)
	n, lib := start(t)
	behind := daemon.Serve(t)
	path := lib.script(t, "tcp/cvproxy", "server", fmt.Sprintf("exec %s 127.0.0.1:%d", proxyd, behind.Port))
	chown(t, path, 65533)
	const clients = 200
	files := make([]*daemon.File, clients)
	var wg sync.WaitGroup
	for i := range files {
		wg.Go(func() {
			fd, err := n.Open("dev/tcp/local/cvproxy", unix.O_RDWR)
			if err != nil {
				t.Errorf("open: %v", err)
				return
			}
			files[i] = &daemon.File{Name: "dev/tcp/local/cvproxy", FD: fd}
		})
	}
	wg.Wait()
	for _, f := range files {
		if f == nil {
			t.FailNow()
		}
		defer f.Close()
	}
	if got := n.Metric("convoke_server_starts_total"); got != 1 {
		t.Errorf("started %d times for %d cold opens", got, clients)
	}
	for range clients {
		c := behind.Accept()
		if _, err := c.Write([]byte("hello\n")); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range files {
		b := make([]byte, 6)
		if got, err := unix.Read(f.FD, b); string(b[:max(got, 0)]) != "hello\n" {
			t.Fatalf("got %q, %v", b, err)
		}
	}
}

func TestLaunch_InetdStyleFromTheShell(t *testing.T) {
	n, lib := start(t)
	path := lib.script(t, "tcp/cvecho", "server.inetd", `echo "$CONVOKE_PEER_UID $CONVOKE_PEER_NODE $(id -u) $(umask) $(pwd)"; exec cat`)
	chown(t, path, 1001)
	script := `exec 3<>dev/tcp/local/cvecho; read -r line <&3; echo "$line"; echo hello >&3; read -r line <&3; echo "$line"`
	want := fmt.Sprintf("1000 %s 1001 0022 /\nhello\n", n.Name)
	for range 2 {
		if r := n.ShAs(daemon.U1000, script); r.Out != want {
			t.Errorf("got %+v, want %q", r, want)
		}
	}
	if r := n.ShAs(daemon.U1000, "exec 3<>dev/tcp/local/cvecho,user=1001"); r.Code == 0 {
		t.Errorf("the instance of another user: got %+v", r)
	}
}

func TestLaunch_LocalServiceIsTheServers(t *testing.T) {
	daemon.Need(t, "python3")
	n, lib := start(t)
	path := lib.script(t, "fdp/cvlocal", "server", `exec python3 -c 'import os, socket
s = socket.socket(fileno=3)
while True:
    c, _ = s.accept()
    c.sendall(("%s\n%d\n" % (os.environ["CONVOKE_PATH"], os.getuid())).encode())'`)
	chown(t, path, 1000)
	fd, err := n.Open("dev/fdp/local/cvlocal", unix.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	f := &daemon.File{Name: "cvlocal", FD: fd}
	defer f.Close()
	b := make([]byte, 64)
	got := ""
	daemon.Within(t, daemon.Bound, "read", func() {
		for strings.Count(got, "\n") < 2 {
			n, err := unix.Read(fd, b)
			if n <= 0 {
				t.Errorf("got %d, %v", n, err)
				return
			}
			got += string(b[:n])
		}
	})
	if want := "dev/fdp/local/cvlocal\n1000\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	// Who connects to the socket itself sees the server, not the daemon.
	s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(s)
	daemon.Within(t, daemon.Bound, "connect", func() {
		err = unix.Connect(s, &unix.SockaddrUnix{Name: n.Path("dev/fdp/local/cvlocal,sock")})
	})
	if err != nil {
		t.Fatal(err)
	}
	cred, err := unix.GetsockoptUcred(s, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil || cred.Uid != 1000 {
		t.Errorf("peer: got %+v, %v, want uid 1000", cred, err)
	}
}

func TestLaunch_RefusalsHaveTheirReason(t *testing.T) {
	n, lib := start(t)
	for _, c := range []struct {
		name string
		text string
		mode os.FileMode
		want string
	}{
		{"cvwritable", "exit", 0o777, "writable by others"},
		{"cvplain", "exit", 0o644, "not executable"},
		{"cvsetid", "exit", 0o755 | os.ModeSetuid, "set-id"},
		{"cvexits", "echo sorry >&2; exit 7", 0o755, "exit status 7"},
	} {
		path := lib.script(t, "tcp/"+c.name, "server", c.text)
		if err := os.Chmod(path, c.mode); err != nil {
			t.Fatal(err)
		}
		if fd, err := n.Open("dev/tcp/local/"+c.name, unix.O_RDWR); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("%s: got %d, %v, want ECONNREFUSED", c.name, fd, err)
		}
		daemon.Eventually(t, daemon.Bound, "the reason "+c.want, func() bool { return strings.Contains(n.Log(), c.want) })
	}
	daemon.Eventually(t, daemon.Bound, "what the server says", func() bool { return strings.Contains(n.Log(), "text=sorry") })
	// The empty file is as none.
	path := lib.script(t, "fdp/cvempty", "server", "")
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	if fd, err := n.Open("dev/fdp/local/cvempty", unix.O_RDWR); !errors.Is(err, unix.ENOENT) {
		t.Errorf("empty file: got %d, %v, want ENOENT", fd, err)
	}
}

// Servers end with their daemon, whether it stops or is killed.
func TestLaunch_ServersEndWithTheDaemon(t *testing.T) {
	for _, end := range []struct {
		name string
		do   func(n *daemon.Node)
	}{{"stop", (*daemon.Node).Stop}, {"kill", (*daemon.Node).Kill}} {
		t.Run(end.name, func(t *testing.T) {
			n, lib := start(t)
			daemon.Need(t, "python3")
			pidFile := filepath.Join(n.Dir, "pid")
			lib.script(t, "tcp/cvserver", "server", "echo $$ >"+pidFile+"; exec python3 -c 'import socket; s=socket.socket(fileno=3); k=[]\nwhile True: k.append(s.accept())'")
			fd, err := n.Open("dev/tcp/local/cvserver", unix.O_RDWR)
			if err != nil {
				t.Fatal(err)
			}
			unix.Close(fd)
			text, err := os.ReadFile(pidFile)
			if err != nil {
				t.Fatal(err)
			}
			pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
			if err != nil {
				t.Fatal(err)
			}
			end.do(n)
			daemon.Eventually(t, daemon.Bound, "the end of the server", func() bool { return syscall.Kill(pid, 0) == syscall.ESRCH })
		})
	}
}
