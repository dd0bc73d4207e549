package rendezvous

import (
	"fmt"
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// BenchmarkOpen_Warm is an open of a TCP service that listens already, of another program or announced, for this process
// and for another user; connect is connect(2) alone.
func BenchmarkOpen_Warm(b *testing.B) {
	own, err := ownNet()
	if err != nil {
		b.Fatal(err)
	}
	h := NewHost(HostOpts{Resolver: &Resolver{}, Log: quiet, Self: "web1", SocketDir: b.TempDir(), Unlink: func(string) {}})
	b.Cleanup(h.Close)
	owner := Caller{PID: os.Getpid(), TGID: os.Getpid(), UID: uint32(unix.Geteuid()), GID: uint32(unix.Getegid()), NetNS: own}
	a, err := h.Announce(b.Context(), owner, Path{Proto: TCP, Host: "local", Service: "convoke-bench"}, AnnounceOpts{})
	if err != nil {
		b.Fatal(err)
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	raw, err := l.(*net.TCPListener).SyscallConn()
	if err != nil {
		b.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	foreign := func() {
		raw.Control(func(fd uintptr) {
			if peer, _, err := unix.Accept(int(fd)); err == nil {
				unix.Close(peer)
			}
		})
	}
	announced := func() {
		if c, err := a.Next(); err == nil {
			unix.Close(c.FD)
		}
	}
	done := func(fd int, accept func()) {
		unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}) // no TIME_WAIT
		unix.Close(fd)
		accept()
	}
	b.Run("connect", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				b.Fatal(err)
			}
			if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: port}); err != nil {
				b.Fatal(err)
			}
			done(fd, foreign)
		}
	})
	for _, bb := range []struct {
		name, path string
		accept     func()
	}{
		{"number", fmt.Sprintf("dev/tcp/127.0.0.1/%d", port), foreign},
		{"announced", "dev/tcp/local/convoke-bench", announced},
	} {
		p, err := Parse(bb.path)
		if err != nil {
			b.Fatal(err)
		}
		for _, uid := range []uint32{owner.UID, 1000} {
			c := owner
			c.UID, c.GID = uid, uid
			b.Run(fmt.Sprintf("%s/uid%d", bb.name, uid), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					conn, err := h.Open(b.Context(), c, p)
					if err != nil {
						b.Fatal(err)
					}
					done(conn.FD, bb.accept)
				}
			})
		}
	}
}
