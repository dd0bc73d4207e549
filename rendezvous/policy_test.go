package rendezvous

import (
	"errors"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func TestAnnounce_TellsWhyNot(t *testing.T) {
	if !inNetNS(t) {
		return
	}
	checkFDs(t)
	h := newHost(t)
	stranger := callerOf(t, 1000)
	stranger.NetNS.Ino++
	nobody := callerOf(t, 1000)
	nobody.TGID = 0
	capable := callerOf(t, 1000)
	capable.Caps = 1 << unix.CAP_NET_BIND_SERVICE
	mustAnnounce(t, h, callerOf(t, 1001), "dev/tcp/local/held,create")
	mustAnnounce(t, h, callerOf(t, 1001), "dev/tcp/local/8001,night,create")
	taken, _ := listen(t, "127.0.0.1:8002")
	defer taken.Close()
	for _, tt := range []struct {
		path   string
		by     Caller
		want   unix.Errno
		reason string
	}{
		{"dev/tcp/web1/x,create", callerOf(t, 0), unix.EROFS, "local"},
		{"dev/tcp/127.0.0.1/x,create", callerOf(t, 0), unix.EROFS, "local"},
		{"dev/tcp/share/x,create", callerOf(t, 0), unix.EROFS, "local"},
		{"dev/tcp/local/x,create", stranger, unix.EACCES, "network namespace"},
		{"dev/tcp/local/x,create", nobody, unix.EACCES, "not known"},
		{"dev/tcp/local/1023,create", callerOf(t, 1000), unix.EACCES, "below 1024"},
		{"dev/udp/local/1023,create", callerOf(t, 1000), unix.EACCES, "below 1024"},
		{"dev/tcp/local/1023,create", capable, 0, ""},
		{"dev/tcp/local/1022,create", callerOf(t, 0), 0, ""},
		{"dev/tcp/local/1024,create", callerOf(t, 1000), 0, ""},
		{"dev/tcp/local/ssh,create", callerOf(t, 1000), unix.EACCES, "service table"},
		{"dev/tcp/local/SSH,create", callerOf(t, 1000), unix.EACCES, "service table"},
		{"dev/tcp/local/ssh,night,create", callerOf(t, 1000), unix.EACCES, "service table"},
		{"dev/udp/local/domain,create", callerOf(t, 1000), unix.EACCES, "service table"},
		{"dev/tcp/local/ssh,create", capable, unix.EACCES, "service table"},
		{"dev/fdp/local/ssh,create", callerOf(t, 0), 0, ""},
		{"dev/tcp/local/ssh,create", callerOf(t, 0), 0, ""},
		{"dev/tcp/local/ssh,create", callerOf(t, 0), unix.EADDRINUSE, "already"},
		{"dev/tcp/local/held,create", callerOf(t, 1000), unix.EACCES, "another user"},
		{"dev/tcp/local/held,day,create", callerOf(t, 1000), unix.EACCES, "another user"},
		{"dev/tcp/local/held,user,create", callerOf(t, 1000), unix.EACCES, "another user"},
		{"dev/tcp/local/held,create", callerOf(t, 1001), unix.EADDRINUSE, "already"},
		{"dev/tcp/local/held,day,create", callerOf(t, 1001), 0, ""},
		{"dev/udp/local/held,create", callerOf(t, 1000), 0, ""},
		{"dev/tcp/local/held,create", callerOf(t, 0), unix.EADDRINUSE, "already"},
		{"dev/tcp/local/x,user=1001,create", callerOf(t, 1000), unix.EACCES, "another user"},
		{"dev/tcp/local/x,group=7,create", callerOf(t, 1000, 8), unix.EACCES, "group"},
		{"dev/tcp/local/x,group=7,create", callerOf(t, 1000, 7), 0, ""},
		{"dev/tcp/local/x,user=1001,create", callerOf(t, 0), 0, ""},
		{"dev/tcp/local/x,user=no-such-user-here,create", callerOf(t, 1000), unix.ENOENT, "no-such"},
		{"dev/tcp/local/8002,create", callerOf(t, 1000), unix.EADDRINUSE, ""},
		{"dev/tcp/local/8001,create", callerOf(t, 1000), unix.EACCES, "another user"},
		{"dev/tcp/local/local,create", callerOf(t, 1000), 0, ""},
	} {
		a, err := h.Announce(t.Context(), tt.by, parsed(t, tt.path), AnnounceOpts{})
		if tt.want == 0 {
			if err != nil {
				t.Errorf("%s by %d: %v", tt.path, tt.by.UID, err)
			} else if a.Caller().UID != tt.by.UID {
				t.Errorf("%s by %d is by %+v", tt.path, tt.by.UID, a.Caller())
			}
			continue
		}
		wantHost(t, tt.path, err, tt.want)
		if err == nil {
			a.Close()
		} else if !strings.Contains(err.Error(), tt.reason) {
			t.Errorf("%s: %q does not tell of %q", tt.path, err, tt.reason)
		}
	}
	// The administrator decides what is privileged.
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_unprivileged_port_start", []byte("500"), 0); err != nil {
		t.Fatal(err)
	}
	mustAnnounce(t, h, callerOf(t, 1000), "dev/tcp/local/500,create")
	_, err := h.Announce(t.Context(), callerOf(t, 1000), parsed(t, "dev/tcp/local/499"), AnnounceOpts{})
	wantHost(t, "499", err, unix.EACCES)
	h.Close()
	_, err = h.Announce(t.Context(), callerOf(t, 1000), parsed(t, "dev/tcp/local/x"), AnnounceOpts{})
	wantHost(t, "after Close", err, unix.ESHUTDOWN)
	for _, proto := range []Proto{TCP, UDP, FDP} {
		if got := h.Announced(proto); len(got) > 0 {
			t.Errorf("%d are still announced", len(got))
		}
	}
	checkIdentity(t)
}

