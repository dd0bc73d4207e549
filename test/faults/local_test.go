package faults

import (
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/test/daemon"
)

// bind serves a local socket: it tells who connects, and the number of descriptors that come with the first message.
const bind = `
import os, socket, struct, sys
s = socket.socket(socket.AF_UNIX)
try: s.bind(sys.argv[1])
except OSError as e:
    print("errno", e.errno, flush=True); sys.exit(1)
if len(sys.argv) > 2: os.chmod(sys.argv[1], int(sys.argv[2], 8))
s.listen(100)
print("bound", flush=True)
while True:
    c, _ = s.accept()
    pid, uid, gid = struct.unpack("3i", c.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    data, fds, _, _ = socket.recv_fds(c, 100, 5)
    for fd in fds: os.write(fd, b"through the descriptor")
    print("peer", uid, gid, len(fds), data.decode(), flush=True)
    c.sendall(b"answer")
    c.close()`

// connect is a client of such a server, kernel to kernel, that passes a descriptor of a pipe.
const connect = `
import os, socket, struct, sys
s = socket.socket(socket.AF_UNIX)
try: s.connect(sys.argv[1])
except OSError as e:
    print("errno", e.errno); sys.exit(0)
r, w = os.pipe()
socket.send_fds(s, [b"hi"], [w])
os.close(w)
pid, uid, gid = struct.unpack("3i", s.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
print(uid, gid, s.recv(100).decode(), os.read(r, 100).decode())`

func TestLocal_KernelToKernelWithoutTheDaemon(t *testing.T) {
	n := start(t)
	sock := n.Path("dev/fdp/local/svc")
	srv := n.Spawn(daemon.U1000, "/usr/bin/python3", "-c", bind, sock, "666")
	srv.Expect("bound")
	const want = "1000 1000 answer through the descriptor\n"
	client := n.Run(daemon.U1001, "/usr/bin/python3", "-c", connect, sock)
	if client.Out != want {
		t.Errorf("client: got %+v", client)
	}
	if got := srv.Line(); got != "peer 1001 1001 1 hi" {
		t.Errorf("server: got %q", got)
	}
	// What is connected goes on while the daemon is stopped. A new connect(2) walks the path, for which it must answer.
	c := n.Spawn(daemon.U1001, "/usr/bin/python3", "-c", `
import socket, sys
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); print("connected", flush=True)
sys.stdin.readline(); s.sendall(b"late"); print(s.recv(100).decode(), flush=True)`, sock)
	c.Expect("connected")
	n.Signal(syscall.SIGSTOP)
	c.Say("go")
	c.Expect("answer")
	n.Signal(syscall.SIGCONT)
	if got := srv.Line(); got != "peer 1001 1001 0 late" {
		t.Errorf("server: got %q", got)
	}
}

func TestLocal_StreamFileGivesTheOpenersIdentity(t *testing.T) {
	n := start(t)
	srv := n.Spawn(daemon.U1000, "/usr/bin/python3", "-c", bind, n.Path("dev/fdp/local/svc"), "666")
	srv.Expect("bound")
	for _, u := range []daemon.User{daemon.U1000, daemon.U1001, daemon.Root} {
		if r := n.ShAs(u, `exec 3<>dev/fdp/local/svc,stream && printf hi >&3 && cat <&3`); r.Out != "answer" {
			t.Errorf("uid %d: got %+v", u.UID, r)
		}
		want := map[uint32]string{0: "peer 0 0 0 hi", 1000: "peer 1000 1000 0 hi", 1001: "peer 1001 1001 0 hi"}[u.UID]
		if got := srv.Line(); got != want {
			t.Errorf("server: got %q, want %q", got, want)
		}
	}
	if _, err := n.Open("dev/fdp/local/svc", unix.O_RDWR); !errors.Is(err, unix.ENXIO) {
		t.Errorf("open of a socket: got %v, want ENXIO", err)
	}
	srv.Signal(syscall.SIGKILL)
	srv.Ends(daemon.Bound)
	if _, err := n.Open("dev/fdp/local/svc,stream", unix.O_RDWR); !errors.Is(err, unix.ENOENT) {
		t.Errorf("open behind a dead server: got %v, want ENOENT, since the name has gone with it", err)
	}
}

