package rendezvous

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestClient_GoneIsWhoHasLeftWithoutAWord(t *testing.T) {
	checkFDs(t)
	h := newHost(t)
	for _, path := range []string{"dev/tcp/local/7071", "dev/fdp/local/convoke-test"} {
		a := mustAnnounce(t, h, me(t), path)
		for _, tt := range []struct {
			name string
			do   func(fd int)
			gone bool
		}{
			{"waits", func(int) {}, false},
			{"has sent something", func(fd int) { send(t, fd, "x") }, false},
			{"has ended what it sends", func(fd int) { unix.Shutdown(fd, unix.SHUT_WR) }, false},
			{"has sent something and gone", func(fd int) { send(t, fd, "x"); unix.Close(fd) }, false},
			{"has gone", func(fd int) { unix.Close(fd) }, true},
		} {
			conn, err := h.Open(t.Context(), me(t), parsed(t, path))
			if err != nil {
				t.Fatal(err)
			}
			c := next(t, a)
			tt.do(conn.FD)
			if got := c.Gone(); got != tt.gone {
				t.Errorf("%s: who %s: got %v", path, tt.name, got)
			}
			c.Reject()
			c.FD = -1
			if tt.gone || tt.name == "has sent something and gone" {
				continue
			}
			fds := [1]unix.PollFd{{Fd: int32(conn.FD), Events: unix.POLLIN}}
			unix.Poll(fds[:], 10000)
			n, err := unix.Read(conn.FD, make([]byte, 1))
			if a.Path().Proto == TCP && err != unix.ECONNRESET || n > 0 {
				t.Errorf("%s: who %s and was rejected reads %d, %v", path, tt.name, n, err)
			}
			unix.Close(conn.FD)
		}
	}
	a := mustAnnounce(t, h, me(t), "dev/tcp/local/7072")
	conn, err := h.Open(t.Context(), me(t), parsed(t, "dev/tcp/local/7072"))
	if err != nil {
		t.Fatal(err)
	}
	c := next(t, a)
	send(t, conn.FD, "x")
	reset(conn.FD)
	if !c.Gone() {
		t.Error("who has reset the connection is there")
	}
}

func TestClient_OfUDPIsGoneWhenItsDatagramsAre(t *testing.T) {
	h := newHost(t)
	a := mustAnnounce(t, h, me(t), "dev/udp/local/convoke-test")
	conn := mustOpen(t, h, me(t), "dev/udp/local/convoke-test")
	send(t, conn.FD, "x")
	c := next(t, a)
	if c.Gone() {
		t.Error("is gone")
	}
	c.Reject()
	if !c.Gone() {
		t.Error("is not gone")
	}
}