func TestAnnounce_PortIsTheNumberTheTablesOrTheNextComputedOne(t *testing.T) {
	if !inNetNS(t) {
		return
	}
	h := newHost(t, at("127.0.0.5"))
	both := newHost(t, at("127.0.0.6"), func(o *HostOpts) { o.Addr = func() netip.Addr { return netip.IPv6Loopback() } })
	port := func(h *Host, path string) uint16 {
		t.Helper()
		a := mustAnnounce(t, h, callerOf(t, 0), path)
		for _, addr := range a.Addrs() {
			if addr.Port() != a.Addrs()[0].Port() {
				t.Errorf("%s: several ports: %v", path, a.Addrs())
			}
		}
		return a.Addrs()[0].Port()
	}
	want := ComputedPort("report")
	if got := port(h, "dev/tcp/local/report,create"); got != want {
		t.Errorf("report: got %d, want %d", got, want)
	}
	if got := port(h, "dev/udp/local/report,create"); got != want {
		t.Errorf("report of udp: got %d, want %d", got, want)
	}
	if got := port(h, "dev/tcp/local/ssh,create"); got != 22 {
		t.Errorf("ssh: got %d", got)
	}
	if got := port(h, "dev/tcp/local/7000,create"); got != 7000 {
		t.Errorf("7000: got %d", got)
	}
	for _, path := range []string{"dev/tcp/local/report,night,create", "dev/tcp/local/report,user,create", "dev/tcp/local/0,create", "dev/tcp/local/ssh,night,create"} {
		if got := port(h, path); got == want || got < 1024 {
			t.Errorf("%s: got %d", path, got)
		}
	}
	if got := port(both, "dev/tcp/local/report,create"); got != want {
		t.Errorf("another host's report: got %d", got)
	}
	// Somebody else has the port, and the next one is free at one address only.
	ln, _ := listen(t, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.5"), ComputedPort("second")).String())
	defer ln.Close()
	if got := port(h, "dev/tcp/local/second,create"); got != ComputedPort("second")+1 {
		t.Errorf("second: got %d, want %d", got, ComputedPort("second")+1)
	}
}

// A cluster address that is not loopback: the service listens there and on loopback, at one port.
func TestAnnounce_ListensAtTheClusterAddressAndOnLoopback(t *testing.T) {
	if !inNetNS(t) {
		return
	}
	addAddress(t, "10.9.8.7/32")
	h := newHost(t, at("10.9.8.7"))
	held, _ := listen(t, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), ComputedPort("report")).String())
	defer held.Close()
	a := mustAnnounce(t, h, callerOf(t, 1000), "dev/tcp/local/report,create")
	port := ComputedPort("report") + 1
	want := []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr("10.9.8.7"), port), netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)}
	if got := a.Addrs(); len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Fatalf("got %v, want %v", got, want)
	}
	for path, host := range map[string]string{
		"dev/tcp/local/report": "127.0.0.1", "dev/tcp/web1/report": "10.9.8.7", "dev/tcp/10.9.8.7/report": "10.9.8.7",
		"dev/tcp/127.0.0.1/report": "127.0.0.1",
	} {
		conn := mustOpen(t, h, callerOf(t, 1001), path)
		if got := next(t, a); got.UID != 1001 || got.PID == 0 || conn.Remote.Addr().String() != host || got.Host != host {
			t.Errorf("%s: got %+v at %v", path, got.Peer, conn.Remote)
		}
		var st unix.Stat_t
		if err := unix.Fstat(conn.FD, &st); err != nil || st.Uid != 1001 {
			t.Errorf("the client's socket is of %d, %v", st.Uid, err)
		}
	}
	// An outsider of this host, to the cluster address.
	mustDial(t, DialOpts{Creds: Creds{UID: 1002, GID: 1}}, want[0])
	got := next(t, a)
	if got.UID != 1002 || got.PID != 0 {
		t.Errorf("outsider: got %+v", got.Peer)
	}
	var st unix.Stat_t
	if err := unix.Fstat(got.FD, &st); err != nil || st.Uid != 1000 {
		t.Errorf("the server's socket is of %d, %v, want the server's", st.Uid, err)
	}
	// A user's own listens on loopback only.
	u := mustAnnounce(t, h, callerOf(t, 1000), "dev/tcp/local/report,user,create")
	if got := u.Addrs(); len(got) != 1 || got[0].Addr() != want[1].Addr() {
		t.Errorf("user: got %v", got)
	}
	mustOpen(t, h, callerOf(t, 1000), "dev/tcp/10.9.8.7/report,user")
	checkIdentity(t)
}

