package rendezvous

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestHost_LocalSocketProvesItsClients(t *testing.T) {
	needRoot(t)
	checkFDs(t)
	h := newHost(t)
	server := callerOf(t, 1000, 5000)
	server.Groups = []uint32{5000}
	a := mustAnnounce(t, h, server, "dev/fdp/local/convoke-test,create")
	path := filepath.Join(h.opts.SocketDir, "convoke-test,sock")
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil || st.Mode != unix.S_IFSOCK|0o666 || st.Uid != 1000 || st.Gid != 1000 {
		t.Errorf("got mode %o, uid %d, gid %d, %v", st.Mode, st.Uid, st.Gid, err)
	}
	// Through the Host, with a pid that the kernel does not tell.
	client := callerOf(t, 1001)
	conn := mustOpen(t, h, client, "dev/fdp/local/convoke-test")
	got := next(t, a)
	if want := (Peer{Host: "local", Node: "web1", PID: client.TGID, UID: 1001, GID: 1001}); got.Peer != want {
		t.Errorf("got %+v, want %+v", got.Peer, want)
	}
	if got.Remote.IsValid() || got.Local.IsValid() {
		t.Errorf("got addresses %v, %v", got.Local, got.Remote)
	}
	exchange(t, conn.FD, got.FD)
	cred, err := unix.GetsockoptUcred(conn.FD, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil || cred.Uid != 1000 {
		t.Errorf("the client sees %+v, %v", cred, err)
	}
	if cred, err = unix.GetsockoptUcred(got.FD, unix.SOL_SOCKET, unix.SO_PEERCRED); err != nil || cred.Uid != 1001 {
		t.Errorf("the server sees %+v, %v", cred, err)
	}
	// Kernel to kernel: this process is not known to come for anybody, so that only the kernel's word counts.
	direct := mustDialUnix(t, h.opts.SocketDir, "convoke-test,sock", Creds{UID: 1002, GID: 7})
	got = next(t, a)
	if want := (Peer{Host: "local", Node: "web1", UID: 1002, GID: 7}); got.Peer != want {
		t.Errorf("got %+v, want %+v", got.Peer, want)
	}
	exchange(t, direct, got.FD)
	if got := h.waiting.all; got != 0 {
		t.Errorf("%d wait", got)
	}
	a.Close()
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("after Close the socket is there: %v", err)
	}
	if len(a.local.claims) != 0 {
		t.Errorf("claims are left: %v", a.local.claims)
	}
	checkIdentity(t)
}

