package rendezvous

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// self is the identity of the test, with which nothing is switched.
var self = Creds{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}

func listen(t *testing.T, addr string) (*net.TCPListener, netip.AddrPort) {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.(*net.TCPListener), l.Addr().(*net.TCPAddr).AddrPort()
}

// refused returns an address where nobody listens: a socket holds the port, so that nobody else gets it meanwhile.
func refused(t *testing.T, ip string) netip.AddrPort {
	t.Helper()
	to := netip.AddrPortFrom(netip.MustParseAddr(ip), 0)
	sa, family, err := sockaddr(to)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, sa); err != nil {
		t.Fatal(err)
	}
	local, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return addrPort(local)
}

// blackHole returns an address that answers nothing: a listener whose accept queue is full, for which Linux drops SYNs.
func blackHole(t *testing.T) netip.AddrPort {
	t.Helper()
	to := netip.MustParseAddrPort("127.0.0.1:0")
	sa, _, _ := sockaddr(to)
	l, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(l) })
	if err := unix.Bind(l, sa); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(l, 0); err != nil {
		t.Fatal(err)
	}
	sa, err = unix.Getsockname(l)
	if err != nil {
		t.Fatal(err)
	}
	for range 8 {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		if err := unix.Connect(fd, sa); err != unix.EINPROGRESS {
			t.Fatal(err)
		}
		if !writable(fd) {
			return addrPort(sa)
		}
	}
	t.Fatal("the backlog is never full")
	return netip.AddrPort{}
}

func dialTCP(ctx context.Context, o DialOpts, addrs ...netip.AddrPort) (Conn, error) {
	return Dial(ctx, Target{Proto: TCP, Path: "dev/tcp/db/5432", Addrs: addrs, Node: "db"}, o)
}

func mustDial(t *testing.T, o DialOpts, addrs ...netip.AddrPort) Conn {
	t.Helper()
	c, err := dialTCP(t.Context(), o, addrs...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(c.FD) })
	return c
}

// wantErrno fails the test unless err is an *Error of Dial with that errno and its Kind.
func wantErrno(t *testing.T, err error, want unix.Errno) {
	t.Helper()
	var e *Error
	var errno unix.Errno
	if !errors.As(err, &e) || !errors.As(err, &errno) || errno != want || e.Kind != errnoKind(want) || e.Op != "dial" {
		t.Errorf("got %v (%#v), want errno %v", err, err, want)
	}
}

func TestDial_ConnectsAndHandsOverABareSocket(t *testing.T) {
	checkFDs(t)
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, to := listen(t, addr)
		c := mustDial(t, DialOpts{Creds: self}, to)
		peer, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { peer.Close() })
		if c.Remote != to || c.Local.String() != peer.RemoteAddr().String() || c.Node != "db" {
			t.Errorf("got %+v, want remote %v, local %v", c, to, peer.RemoteAddr())
		}
		if _, err := unix.Write(c.FD, []byte("hello")); err != nil {
			t.Error(err)
		}
		buf := make([]byte, 5)
		if _, err := io.ReadFull(peer, buf); err != nil || string(buf) != "hello" {
			t.Errorf("got %q, %v", buf, err)
		}
		checkBare(t, c.FD)
		for _, o := range []struct{ level, name, want int }{
			{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1}, {unix.SOL_SOCKET, unix.SO_KEEPALIVE, 0},
		} {
			if got, err := unix.GetsockoptInt(c.FD, o.level, o.name); err != nil || got != o.want {
				t.Errorf("option %d/%d: got %d, %v, want %d", o.level, o.name, got, err, o.want)
			}
		}
	}
}

// A peer on another host may vanish without a word.
func TestDial_KeepsRemoteConnectionsAlive(t *testing.T) {
	if !inNetNS(t) {
		return
	}
	addAddress(t, "10.9.9.1/32")
	_, to := listen(t, "10.9.9.1:0")
	c := mustDial(t, DialOpts{Creds: self}, to)
	for _, o := range []struct{ level, name, want int }{
		{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1}, {unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1}, {unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 15},
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 15}, {unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 9},
	} {
		if got, err := unix.GetsockoptInt(c.FD, o.level, o.name); err != nil || got != o.want {
			t.Errorf("option %d/%d: got %d, %v, want %d", o.level, o.name, got, err, o.want)
		}
	}
}

// checkBare fails the test unless fd is non-blocking, close-on-exec and in no epoll of this process.
func checkBare(t *testing.T, fd int) {
	t.Helper()
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK == 0 {
		t.Errorf("status flags: got %#x, %v, want O_NONBLOCK", flags, err)
	}
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("descriptor flags: got %#x, %v, want FD_CLOEXEC", flags, err)
	}
	infos, _ := filepath.Glob("/proc/self/fdinfo/*")
	for _, path := range infos {
		text, _ := os.ReadFile(path)
		for line := range strings.Lines(string(text)) {
			if f := strings.Fields(line); len(f) > 1 && f[0] == "tfd:" && f[1] == fmt.Sprint(fd) {
				t.Errorf("descriptor %d is in the epoll of %s", fd, path)
			}
		}
	}
}

func TestDial_SaysWhatConnectSays(t *testing.T) {
	checkFDs(t)
	_, err := dialTCP(t.Context(), DialOpts{Creds: self}, refused(t, "127.0.0.1"))
	wantErrno(t, err, unix.ECONNREFUSED)
	if got, want := err.Error(), "dial dev/tcp/db/5432: connection refused"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	_, err = dialTCP(t.Context(), DialOpts{Creds: self}, netip.MustParseAddrPort("[fe80::1%nosuchlink0]:1"))
	wantErrno(t, err, unix.ENODEV)
	to := refused(t, "127.0.0.1")
	_, err = Dial(t.Context(), Target{Addrs: []netip.AddrPort{to}}, DialOpts{Creds: self})
	if got, want := err.Error(), fmt.Sprintf("dial %q: connection refused", "tcp "+to.String()); got != want {
		t.Errorf("without a path: got %q, want %q", got, want)
	}
}