func TestLocal_ModesHoldForOthers(t *testing.T) {
	n := start(t)
	sock := n.Path("dev/fdp/local/private")
	srv := n.Spawn(daemon.U1000, "/usr/bin/python3", "-c", bind, sock, "600")
	srv.Expect("bound")
	n.Sh("stat dev/fdp/local/private; ls -l dev/fdp/local") // root has warmed the kernel's caches
	if r := n.Run(daemon.U1001, "/usr/bin/python3", "-c", connect, sock); r.Out != "errno 13\n" {
		t.Errorf("uid 1001 connects to 0600: got %+v, want EACCES", r)
	}
	n.WantErr(daemon.U1001, ": <>dev/fdp/local/private,stream", "ermission denied")
	n.WantErr(daemon.U1001, ": <>dev/fdp/local/private,sock", "ermission denied")
	n.WantErr(daemon.U1001, "rm -f dev/fdp/local/private", "not permitted")
	n.WantErr(daemon.U1001, "chmod 666 dev/fdp/local/private", "not permitted")
	n.WantErr(daemon.U1001, "mv dev/fdp/local/private dev/fdp/local/mine", "not permitted")
	n.WantErr(daemon.U1000, "chown 1001 dev/fdp/local/private", "not permitted")
	// A change holds at once.
	n.ShAs(daemon.U1000, "chmod 666 dev/fdp/local/private")
	if r := n.Run(daemon.U1001, "/usr/bin/python3", "-c", connect, sock); !strings.HasPrefix(r.Out, "1000 1000 answer") {
		t.Errorf("uid 1001 connects to 0666: got %+v", r)
	}
	n.ShAs(daemon.U1000, "chmod 600 dev/fdp/local/private")
	if r := n.Run(daemon.U1001, "/usr/bin/python3", "-c", connect, sock); r.Out != "errno 13\n" {
		t.Errorf("uid 1001 connects after chmod 600: got %+v, want EACCES", r)
	}
	if r := n.Run(daemon.U1001, "/usr/bin/python3", "-c", bind, sock); r.Out != "errno 98\n" {
		t.Errorf("bind of a name that is taken: got %+v, want EADDRINUSE", r)
	}
	if r := n.ShAs(daemon.U1000, "rm dev/fdp/local/private; ls dev/fdp/local"); r.Code != 0 || r.Out != "convoke\n" {
		t.Errorf("rm by the owner: got %+v", r)
	}
	for _, bad := range []string{".x", "a b", "a,stream"} {
		if r := n.Run(daemon.U1000, "/usr/bin/python3", "-c", bind, "dev/fdp/local/"+bad); r.Out != "errno 22\n" && !(bad == "a,stream" && r.Out == "errno 98\n") {
			t.Errorf("bind of %q: got %+v, want EINVAL", bad, r)
		}
	}
	n.WantErr(daemon.U1000, "mkdir dev/fdp/local/d", "not permitted")
	n.WantErr(daemon.U1000, "mkfifo dev/fdp/local/f", "not permitted")
	n.WantErr(daemon.U1000, "touch dev/fdp/local/t", "not permitted")
}

func TestLocal_FullBacklogHoldsItsOpenerOnly(t *testing.T) {
	n := start(t)
	srv := n.Spawn(daemon.U1000, "/usr/bin/python3", "-c", `
import socket, sys
s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(0); print("bound", flush=True); sys.stdin.readline()`, n.Path("dev/fdp/local/slow"))
	srv.Expect("bound")
	n.MustOpen("dev/fdp/local/slow,stream", unix.O_RDWR)
	c := n.Spawn(daemon.U1000, "cat", "dev/fdp/local/slow,stream")
	waitMetric(t, n, "convoke_dials", 1)
	n.Want("cat cluster/name", "convoke\n")
	began := time.Now()
	c.Signal(syscall.SIGINT)
	c.Ends(daemon.Bound)
	if took := time.Since(began); took > quick {
		t.Errorf("the opener has ended %v after SIGINT, want at once", took)
	}
	waitMetric(t, n, "convoke_dials", 0)
}
