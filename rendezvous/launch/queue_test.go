package launch

import (
	"encoding/binary"
	"net"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// rawListen listens as an announcement does, where nobody accepts.
func rawListen(t *testing.T, domain int, addr unix.Sockaddr) int {
	t.Helper()
	fd, err := unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, addr); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 16); err != nil {
		t.Fatal(err)
	}
	return fd
}

func TestQueued_CountsWhoWaits(t *testing.T) {
	tcp := rawListen(t, unix.AF_INET, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	sa, err := unix.Getsockname(tcp)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "s")
	local := rawListen(t, unix.AF_UNIX, &unix.SockaddrUnix{Name: name})
	for _, c := range []struct {
		fd   int
		dial func() (net.Conn, error)
	}{
		{tcp, func() (net.Conn, error) {
			return net.DialTCP("tcp", nil, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: sa.(*unix.SockaddrInet4).Port})
		}},
		{local, func() (net.Conn, error) { return net.Dial("unix", name) }},
	} {
		for want := range 4 {
			if n, err := queued(c.fd); n != want || err != nil {
				t.Fatalf("got %d, %v, want %d", n, err, want)
			}
			conn, err := c.dial()
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
		}
		for want := 4; want > 0; want-- {
			if n, err := queued(c.fd); n != want || err != nil {
				t.Fatalf("got %d, %v, want %d", n, err, want)
			}
			fd, _, err := unix.Accept4(c.fd, unix.SOCK_CLOEXEC)
			if err != nil {
				t.Fatal(err)
			}
			unix.Close(fd)
		}
	}
	if n, err := queued(-1); err == nil {
		t.Errorf("no socket: got %d, want an error", n)
	}
}

// diagAnswer is the kernel's answer for a socket with clients waiting.
func diagAnswer(ino, waiting uint32) []byte {
	e := binary.NativeEndian
	b := make([]byte, unix.SizeofNlMsghdr+unixDiagMsg+12)
	e.PutUint32(b, uint32(len(b)))
	e.PutUint16(b[4:], unix.SOCK_DIAG_BY_FAMILY)
	e.PutUint32(b[unix.SizeofNlMsghdr+4:], ino)
	attr := b[unix.SizeofNlMsghdr+unixDiagMsg:]
	e.PutUint16(attr, 12)
	e.PutUint16(attr[2:], unixDiagRqlen)
	e.PutUint32(attr[4:], waiting)
	return b
}

func TestParseUnixQueue_OnlyTheRightSocket(t *testing.T) {
	if n, err := parseUnixQueue(diagAnswer(7, 3), 7); n != 3 || err != nil {
		t.Errorf("got %d, %v, want 3", n, err)
	}
	if n, err := parseUnixQueue(diagAnswer(8, 3), 7); err == nil {
		t.Errorf("another socket's: got %d, want an error", n)
	}
	fail := make([]byte, unix.SizeofNlMsghdr+4)
	binary.NativeEndian.PutUint32(fail, uint32(len(fail)))
	binary.NativeEndian.PutUint16(fail[4:], unix.NLMSG_ERROR)
	errno := -int32(unix.ENOENT)
	binary.NativeEndian.PutUint32(fail[unix.SizeofNlMsghdr:], uint32(errno))
	if n, err := parseUnixQueue(fail, 7); err != unix.ENOENT {
		t.Errorf("got %d, %v, want ENOENT", n, err)
	}
}

func FuzzUnixQueue(f *testing.F) {
	f.Add(diagAnswer(7, 3))
	f.Add(diagAnswer(7, 3)[:20])
	f.Fuzz(func(t *testing.T, b []byte) {
		if n, err := parseUnixQueue(b, 7); n < 0 || n > 0 && err != nil {
			t.Errorf("got %d, %v", n, err)
		}
	})
}