func TestHost_LocalSocketOfAUserIsHisAndRoots(t *testing.T) {
	needRoot(t)
	h := newHost(t)
	for _, tt := range []struct {
		path     string
		by       Caller
		file     string
		mode     uint32
		uid, gid uint32
		in, out  []Caller
	}{
		{"dev/fdp/local/u,user,create", callerOf(t, 1000), "u,user=1000,sock", 0o600, 1000, 1000,
			[]Caller{callerOf(t, 1000), me(t)}, []Caller{callerOf(t, 1001, 1000)}},
		{"dev/fdp/local/u,user=1001,create", me(t), "u,user=1001,sock", 0o600, 1001, 0,
			[]Caller{callerOf(t, 1001), me(t)}, []Caller{callerOf(t, 1000)}},
		{"dev/fdp/local/g,group=5000,create", callerOf(t, 1000, 5000), "g,group=5000,sock", 0o660, 1000, 5000,
			[]Caller{callerOf(t, 1000, 5000), callerOf(t, 1001, 5000), me(t)}, []Caller{callerOf(t, 1001)}},
		{"dev/fdp/local/b,user=1000,group=5000,create", callerOf(t, 1000, 5000), "b,user=1000,group=5000,sock", 0o600, 1000, 5000,
			[]Caller{callerOf(t, 1000, 5000), me(t)}, []Caller{callerOf(t, 1000), callerOf(t, 1001, 5000)}},
	} {
		a := mustAnnounce(t, h, tt.by, tt.path)
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(h.opts.SocketDir, tt.file), &st); err != nil || st.Mode&0o777 != tt.mode || st.Uid != tt.uid || st.Gid != tt.gid {
			t.Errorf("%s: got mode %o, uid %d, gid %d, %v", tt.path, st.Mode, st.Uid, st.Gid, err)
		}
		if mode, uid, gid := a.Mode(); mode != tt.mode || uid != tt.uid || gid != tt.gid {
			t.Errorf("%s: Mode is %o, %d, %d", tt.path, mode, uid, gid)
		}
		open := a.Path()
		for _, c := range tt.in {
			conn, err := h.Open(t.Context(), c, open)
			if err != nil {
				t.Errorf("%s for %d: %v", tt.path, c.UID, err)
				continue
			}
			if got := next(t, a); got.UID != c.UID || got.PID != c.TGID {
				t.Errorf("%s: got %+v", tt.path, got.Peer)
			}
			unix.Close(conn.FD)
		}
		for _, c := range tt.out {
			_, err := h.Open(t.Context(), c, open)
			wantHost(t, open.String(), err, unix.EACCES)
			// The same, past the Host.
			fd, err := DialUnix(t.Context(), h.opts.SocketDir, tt.file, c.Creds(), 0)
			if err == nil {
				// With both options the kernel checks one of them, and the Host the other.
				if got := readSome(t, fd); got != "" || a.Ready() {
					t.Errorf("%s: uid %d is connected: %q", tt.path, c.UID, got)
				}
				unix.Close(fd)
			} else {
				wantErrno(t, err, unix.EACCES)
			}
		}
	}
}

func TestHost_LocalSocketNamesAreOneForEach(t *testing.T) {
	h := newHost(t)
	c := me(t)
	a := mustAnnounce(t, h, c, "dev/fdp/local/s,create")
	for path, want := range map[string]unix.Errno{
		"dev/fdp/local/s,create":                        unix.EADDRINUSE,
		"dev/fdp/local/0,create":                        unix.EINVAL,
		"dev/fdp/local/" + strings.Repeat("x", 110):     unix.ENAMETOOLONG,
		"dev/fdp/local/x," + strings.Repeat("y", 250-9): unix.ENAMETOOLONG,
	} {
		_, err := h.Announce(t.Context(), c, parsed(t, path), AnnounceOpts{})
		wantHost(t, path, err, want)
	}
	a.Close()
	if _, err := h.Open(t.Context(), c, parsed(t, "dev/fdp/local/s")); KindOf(err) != NotExist {
		t.Errorf("after Close: got %v", err)
	}
	// A socket that somebody else has bound is not taken away.
	l := listenUnix(t, h.opts.SocketDir, "t,sock", unix.SOCK_STREAM, 5)
	_, err := h.Announce(t.Context(), c, parsed(t, "dev/fdp/local/t"), AnnounceOpts{})
	wantHost(t, "a name that is taken", err, unix.EADDRINUSE)
	mustDialUnix(t, h.opts.SocketDir, "t,sock", self)
	accept(t, l)
	mustAnnounce(t, h, c, "dev/fdp/local/s,create")
}

