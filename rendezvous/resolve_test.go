package rendezvous

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

type fakeMembers map[string]netip.Addr

func (m fakeMembers) Member(name string) (netip.Addr, bool) {
	a, ok := m[name]
	return a, ok
}

// dnsServer answers on 127.0.0.1. zone maps a lower-case name without final dot to its addresses; names below
// "servfail" fail, names below "silent" get no answer, all others do not exist.
type dnsServer struct {
	zone  map[string][]string
	asked chan string // a name for each question below "silent"
	conn  net.PacketConn
}

func newDNSServer(t *testing.T, zone map[string][]string) *dnsServer {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &dnsServer{zone: zone, asked: make(chan string, 16), conn: conn}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if answer := s.answer(buf[:n]); answer != nil {
				conn.WriteTo(answer, from)
			}
		}
	}()
	t.Cleanup(func() { conn.Close(); <-done })
	return s
}

func (s *dnsServer) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp4", s.conn.LocalAddr().String())
	}}
}

// answer builds the reply to one question (RFC 1035, section 4).
func (s *dnsServer) answer(q []byte) []byte {
	const header = 12
	if len(q) < header {
		return nil
	}
	var labels []string
	i := header
	for i < len(q) && q[i] != 0 {
		n := int(q[i])
		labels = append(labels, string(q[i+1:i+1+n]))
		i += 1 + n
	}
	question := q[header : i+5]
	name := strings.ToLower(strings.Join(labels, "."))
	qtype := binary.BigEndian.Uint16(q[i+1:])
	var rcode uint16
	var records [][]byte
	switch {
	case strings.HasSuffix(name, "silent"):
		select {
		case s.asked <- name:
		default:
		}
		return nil
	case strings.HasSuffix(name, "servfail"):
		rcode = 2
	case s.zone[name] == nil:
		rcode = 3
	}
	for _, text := range s.zone[name] {
		a := netip.MustParseAddr(text)
		if a.Is4() != (qtype == 1) {
			continue
		}
		raw := a.AsSlice()
		r := append([]byte{0xc0, header}, q[i+1:i+5]...) // a pointer to the name, type, class
		r = binary.BigEndian.AppendUint32(r, 60)
		r = binary.BigEndian.AppendUint16(r, uint16(len(raw)))
		records = append(records, append(r, raw...))
	}
	out := append([]byte{}, q[:2]...)
	out = binary.BigEndian.AppendUint16(out, 0x8580|rcode)
	for _, n := range []int{1, len(records), 0, 0} {
		out = binary.BigEndian.AppendUint16(out, uint16(n))
	}
	out = append(out, question...)
	return append(out, slices.Concat(records...)...)
}

