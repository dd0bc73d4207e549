package ipc

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// rawFD returns the descriptor of a connection or listener; it stays its own.
func rawFD(t *testing.T, c any) int {
	t.Helper()
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	fd := -1
	if err := raw.Control(func(n uintptr) { fd = int(n) }); err != nil {
		t.Fatal(err)
	}
	return fd
}

func wantPath(t *testing.T, what string, c any, want string) {
	t.Helper()
	if got, err := PathOf(rawFD(t, c)); err != nil || got != want {
		t.Errorf("%s: got %q, %v, want %q", what, got, err, want)
	}
}

func TestPathOf_SocketsOfIP(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		port := l.Addr().(*net.TCPAddr).Port
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		accepted, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer accepted.Close()
		server := fmt.Sprintf("/dev/tcp/%s/%d", host, port)
		wantPath(t, "listening", l, server)
		wantPath(t, "connected", c, server)
		wantPath(t, "accepted", accepted, fmt.Sprintf("/dev/tcp/%s/%d", host, c.LocalAddr().(*net.TCPAddr).Port))
	}
	// Everywhere, and of both families.
	all, err := net.ListenPacket("udp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer all.Close()
	wantPath(t, "bound to all", all, fmt.Sprintf("/dev/udp/local/%d", all.LocalAddr().(*net.UDPAddr).Port))
}

func TestPathOf_LocalSocketsHaveTheServersName(t *testing.T) {
	dir := t.TempDir()
	folder, err := unix.Open(dir, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(folder)
	announced := fmt.Sprintf("/proc/self/fd/%d/echo,user=1000,sock", folder)
	for bind, want := range map[string]string{
		filepath.Join(dir, "greet"): filepath.Join(dir, "greet"),
		announced:                   "/dev/fdp/local/echo,user=1000",
	} {
		l, err := net.Listen("unix", bind)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		c, err := net.Dial("unix", bind)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		accepted, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer accepted.Close()
		wantPath(t, "listening", l, want)
		wantPath(t, "connected", c, want)
		wantPath(t, "accepted", accepted, want)
	}
}

func TestPathOf_FilesAsLongAsTheyAreThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a file")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	wantPath(t, "file", f, path)
	if err := os.Rename(path, path+"2"); err != nil {
		t.Fatal(err)
	}
	wantPath(t, "renamed", f, path+"2")
	if err := os.Remove(path + "2"); err != nil {
		t.Fatal(err)
	}
	if got, err := PathOf(rawFD(t, f)); !errors.Is(err, unix.ENOENT) {
		t.Errorf("removed: got %q, %v, want ENOENT", got, err)
	}
	// Another file of that name is not this one.
	if err := os.WriteFile(path+"2 (deleted)", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := PathOf(rawFD(t, f)); !errors.Is(err, unix.ENOENT) {
		t.Errorf("another: got %q, %v, want ENOENT", got, err)
	}
}

func TestPathOf_WhatHasNone(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if got, err := PathOf(rawFD(t, r)); !errors.Is(err, unix.ENOENT) || !strings.Contains(err.Error(), "has no path") {
		t.Errorf("pipe: got %q, %v", got, err)
	}
	for what, args := range map[string][3]int{
		"unbound tcp":   {unix.AF_INET, unix.SOCK_STREAM, 0},
		"unbound local": {unix.AF_UNIX, unix.SOCK_STREAM, 0},
		"netlink":       {unix.AF_NETLINK, unix.SOCK_RAW, 0},
	} {
		fd, err := unix.Socket(args[0], args[1]|unix.SOCK_CLOEXEC, args[2])
		if err != nil {
			t.Fatal(err)
		}
		if got, err := PathOf(fd); !errors.Is(err, unix.ENOENT) {
			t.Errorf("%s: got %q, %v, want ENOENT", what, got, err)
		}
		unix.Close(fd)
	}
	if _, err := PathOf(-1); !errors.Is(err, unix.EBADF) {
		t.Errorf("got %v, want EBADF", err)
	}
}

const someMounts = `22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/root rw
90 22 0:40 / /n rw,nosuid - fuse.convoke convoke rw
91 22 0:40 /dev /srv/my\040dev rw shared:2 master:3 - fuse.convoke convoke rw
92 90 0:41 / /n/dev rw - tmpfs none rw
bad
93 x
`

func TestParseMounts_TreesAndPartsOfThem(t *testing.T) {
	all := parseMounts([]byte(someMounts))
	if len(all) != 4 {
		t.Fatalf("got %+v, want 4 mounts", all)
	}
	for path, want := range map[string]string{
		"/n/cluster/name":             "/cluster/name",
		"/srv/my dev/fdp/local/greet": "/dev/fdp/local/greet",
		"/n/dev/covered":              "",
		"/etc/passwd":                 "",
		"/n":                          "",
		"/nothing":                    "",
	} {
		if got, ok := all.below(path); got != want || ok != (want != "") {
			t.Errorf("%s: got %q, %v, want %q", path, got, ok, want)
		}
	}
	for _, tc := range []struct{ path, want string }{
		{"/srv/my dev/tcp/db/80", "/dev/tcp/db/80"}, {"/srv/my dev", "/dev"}, {"/srv/my device", ""},
	} {
		if got, err := all[2].inTree(tc.path); got != tc.want || (err != nil) != (tc.want == "") {
			t.Errorf("%s: got %q, %v, want %q", tc.path, got, err, tc.want)
		}
	}
}

func FuzzParseMounts(f *testing.F) {
	f.Add([]byte(someMounts))
	f.Add([]byte(`1 1 0:1 \ \1 \12 - fuse.convoke`))
	f.Fuzz(func(t *testing.T, info []byte) {
		all := parseMounts(info)
		for _, m := range all {
			if got, err := m.inTree(m.point); err != nil || got != m.root {
				t.Errorf("%+v: got %q, %v", m, got, err)
			}
		}
		all.below("/n/dev/fdp/local/x")
	})
}
