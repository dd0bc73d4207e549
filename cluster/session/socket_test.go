package session

import (
	"fmt"
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// checkOptions tells which option of a socket is not as it should be.
func checkOptions(raw syscall.RawConn) (err error) {
	raw.Control(func(fd uintptr) {
		for _, o := range []struct {
			name string
			opt  int
			want int
		}{
			{"TCP_NODELAY", unix.TCP_NODELAY, 1},
			{"TCP_NOTSENT_LOWAT", unix.TCP_NOTSENT_LOWAT, lowat},
			{"TCP_USER_TIMEOUT", unix.TCP_USER_TIMEOUT, int(userTimeout / time.Millisecond)},
		} {
			if got, e := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, o.opt); e != nil || got != o.want {
				err = fmt.Errorf("%s is %d, %v, want %d", o.name, got, e, o.want)
			}
		}
	})
	return err
}

func TestSocket_Look(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	raw := rawConn(a)
	if unread, hung := look(raw); unread || hung {
		t.Errorf("fresh: unread %v, hung %v", unread, hung)
	}
	if _, err := b.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	await(t, "a byte", func() bool { unread, hung := look(raw); return unread && !hung })
	b.Close()
	await(t, "the end", func() bool { unread, hung := look(raw); return unread && hung })
	if _, err := a.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if unread, hung := look(raw); unread || !hung {
		t.Errorf("at the end: unread %v, hung %v", unread, hung)
	}
	if unread, hung := look(rawConn(&memConn{})); unread || hung {
		t.Errorf("no socket: unread %v, hung %v", unread, hung)
	}
}

// Both sides of a broken connection know it at once, whatever is on its way.
func TestSocket_Abort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	raw := rawConn(b)
	shut(raw)
	if _, err := b.Read(make([]byte, 1)); err == nil {
		t.Error("a read of what is shut goes on")
	}
	abort(raw)
	b.Close()
	a.SetDeadline(time.Now().Add(patience))
	if _, err := a.Read(make([]byte, 1)); err == nil {
		t.Error("the other side reads on")
	}
	await(t, "a refusal of writes", func() bool { _, err := a.Write([]byte("x")); return err != nil })
}