func mustParse(t testing.TB, path string) Path {
	t.Helper()
	p, err := Parse(path)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func addrPorts(s string) (out []netip.AddrPort) {
	for _, f := range strings.Fields(s) {
		out = append(out, netip.MustParseAddrPort(f))
	}
	return out
}

func TestResolve_TriesHostsAndServicesInOrder(t *testing.T) {
	dns := newDNSServer(t, map[string][]string{
		"db.test":   {"192.0.2.1"},
		"web1.test": {"192.0.2.9"},
	})
	r := &Resolver{Net: dns.resolver(), Members: fakeMembers{
		"web1":      netip.MustParseAddr("192.0.2.11"),
		"web1.test": netip.MustParseAddr("192.0.2.12"),
		"v6":        netip.MustParseAddr("2001:db8::1"),
		"mapped":    netip.MustParseAddr("::ffff:192.0.2.13"),
		"10.0.0.1":  netip.MustParseAddr("192.0.2.66"),
		"7":         netip.MustParseAddr("192.0.2.77"),
	}}
	for _, tt := range []struct{ path, addrs, node string }{
		{"tcp/local/80", "127.0.0.1:80 [::1]:80", ""},
		{"udp/local/53", "127.0.0.1:53 [::1]:53", ""},
		{"tcp/web1/80", "192.0.2.11:80", "web1"},
		{"tcp/web1.test/80", "192.0.2.12:80", "web1.test"},
		{"tcp/v6/80", "[2001:db8::1]:80", "v6"},
		{"tcp/mapped/80", "192.0.2.13:80", "mapped"},
		{"tcp/7/80", "192.0.2.77:80", "7"},
		{"tcp/10.0.0.1/80", "10.0.0.1:80", ""},
		{"tcp/::1/65535", "[::1]:65535", ""},
		{"tcp/::ffff:10.0.0.1/1", "10.0.0.1:1", ""},
		{"tcp/fe80::1%eth0/1", "[fe80::1%eth0]:1", ""},
		{"tcp/db.test./80", "192.0.2.1:80", ""},
		{"tcp/10.0.0.1/http", "10.0.0.1:80", ""},
		{"udp/10.0.0.1/domain", "10.0.0.1:53", ""},
		{"tcp/10.0.0.1/no-such-service", "10.0.0.1:" + port("no-such-service"), ""},
		{"tcp/10.0.0.1/80,other,test,now,slave", "10.0.0.1:80", ""},
	} {
		got, err := r.Resolve(t.Context(), mustParse(t, tt.path))
		if err != nil || !slices.Equal(got.Addrs, addrPorts(tt.addrs)) || got.Node != tt.node || got.Path != "dev/"+tt.path {
			t.Errorf("%s: got %+v, %v, want %s node=%q", tt.path, got, err, tt.addrs, tt.node)
		}
	}
}

func port(name string) string {
	return netip.AddrPortFrom(netip.IPv4Unspecified(), ComputedPort(name)).String()[len("0.0.0.0:"):]
}

func TestResolve_LocalIsSaidOnlyWhereItIsSure(t *testing.T) {
	r := &Resolver{Members: fakeMembers{"me": netip.MustParseAddr("127.0.0.2"), "other": netip.MustParseAddr("192.0.2.2")}}
	for path, want := range map[string]bool{
		"tcp/local/1": true, "tcp/127.0.0.9/1": true, "tcp/::1/1": true, "tcp/me/1": true, "fdp/local/x": true,
		"tcp/other/1": false, "tcp/192.0.2.3/1": false, "tcp/local/1,remote": false, "tcp/me/1,remote": false,
	} {
		if got, err := r.Resolve(t.Context(), mustParse(t, path)); err != nil || got.Local != want {
			t.Errorf("%s: got %+v, %v, want local=%v", path, got, err, want)
		}
	}
}

func TestResolve_FamiliesTakeTurns(t *testing.T) {
	dns := newDNSServer(t, map[string][]string{
		"both.test": {"192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1", "2001:db8::2", "192.0.2.1"},
	})
	r := &Resolver{Net: dns.resolver()}
	got, err := r.Resolve(t.Context(), mustParse(t, "tcp/both.test./80"))
	if err != nil || len(got.Addrs) != 5 {
		t.Fatalf("got %v, %v, want 5 addresses", got, err)
	}
	// Which family is first depends on the routes of this host (RFC 6724).
	for i := range 4 {
		if got.Addrs[i].Addr().Is4() == got.Addrs[i+1].Addr().Is4() && i < 3 {
			t.Errorf("no turns at %d: %v", i, got.Addrs)
		}
	}
}

func TestInterleave_KeepsTheOrderWithinAFamily(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"", ""},
		{"1.1.1.1", "1.1.1.1"},
		{"1.1.1.1 2.2.2.2 ::1", "1.1.1.1 ::1 2.2.2.2"},
		{"::1 ::2 ::3 1.1.1.1 2.2.2.2", "::1 1.1.1.1 ::2 2.2.2.2 ::3"},
		{"::ffff:1.1.1.1 1.1.1.1 ::2 ::2", "1.1.1.1 ::2"},
	} {
		var in, want []netip.Addr
		for _, s := range strings.Fields(tt.in) {
			in = append(in, netip.MustParseAddr(s))
		}
		for _, s := range strings.Fields(tt.want) {
			want = append(want, netip.MustParseAddr(s))
		}
		if got := interleave(in); !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", tt.in, got, want)
		}
	}
}

