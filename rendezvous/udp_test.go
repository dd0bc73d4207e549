package rendezvous

import (
	"os"
	"os/exec"
	"strconv"
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
		if want := unproved("127.0.0.1"); c.Peer != want || c.Remote != conn.Local || c.Local != conn.Remote || c.FD != -1 {
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
	if got := datagram(t, c.Datagrams); got != "third" || c.Peer != unproved("127.0.0.1") {
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

// A program of another user sends from the address and port of a client that has come through the Host. It needs no
// rights for that: its own socket has the port at another address of loopback.
func TestHost_DatagramsUnderAnothersAddressAreNobodys(t *testing.T) {
	const python = "/usr/bin/python3"
	if _, err := os.Stat(python); err != nil {
		skip(t, "needs python3")
	}
	h := newHost(t)
	a := mustAnnounce(t, h, me(t), "dev/udp/local/0,create")
	conn := mustOpen(t, h, me(t), "dev/udp/local/"+portOf(a))
	const script = `import socket, struct, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("127.9.9.9", int(sys.argv[1])))
source = struct.pack("@i4s4s", 0, socket.inet_aton("127.0.0.1"), bytes(4))
s.sendmsg([b"forged"], [(socket.IPPROTO_IP, 8, source)], 0, ("127.0.0.1", int(sys.argv[2])))`
	cmd := exec.Command(python, "-c", script, strconv.Itoa(int(conn.Local.Port())), portOf(a))
	cmd.Dir = "/"
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = credential(1001, 1001)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	forged := next(t, a)
	if forged.Remote != conn.Local || datagram(t, forged.Datagrams) != "forged" {
		t.Fatalf("it comes from %v, want %v", forged.Remote, conn.Local)
	}
	if got, want := forged.String(), "127.0.0.1 - - - -"; got != want {
		t.Errorf("the server is told %q, want %q", got, want)
	}
}

func TestHost_DatagramsAreForNoUserAlone(t *testing.T) {
	h := newHost(t)
	c := me(t)
	for _, options := range []string{"user", "group", "user,group,night", "user=" + strconv.Itoa(int(c.UID))} {
		_, err := h.Announce(t.Context(), c, parsed(t, "dev/udp/local/convoke-test,create,"+options), AnnounceOpts{})
		wantHost(t, "announce "+options, err, unix.EOPNOTSUPP)
		for _, host := range []string{"local", "127.0.0.1"} {
			_, err = h.Open(t.Context(), c, parsed(t, "dev/udp/"+host+"/convoke-test,"+options))
			wantHost(t, "open at "+host+" "+options, err, unix.EOPNOTSUPP)
		}
	}
	if got := h.Announced(UDP); len(got) != 0 {
		t.Errorf("announced: %v", got)
	}
	a := mustAnnounce(t, h, c, "dev/udp/local/convoke-test,create,night")
	send(t, mustOpen(t, h, c, "dev/udp/local/convoke-test,night").FD, "hello")
	if got := datagram(t, next(t, a).Datagrams); got != "hello" {
		t.Errorf("an instance by a word: got %q", got)
	}
}
