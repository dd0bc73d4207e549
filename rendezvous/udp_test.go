package rendezvous

import (
	"testing"

	"golang.org/x/sys/unix"
)

// datagram waits for one, "" for the end.
func datagram(t *testing.T, d *Datagrams) string {
	t.Helper()
	more := make(chan struct{}, 1)
	d.Notify(func() {
		select {
		case more <- struct{}{}:
		default:
		}
	})
	buf := make([]byte, 1<<16)
	for {
		n, err := d.Read(buf)
		if err == nil {
			return string(buf[:n])
		}
		if err != unix.EAGAIN {
			t.Fatal(err)
		}
		select {
		case <-more:
		case <-t.Context().Done():
			t.Fatal("no datagram comes")
		}
	}
}

func send(t *testing.T, fd int, s string) {
	t.Helper()
	if _, err := unix.Write(fd, []byte(s)); err != nil {
		t.Error(err)
	}
}

func TestHost_DatagramsArePartedByClient(t *testing.T) {
	needRoot(t)
	checkFDs(t)
	h := newHost(t)
	a := mustAnnounce(t, h, callerOf(t, 1000), "dev/udp/local/convoke-test,create")
	one := mustOpen(t, h, callerOf(t, 1001), "dev/udp/local/convoke-test")
	two := mustOpen(t, h, callerOf(t, 1002), "dev/udp/local/convoke-test")
	other := mustOpen(t, h, callerOf(t, 1002), "dev/udp/local/convoke-test,other")
	outsider, err := Dial(t.Context(), Target{Proto: UDP, Addrs: a.Addrs()}, DialOpts{Creds: Creds{UID: 1003, GID: 1003}})
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(outsider.FD)
	var clients []*Client
	for i, conn := range []Conn{one, two, other, outsider} {
		send(t, conn.FD, "first")
		c := next(t, a)
		clients = append(clients, c)
		want := Peer{Host: "127.0.0.1", Node: "web1", PID: 41001 + i, UID: uint32(1001 + i), GID: uint32(1001 + i)}
		if i >= 2 {
			want = unproved("127.0.0.1")
		}
		if c.Peer != want || c.Remote != conn.Local || c.Local != conn.Remote || c.FD != -1 {
			t.Errorf("client %d: got %+v, want %+v", i, c, want)
		}
	}
	for i, conn := range []Conn{one, two, other, outsider} {
		send(t, conn.FD, "second")
		d := clients[i].Datagrams
		buf := make([]byte, 2)
		if n, err := d.Read(buf); n != 2 || err != nil || string(buf) != "fi" {
			t.Errorf("got %q, %v", buf[:n], err)
		}
		if got := datagram(t, d); got != "rst" {
			t.Errorf("the rest: got %q", got)
		}
		if got := datagram(t, d); got != "second" {
			t.Errorf("got %q", got)
		}
		if n, err := d.Read(buf); n != 0 || err != unix.EAGAIN || d.Readable() {
			t.Errorf("got %d, %v", n, err)
		}
		if n, err := d.Write([]byte("answer")); n != 6 || err != nil {
			t.Errorf("got %d, %v", n, err)
		}
		if got := readSome(t, conn.FD); got != "answer" {
			t.Errorf("got %q", got)
		}
	}
	if a.Ready() {
		t.Error("a client too many")
	}
	// What is closed is forgotten; then it is a client as any other.
	clients[0].Datagrams.Close()
	send(t, one.FD, "third")
	c := next(t, a)
	if got := datagram(t, c.Datagrams); got != "third" || c.UID != 1001 {
		t.Errorf("got %q of %+v", got, c.Peer)
	}
	a.Close()
	if got := datagram(t, c.Datagrams); got != "" {
		t.Errorf("after Close: got %q", got)
	}
	if _, err := clients[1].Datagrams.Write([]byte("x")); err != unix.EPIPE {
		t.Errorf("after Close: got %v", err)
	}
}

func TestHost_DatagramsOfAUserAreHisOnly(t *testing.T) {
	needRoot(t)
	h := newHost(t)
	a := mustAnnounce(t, h, callerOf(t, 1000), "dev/udp/local/convoke-test,user,create")
	outsider, err := Dial(t.Context(), Target{Proto: UDP, Addrs: a.Addrs()}, DialOpts{Creds: Creds{UID: 1000, GID: 1000}})
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(outsider.FD)
	send(t, outsider.FD, "let me in")
	for _, c := range []Caller{callerOf(t, 1000), me(t)} {
		conn := mustOpen(t, h, c, a.Path().String())
		send(t, conn.FD, "hello")
		if got := next(t, a); got.UID != c.UID || datagram(t, got.Datagrams) != "hello" {
			t.Errorf("got %+v", got)
		}
	}
	_, err = h.Open(t.Context(), callerOf(t, 1001), a.Path())
	wantHost(t, "another user", err, unix.EACCES)
	if a.Ready() {
		t.Error("the outsider is a client")
	}
}