func TestHost_RawLocalSocketIsTheServersOwn(t *testing.T) {
	needRoot(t)
	h := newHost(t)
	a, err := h.Announce(t.Context(), callerOf(t, 1000), parsed(t, "dev/fdp/local/raw,user"), AnnounceOpts{Raw: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Listeners()) != 1 || len(a.Addrs()) != 0 {
		t.Fatalf("got listeners %v at %v", a.Listeners(), a.Addrs())
	}
	l := a.Listeners()[0]
	conn := mustOpen(t, h, callerOf(t, 1000), "dev/fdp/local/raw,user")
	peer := accept(t, l)
	cred, err := unix.GetsockoptUcred(peer, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil || cred.Uid != 1000 {
		t.Errorf("got %+v, %v", cred, err)
	}
	exchange(t, conn.FD, peer)
	_, err = h.Announce(t.Context(), callerOf(t, 1000, 7), parsed(t, "dev/fdp/local/raw,user,group=7"), AnnounceOpts{Raw: true})
	wantHost(t, "user and group", err, unix.EOPNOTSUPP)
	a.Close()
	_, err = h.Open(t.Context(), callerOf(t, 1000), parsed(t, "dev/fdp/local/raw,user"))
	wantHost(t, "after Close", err, unix.ENOENT)
}

// A signal, such as that of a job that has ended, comes while the socket is made. The caller would try again, and must
// not meet his own name.
func TestHost_LocalSocketIsMadeInSpiteOfASignal(t *testing.T) {
	needRoot(t)
	h := newHost(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for i := range 20 {
		p, err := Parse("dev/fdp/local/convoke-test,create")
		if err != nil {
			t.Fatal(err)
		}
		a, err := h.Announce(ctx, callerOf(t, 1000), p, AnnounceOpts{})
		if err != nil {
			t.Fatalf("announcement %d, interrupted at once: %v", i, err)
		}
		if _, err := os.Lstat(filepath.Join(h.opts.SocketDir, "convoke-test,sock")); err != nil {
			t.Errorf("the socket: %v", err)
		}
		a.Close()
	}
}

// Whoever connects to the socket past the Host, from another network namespace, is where his open would fail as well.
func TestHost_LocalSocketIsForThisNetworkNamespace(t *testing.T) {
	const python = "/usr/bin/python3"
	if _, err := os.Stat(python); err != nil {
		skip(t, "needs python3")
	}
	needRoot(t)
	checkFDs(t)
	const script = `import socket, sys
s = socket.socket(socket.AF_UNIX)
s.settimeout(10)
s.connect(sys.argv[1])
try:
    s.send(b"hello")
    if sys.argv[2] == "stay":
        print(s.recv(9).decode(), flush=True)
except (BrokenPipeError, ConnectionResetError):
    print("", flush=True)`
	connect := func(h *Host, flags uintptr, stay string) *exec.Cmd {
		cmd := exec.Command(python, "-c", script, filepath.Join(h.opts.SocketDir, "convoke-test,sock"), stay)
		cmd.Dir, cmd.Stderr = "/", os.Stderr
		cmd.SysProcAttr = credential(1001, 1001)
		cmd.SysProcAttr.Cloneflags = flags
		return cmd
	}
	for _, foreign := range []bool{false, true} {
		var log bytes.Buffer
		h := newHost(t, func(o *HostOpts) {
			o.ForeignNet = foreign
			o.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		})
		a := mustAnnounce(t, h, callerOf(t, 1000), "dev/fdp/local/convoke-test,create")
		for _, stay := range []string{"stay", "go"} {
			var out bytes.Buffer
			cmd := connect(h, unix.CLONE_NEWNET, stay)
			cmd.Stdout = &out
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if foreign {
				c := next(t, a)
				if c.UID != 1001 || readSome(t, c.FD) != "hello" {
					t.Errorf("foreign namespaces are allowed: got %+v", c.Peer)
				}
				unix.Write(c.FD, []byte("served"))
			}
			if err := cmd.Wait(); err != nil {
				t.Fatal(err)
			}
			if want := map[bool]string{true: "served\n", false: "\n"}[foreign]; stay == "stay" && out.String() != want {
				t.Errorf("foreign %v: the client got %q, want %q", foreign, out.String(), want)
			}
		}
		// One of this namespace that has ended is heard.
		if err := connect(h, 0, "go").Run(); err != nil {
			t.Fatal(err)
		}
		if c := next(t, a); c.UID != 1001 || readSome(t, c.FD) != "hello" {
			t.Errorf("got %+v", c.Peer)
		}
		if a.Ready() {
			t.Errorf("foreign %v: one client too many", foreign)
		}
		a.Close()
		if told := strings.Count(log.String(), "another network namespace"); told != map[bool]int{true: 0, false: 2}[foreign] {
			t.Errorf("foreign %v: it was told %d times:\n%s", foreign, told, log.String())
		}
	}
}