func TestResolve_SaysWhyItCannot(t *testing.T) {
	dns := newDNSServer(t, nil)
	r := &Resolver{Net: dns.resolver(), Members: fakeMembers{"nowhere": {}}}
	for _, tt := range []struct {
		path  string
		kind  Kind
		errno unix.Errno // 0: none in the chain
	}{
		{"tcp/absent.test./80", NotExist, 0},
		{"tcp/127.1/80", NotExist, 0},
		{"tcp/0x7f000001/80", NotExist, 0},
		{"tcp/a.servfail./80", Unavailable, unix.EAGAIN},
		{"tcp/nowhere/80", Unavailable, unix.EHOSTUNREACH},
		{"tcp/share/web", NotExist, 0},
		{"tcp/local/0", Invalid, 0},
		{"tcp/local/80,user", NotExist, 0},
		{"tcp/local/80,group=5", NotExist, 0},
		{"tcp/local/http,nightly", NotExist, 0},
		{"fdp/local/x,nightly", NotExist, 0},
		{"tcp/local/web,create", Unavailable, unix.EOPNOTSUPP},
		{"fdp/local/web,create", Unavailable, unix.EOPNOTSUPP},
		{"tcp/web1/web,create", Permission, unix.EROFS},
	} {
		got, err := r.Resolve(t.Context(), mustParse(t, tt.path))
		var errno unix.Errno
		errors.As(err, &errno)
		if err == nil || KindOf(err) != tt.kind || errno != tt.errno {
			t.Errorf("%s: got %v, %v (errno %v, kind %v), want errno %v, kind %v", tt.path, got, err, errno, KindOf(err), tt.errno, tt.kind)
		}
		var e *Error
		if !errors.As(err, &e) || e.Op != "resolve" || e.Path != "dev/"+tt.path {
			t.Errorf("%s: got %#v", tt.path, err)
		}
	}
	if _, err := r.Resolve(t.Context(), Path{Host: "a/b", Service: "80"}); KindOf(err) != Invalid {
		t.Errorf("a malformed path: got %v", err)
	}
}

func TestResolve_InterruptedWhileTheNameServerIsSilent(t *testing.T) {
	dns := newDNSServer(t, nil)
	r := &Resolver{Net: dns.resolver()}
	why := errors.New("caller was interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		<-dns.asked
		cancel(why)
	}()
	_, err := r.Resolve(ctx, mustParse(t, "tcp/a.silent./80"))
	if !errors.Is(err, unix.EINTR) || !errors.Is(err, why) || KindOf(err) != Other {
		t.Errorf("got %v, want EINTR and the cause", err)
	}
}

func TestResolve_DeadlineWhileTheNameServerIsSilent(t *testing.T) {
	dns := newDNSServer(t, nil)
	r := &Resolver{Net: dns.resolver()}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := r.Resolve(ctx, mustParse(t, "tcp/a.silent./80"))
	if !errors.Is(err, unix.ETIMEDOUT) || KindOf(err) != Timeout {
		t.Errorf("got %v, want ETIMEDOUT", err)
	}
}

func TestResolve_NoNameServerIsTemporary(t *testing.T) {
	refused := &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Err: unix.ECONNREFUSED}
	}}
	r := &Resolver{Net: refused}
	_, err := r.Resolve(t.Context(), mustParse(t, "tcp/a.test./80"))
	var errno unix.Errno
	if !errors.As(err, &errno) || errno != unix.EAGAIN || KindOf(err) != Unavailable {
		t.Errorf("got %v, want EAGAIN", err)
	}
}
