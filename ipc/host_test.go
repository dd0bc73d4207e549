package ipc

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/rendezvous"
)

// startReal serves a real Host on loopback, whose sockets of fdp lie in a plain folder.
func startReal(t *testing.T) *daemon {
	t.Helper()
	tree := newTree(t)
	dir := tree.path("dev/fdp/local")
	if err := errors.Join(os.MkdirAll(dir, 0o777), os.Chmod(dir, 0o777)); err != nil {
		t.Fatal(err)
	}
	h := rendezvous.NewHost(rendezvous.HostOpts{
		Resolver: &rendezvous.Resolver{}, Log: slog.New(slog.DiscardHandler), Self: "web1",
		SocketDir: dir, Unlink: func(name string) { os.Remove(filepath.Join(dir, name)) },
	})
	t.Cleanup(h.Close)
	return startDaemonAt(t, tree, realHost{h}, ServerOpts{})
}

// self is what a Peer says of this process.
func self(host string) rendezvous.Peer {
	return rendezvous.Peer{Host: host, Node: "web1", PID: os.Getpid(), UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}
}

func TestHost_ClientsOfATCPServiceAreProved(t *testing.T) {
	checkFDs(t)
	d := startReal(t)
	l := announce(t, d.client(t), "dev/tcp/local/0")
	p, err := rendezvous.Parse(l.Path())
	if err != nil || p.Service == "0" || len(l.Addrs()) == 0 || strconv.Itoa(int(l.Addrs()[0].Port())) != p.Service {
		t.Fatalf("got %s at %v, %v", l.Path(), l.Addrs(), err)
	}
	fd, err := d.client(t).OpenFD(soon(t), l.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	server, peer, err := l.AcceptFD(soon(t))
	if err != nil || peer != self("127.0.0.1") {
		t.Fatalf("got %+v, %v, want %+v", peer, err, self("127.0.0.1"))
	}
	defer unix.Close(server)
	wantTalk(t, fd, server)
	wantTalk(t, server, fd)
	// Half-close, both ways.
	unix.Shutdown(fd, unix.SHUT_WR)
	if n, err := unix.Read(server, make([]byte, 1)); n != 0 || err != nil {
		t.Errorf("got %d, %v, want the end", n, err)
	}
	wantTalk(t, server, fd)
	// Somebody who did not come through the daemon has no pid, and is never root.
	out, err := net.Dial("tcp", l.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	server2, peer, err := l.AcceptFD(soon(t))
	if err != nil || peer.PID != 0 || peer.UID == 0 || peer.GID != rendezvous.NoID {
		t.Errorf("an outsider: got %+v, %v", peer, err)
	}
	unix.Close(server2)
}

func TestHost_ThePortIsFreeAfterClose(t *testing.T) {
	checkFDs(t)
	d := startReal(t)
	c := d.client(t)
	l := announce(t, c, "dev/tcp/local/0")
	_, err := c.Announce(soon(t), l.Path())
	wantErrno(t, err, unix.EADDRINUSE)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = c.OpenFD(soon(t), l.Path())
	wantErrno(t, err, unix.ECONNREFUSED)
	announce(t, c, l.Path()).Close()
	_, err = c.Announce(soon(t), "dev/tcp/web2/echo")
	wantErrno(t, err, unix.EROFS)
}

func TestHost_FdpIsKernelToKernel(t *testing.T) {
	checkFDs(t)
	d := startReal(t)
	c := d.client(t)
	l := announce(t, c, "dev/fdp/local/db,night")
	if len(l.Addrs()) != 0 || l.Addr().String() != "dev/fdp/local/db,night" {
		t.Errorf("got %v, %v", l.Addrs(), l.Addr())
	}
	fd, err := c.OpenFD(soon(t), "dev/fdp/local/db,night")
	if err != nil {
		t.Fatal(err)
	}
	server, peer, err := l.AcceptFD(soon(t))
	want := self("local")
	want.PID = 0 // here client and daemon are one process, and what the daemon connects for others has no pid of theirs
	if err != nil || peer != want {
		t.Fatalf("got %+v, %v, want %+v", peer, err, want)
	}
	if opens := d.Stats().Opens; opens != 0 {
		t.Errorf("the daemon made %d connections", opens)
	}
	// Established streams do without the daemon.
	d.Server.Close()
	wantTalk(t, fd, server)
	wantTalk(t, server, fd)
	unix.Close(fd)
	unix.Close(server)
}

func TestHost_UDPServiceAnswers(t *testing.T) {
	checkFDs(t)
	c := startReal(t).client(t)
	u, err := c.AnnounceUDP(soon(t), "dev/udp/local/0")
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	conn, err := c.Open(soon(t), u.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 16)
	for i, addr := range u.Addrs() {
		if addr.String() != conn.RemoteAddr().String() {
			continue
		}
		n, from, err := u.Conns()[i].ReadFromUDPAddrPort(buf)
		if err != nil || string(buf[:n]) != "hello" || from.String() != conn.LocalAddr().String() {
			t.Errorf("got %q from %v, %v", buf[:n], from, err)
		}
		return
	}
	t.Errorf("connected to %v, which is none of %v", conn.RemoteAddr(), u.Addrs())
}

func TestHost_ManyClientsAtOnce(t *testing.T) {
	checkFDs(t)
	d := startReal(t)
	l := announce(t, d.client(t), "dev/tcp/local/0")
	const clients = 200
	var all sync.WaitGroup
	c := d.client(t)
	accepted := make(chan struct{})
	for range clients {
		all.Go(func() {
			fd, err := c.OpenFD(soon(t), l.Path())
			if err != nil {
				t.Error(err)
				return
			}
			<-accepted // who closes before that may be left out
			unix.Close(fd)
		})
	}
	for range clients {
		fd, p, err := l.AcceptFD(soon(t))
		if err != nil {
			t.Fatal(err)
		}
		if p != self("127.0.0.1") {
			t.Errorf("got %+v", p)
		}
		unix.Close(fd)
	}
	close(accepted)
	all.Wait()
}

// As other users: who may announce and open what, and who they are to the server.
func TestHost_IdentityIsProvedForOtherUsers(t *testing.T) {
	if inChild(t) {
		c, err := (&Tree{Dir: os.Getenv("IPC_TEST_TREE")}).Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var said []string
		for _, path := range strings.Fields(os.Getenv("IPC_TEST_PATHS")) {
			fd, err := c.OpenFD(t.Context(), path)
			var errno unix.Errno
			if err == nil {
				unix.Write(fd, fmt.Appendf(nil, "%d", os.Getpid()))
			} else if !errors.As(err, &errno) {
				t.Error(err)
			}
			said = append(said, unix.ErrnoName(errno))
		}
		for _, path := range strings.Fields(os.Getenv("IPC_TEST_ANNOUNCE")) {
			_, err := c.Announce(t.Context(), path)
			var errno unix.Errno
			if err != nil && !errors.As(err, &errno) {
				t.Error(err)
			}
			said = append(said, unix.ErrnoName(errno))
		}
		fmt.Printf("said %s\n", strings.Join(said, ","))
		return
	}
	needRoot(t)
	d := startReal(t)
	c := d.client(t)
	all := announce(t, c, "dev/tcp/local/open")
	eves := announce(t, c, "dev/tcp/local/mail,user=1000")
	group := announce(t, c, "dev/fdp/local/mail,group=5000")
	for _, tc := range []struct {
		who             syscall.Credential
		paths, announce string
		want            string
		accepted        []*Listener
	}{
		{syscall.Credential{Uid: 1000, Gid: 1001, Groups: []uint32{5000}},
			"dev/tcp/local/open dev/tcp/local/mail,user dev/fdp/local/mail,group=5000 dev/tcp/local/mail,user=1001",
			"dev/tcp/local/80 dev/tcp/local/open dev/tcp/local/x,user=1001 dev/tcp/local/x,user",
			",,,EACCES,EACCES,EACCES,EACCES,", []*Listener{all, eves, group}},
		{syscall.Credential{Uid: 1001, Gid: 1001},
			"dev/tcp/local/open dev/tcp/local/mail,user=1000 dev/fdp/local/mail,group=5000 dev/tcp/local/mail,user",
			"", ",EACCES,EACCES,ENOENT", []*Listener{all}},
	} {
		cmd := child(t, d.Tree, &tc.who)
		cmd.Env = append(cmd.Env, "IPC_TEST_PATHS="+tc.paths, "IPC_TEST_ANNOUNCE="+tc.announce)
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "said "+tc.want+"\n") {
			t.Errorf("uid %d: got %v\n%s\nwant %s", tc.who.Uid, err, out, tc.want)
			continue
		}
		for _, l := range tc.accepted {
			fd, p, err := l.AcceptFD(soon(t))
			if err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 32)
			n, _ := unix.Read(fd, buf)
			unix.Close(fd)
			if p.UID != tc.who.Uid || p.GID != tc.who.Gid || p.PID != cmd.Process.Pid || string(buf[:max(n, 0)]) != strconv.Itoa(p.PID) {
				t.Errorf("%s: got %+v, who says to be %s; want uid %d, pid %d", l.Path(), p, buf[:max(n, 0)], tc.who.Uid, cmd.Process.Pid)
			}
		}
	}
}

// In another network namespace the daemon's network is not the caller's (S5).
func TestHost_OtherNetworkNamespacesAreRefused(t *testing.T) {
	if inChild(t) {
		c, err := (&Tree{Dir: os.Getenv("IPC_TEST_TREE")}).Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.OpenFD(t.Context(), "dev/tcp/127.0.0.1/9")
		wantErrno(t, err, unix.EACCES)
		_, err = c.Announce(t.Context(), "dev/tcp/local/0")
		wantErrno(t, err, unix.EACCES)
		return
	}
	needRoot(t)
	cmd := child(t, startReal(t).Tree, nil)
	cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWNET
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