func TestHost_RestrictedServiceTakesItsOwnOnly(t *testing.T) {
	needRoot(t)
	h := newHost(t)
	a := mustAnnounce(t, h, callerOf(t, 1000, 7), "dev/tcp/local/own,user,group=7,create")
	for _, c := range []Caller{callerOf(t, 1000, 7), me(t)} {
		conn := mustOpen(t, h, c, a.Path().String())
		if got := next(t, a); got.UID != c.UID {
			t.Errorf("got %+v", got.Peer)
		}
		unix.Close(conn.FD)
	}
	for _, c := range []Caller{callerOf(t, 1000), callerOf(t, 1001, 7), callerOf(t, 1001)} {
		for _, path := range []string{a.Path().String(), "dev/tcp/local/" + portOf(a)} {
			_, err := h.Open(t.Context(), c, parsed(t, path))
			wantHost(t, path, err, unix.EACCES)
		}
	}
	// Past the Host nobody is let in, not even the user.
	conn, err := dialTCP(t.Context(), DialOpts{Creds: Creds{UID: 1000, GID: 1000}}, a.Addrs()[0])
	if err == nil {
		defer unix.Close(conn.FD)
		fds := [1]unix.PollFd{{Fd: int32(conn.FD), Events: unix.POLLIN}}
		unix.Poll(fds[:], 10000)
		_, err = unix.Read(conn.FD, make([]byte, 1))
	}
	if !errors.Is(err, unix.ECONNRESET) || a.Ready() {
		t.Errorf("outsider: got %v", err)
	}
	// Permissions count too.
	b := mustAnnounce(t, h, callerOf(t, 1000), "dev/tcp/local/0,create")
	path := "dev/tcp/local/" + portOf(b)
	for _, tt := range []struct {
		mode, uid, gid uint32
		by             Caller
		want           unix.Errno
	}{
		{0o666, NoID, NoID, callerOf(t, 1001), 0}, {0o600, NoID, NoID, callerOf(t, 1001), unix.EACCES},
		{0o600, NoID, NoID, callerOf(t, 1000), 0}, {0o066, NoID, NoID, callerOf(t, 1000), unix.EACCES},
		{0o620, NoID, 7, callerOf(t, 1001, 7), 0}, {0o620, NoID, 7, callerOf(t, 1001, 8), unix.EACCES},
		{0o000, NoID, NoID, me(t), 0}, {0o600, 1001, NoID, callerOf(t, 1001), 0},
	} {
		b.Chmod(tt.mode)
		b.Chown(tt.uid, tt.gid)
		conn, err := h.Open(t.Context(), tt.by, parsed(t, path))
		if tt.want == 0 && err == nil {
			unix.Close(conn.FD)
		} else {
			wantHost(t, path, err, tt.want)
		}
	}
	if mode, uid, gid := b.Mode(); mode != 0o600 || uid != 1001 || gid != 7 {
		t.Errorf("got %o, %d, %d", mode, uid, gid)
	}
}

