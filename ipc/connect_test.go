package ipc

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestOpenFD_FdpIsConnectedByTheClientItself(t *testing.T) {
	h := newFakeHost()
	d := startDaemon(t, h, ServerOpts{})
	c := d.client(t)
	self := strconv.Itoa(os.Geteuid())
	for _, tc := range []struct{ path, name string }{
		{"dev/fdp/local/db", "db"},
		{"dev/fdp/local/db", "db"},
		{"dev/fdp/local/db", "db,sock"}, // announced now
		{"dev/fdp/local/db", "db,sock"},
		{"dev/fdp/local/db", "db"}, // bound again
		{"dev/fdp/local/db2,sock", "db2,sock"},
		{"dev/fdp/local/db3,stream,test", "db3,sock"},
		{"dev/fdp/local/db,user", "db,user=" + self + ",sock"},
		{"dev/fdp/local/db,group=7,x,slave", "db,group=7,x,sock"},
	} {
		l := listenUnix(t, d.path("dev/fdp/local"), tc.name, unix.SOCK_STREAM, 4)
		fd, err := c.OpenFD(soon(t), tc.path)
		if err != nil {
			t.Errorf("%s: %v", tc.path, err)
			continue
		}
		peer, _, err := unix.Accept4(l, unix.SOCK_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		cred, err := unix.GetsockoptUcred(peer, unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil || int(cred.Pid) != os.Getpid() {
			t.Errorf("%s: got %+v, %v, want the own pid", tc.path, cred, err)
		}
		wantTalk(t, fd, peer)
		unix.Close(fd)
		unix.Close(peer)
		unix.Close(l)
		os.Remove(filepath.Join(d.path("dev/fdp/local"), tc.name))
	}
	if n := h.requests(); n != 0 {
		t.Errorf("the daemon was asked %d times", n)
	}
}

func TestOpenFD_FdpWithoutASocketIsTheDaemons(t *testing.T) {
	h := newFakeHost()
	d := startDaemon(t, h, ServerOpts{})
	c := d.client(t)
	unix.Close(listenUnix(t, d.path("dev/fdp/local"), "echo,sock", unix.SOCK_STREAM, 1)) // its server has gone
	for _, path := range []string{"dev/fdp/local/echo", "dev/fdp/local/echo,x", "dev/fdp/local/echo,user=nobody"} {
		fd, err := c.OpenFD(soon(t), path)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		other := <-h.opened
		wantTalk(t, fd, other)
		unix.Close(fd)
		unix.Close(other)
	}
	// What connect(2) says of a socket that is there is final.
	fd := listenUnix(t, d.path("dev/fdp/local"), "echo2,sock", unix.SOCK_SEQPACKET, 1)
	defer unix.Close(fd)
	_, err := c.OpenFD(soon(t), "dev/fdp/local/echo2")
	wantErrno(t, err, unix.EPROTOTYPE)
}

func TestConnectUnix_PathMayBeLongerThanAnAddress(t *testing.T) {
	checkFDs(t)
	dir := filepath.Join(newTree(t).Dir, strings.Repeat("d", 200))
	name := strings.Repeat("n", 200)
	l := listenUnix(t, dir, name, unix.SOCK_STREAM, 1)
	defer unix.Close(l)
	fd, err := connectUnix(soon(t), dir, name, unix.SOCK_STREAM, deadline)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
}

func TestConnectUnix_AFullBacklogIsWaitedFor(t *testing.T) {
	checkFDs(t)
	dir := newTree(t).Dir
	l := listenUnix(t, dir, "s", unix.SOCK_STREAM, 0) // room for one
	defer unix.Close(l)
	first, err := connectUnix(soon(t), dir, "s", unix.SOCK_STREAM, deadline)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(first)
	if _, err := connectUnix(soon(t), dir, "s", unix.SOCK_STREAM, 10*time.Millisecond); err != unix.ETIMEDOUT {
		t.Errorf("its time is over: got %v, want %v", err, unix.ETIMEDOUT)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := connectUnix(ctx, dir, "s", unix.SOCK_STREAM, deadline); !errors.Is(err, errContext) {
		t.Errorf("ctx has ended: got %v", err)
	}
	result := make(chan connected, 1)
	go func() {
		fd, err := connectUnix(soon(t), dir, "s", unix.SOCK_STREAM, deadline)
		result <- connected{fd, err}
	}()
	peer, _, err := unix.Accept4(l, unix.SOCK_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(peer)
	r := wait(t, result, "room in the backlog")
	if r.err != nil {
		t.Fatal(r.err)
	}
	unix.Close(r.fd)
}