func TestDial_RefusesBadArguments(t *testing.T) {
	addrs := addrPorts("127.0.0.1:1")
	for _, tt := range []struct {
		t Target
		c Creds
	}{
		{Target{Proto: TCP}, self},
		{Target{Proto: FDP, Addrs: addrs}, self},
		{Target{Proto: TCP, Addrs: []netip.AddrPort{{}}}, self},
		{Target{Proto: TCP, Addrs: addrs}, Creds{UID: noID}},
		{Target{Proto: TCP, Addrs: addrs}, Creds{GID: noID}},
	} {
		_, err := Dial(t.Context(), tt.t, DialOpts{Creds: tt.c})
		wantErrno(t, err, unix.EINVAL)
	}
}

func TestDial_UnroutedIsUnreachable(t *testing.T) {
	if !inNetNS(t) {
		return
	}
	_, err := dialTCP(t.Context(), DialOpts{Creds: self}, addrPorts("192.0.2.1:80")...)
	wantErrno(t, err, unix.ENETUNREACH)
	_, err = dialTCP(t.Context(), DialOpts{Creds: self}, append(addrPorts("192.0.2.1:80"), refused(t, "127.0.0.1"))...)
	wantErrno(t, err, unix.ECONNREFUSED)
	_, err = Dial(t.Context(), Target{Proto: UDP, Addrs: addrPorts("192.0.2.1:80")}, DialOpts{Creds: self})
	wantErrno(t, err, unix.ENETUNREACH)
}

func TestDial_ReportsTheMostTellingError(t *testing.T) {
	hole, no := blackHole(t), refused(t, "127.0.0.1")
	checkFDs(t)
	_, err := dialTCP(t.Context(), DialOpts{Creds: self, Timeout: 1500 * time.Millisecond}, hole, no)
	wantErrno(t, err, unix.ECONNREFUSED)
	order := []unix.Errno{unix.EAFNOSUPPORT, unix.ENETUNREACH, unix.EHOSTUNREACH, unix.ETIMEDOUT, unix.EACCES, unix.ECONNREFUSED}
	for i, low := range order {
		for _, high := range order[i:] {
			for _, errs := range [][]unix.Errno{{low, high}, {high, low}} {
				var d dial
				d.failed(errs[0])
				d.failed(errs[1])
				if d.err != high {
					t.Errorf("%v: got %v, want %v", errs, d.err, high)
				}
			}
		}
	}
	var d dial
	d.failed(unix.EACCES)
	d.failed(unix.EPERM)
	if d.err != unix.EACCES {
		t.Errorf("of equals: got %v, want the first", d.err)
	}
}

func TestDial_NowDoesNotWait(t *testing.T) {
	to := blackHole(t)
	checkFDs(t)
	c := mustDial(t, DialOpts{Creds: self, Now: true}, to)
	if c.Remote != to || !c.Local.IsValid() || c.Local.Port() == 0 {
		t.Errorf("got %+v", c)
	}
	if writable(c.FD) {
		t.Error("the black hole has answered")
	}
	checkBare(t, c.FD)
}

func TestDial_AnyAddressMeansThisHost(t *testing.T) {
	_, to := listen(t, "127.0.0.1:0")
	c := mustDial(t, DialOpts{Creds: self}, netip.AddrPortFrom(netip.IPv4Unspecified(), to.Port()))
	if c.Remote != to {
		t.Errorf("got %v, want %v", c.Remote, to)
	}
	c = mustDial(t, DialOpts{Creds: self}, netip.AddrPortFrom(netip.MustParseAddr("::ffff:127.0.0.1"), to.Port()))
	if c.Remote != to {
		t.Errorf("got %v, want %v", c.Remote, to)
	}
}

// With one ephemeral port only, the kernel connects the socket to itself, surely.
func TestDial_ConnectionToItselfIsRefused(t *testing.T) {
	if !inNetNS(t) {
		return
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", []byte("40000 40000"), 0); err != nil {
		t.Fatal(err)
	}
	checkFDs(t)
	for _, ip := range []string{"127.0.0.1", "::1"} {
		to := netip.AddrPortFrom(netip.MustParseAddr(ip), 40000)
		for _, proto := range []Proto{TCP, UDP} {
			for _, now := range []bool{false, true} {
				_, err := Dial(t.Context(), Target{Proto: proto, Addrs: []netip.AddrPort{to}}, DialOpts{Creds: self, Now: now})
				wantErrno(t, err, unix.ECONNREFUSED)
			}
		}
	}
}

func TestDial_UDPIsConnectedToOnePeer(t *testing.T) {
	server, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	checkFDs(t)
	to := server.LocalAddr().(*net.UDPAddr).AddrPort()
	c, err := Dial(t.Context(), Target{Proto: UDP, Addrs: []netip.AddrPort{to}}, DialOpts{Creds: self})
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(c.FD)
	checkBare(t, c.FD)
	if _, err := unix.Write(c.FD, []byte("ping")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 16)
	n, from, err := server.ReadFrom(buf)
	if err != nil || string(buf[:n]) != "ping" || from.String() != c.Local.String() || c.Remote != to {
		t.Errorf("got %q from %v, %v; %+v", buf[:n], from, err, c)
	}
}