func portOf(a *Announcement) string {
	_, port, _ := strings.Cut(a.Addrs()[0].String(), ":")
	return port
}

// counts is a Limits that allows each user one of everything.
type counts struct {
	mu   sync.Mutex
	held map[Limit]map[uint32]int
}

func (c *counts) Take(uid uint32, what Limit) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held[what] == nil {
		c.held[what] = map[uint32]int{}
	}
	if c.held[what][uid] >= 1 {
		return false
	}
	c.held[what][uid]++
	return true
}

func (c *counts) Give(uid uint32, what Limit) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held[what][uid]--
}

func TestHost_LimitsAreCountedAndGivenBack(t *testing.T) {
	limits := &counts{held: map[Limit]map[uint32]int{}}
	h := newHost(t, func(o *HostOpts) { o.Limits = limits })
	c := me(t)
	a := mustAnnounce(t, h, c, "dev/tcp/local/0,create")
	for range 3 {
		_, err := h.Announce(t.Context(), c, parsed(t, "dev/tcp/local/0"), AnnounceOpts{})
		wantHost(t, "one more", err, unix.ENOSPC)
		mustOpen(t, h, c, "dev/tcp/local/"+portOf(a))
		next(t, a)
		_, err = h.Open(t.Context(), c, parsed(t, "dev/tcp/local/no-such-service-here"))
		wantHost(t, "nobody", err, unix.ECONNREFUSED)
	}
	limits.Take(c.UID, DialLimit)
	_, err := h.Open(t.Context(), c, parsed(t, "dev/tcp/local/"+portOf(a)))
	wantHost(t, "one more dial", err, unix.EAGAIN)
	limits.Give(c.UID, DialLimit)
	a.Close()
	a.Close()
	_, err = h.Announce(t.Context(), c, parsed(t, "dev/tcp/web9/x"), AnnounceOpts{})
	wantHost(t, "another host", err, unix.EROFS)
	for what, byUser := range limits.held {
		if byUser[c.UID] != 0 {
			t.Errorf("%d of limit %d are still held", byUser[c.UID], what)
		}
	}
	mustAnnounce(t, h, c, "dev/tcp/local/0,create")
}

func TestHost_OpenRefusesStrangers(t *testing.T) {
	h := newHost(t)
	c := me(t)
	a := mustAnnounce(t, h, c, "dev/tcp/local/0,create")
	stranger := c
	stranger.NetNS.Ino++
	_, err := h.Open(t.Context(), stranger, parsed(t, "dev/tcp/local/"+portOf(a)))
	wantHost(t, "another network namespace", err, unix.EACCES)
	if c.UID != 0 {
		return
	}
	for path, want := range map[string]unix.Errno{
		"dev/tcp/local/x,user=1001": unix.EACCES, "dev/tcp/db/x,group=77": unix.EACCES, "dev/tcp/local/x,user=1000": unix.ENOENT,
		"dev/fdp/local/x,user=1001": unix.EACCES, "dev/tcp/local/x,user=no-such-user-here": unix.ENOENT,
	} {
		_, err := h.Open(t.Context(), callerOf(t, 1000), parsed(t, path))
		wantHost(t, path, err, want)
	}
	open := newHost(t, func(o *HostOpts) { o.ForeignNet = true })
	b := mustAnnounce(t, open, stranger, "dev/tcp/local/0,create")
	mustOpen(t, open, stranger, "dev/tcp/local/"+portOf(b))
}
