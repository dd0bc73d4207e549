package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/ipc"
)

func TestMounted_PathsOfDescriptorsLeadThereOnceMore(t *testing.T) {
	mount, _ := daemon(t)
	ctx, cancel := context.WithTimeout(t.Context(), testTime)
	defer cancel()
	d, err := (&ipc.Tree{Dir: mount}).Dial(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	want := func(what string, fd int, path string) {
		t.Helper()
		if got, err := ipc.PathOf(fd); err != nil || got != path {
			t.Errorf("%s: got %q, %v, want %q", what, got, err, path)
		}
	}
	for _, path := range []string{"dev/tcp/local/here", "dev/fdp/local/here,nightly"} {
		l, err := d.Announce(ctx, path)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		again := "/" + path
		if addrs := l.Addrs(); len(addrs) > 0 {
			again = fmt.Sprintf("/dev/tcp/127.0.0.1/%d", addrs[0].Port())
		}
		for _, open := range []string{path, again} {
			fd, err := d.OpenFD(ctx, open)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			want("socket of "+open, fd, again)
		}
		file, err := unix.Open(filepath.Join(mount, again), unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(file)
		want("file of "+again, file, again)
	}
	for _, path := range []string{"/cluster/name", "/conn", "/"} {
		f, err := os.Open(mount + path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		want(path, int(f.Fd()), path)
	}
	// A server that has bound its socket itself.
	bound, err := net.Listen("unix", filepath.Join(mount, "dev/fdp/local/bound"))
	if err != nil {
		t.Fatal(err)
	}
	defer bound.Close()
	conn, err := net.Dial("unix", filepath.Join(mount, "dev/fdp/local/bound"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fd, err := dupConn(conn.(*net.UnixConn))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	want("a bound socket", fd, "/dev/fdp/local/bound")
}
