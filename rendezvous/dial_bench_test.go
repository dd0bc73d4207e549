package rendezvous

import (
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

func BenchmarkDial_Loopback(b *testing.B) {
	for _, who := range []struct {
		name  string
		creds Creds
	}{
		{"own", Creds{UID: uint32(unix.Geteuid()), GID: uint32(unix.Getegid())}},
		{"uid1000", Creds{UID: 1000, GID: 1000}},
	} {
		b.Run(who.name, func(b *testing.B) {
			l, err := net.Listen("tcp4", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			raw, _ := l.(*net.TCPListener).SyscallConn()
			t := Target{Addrs: []netip.AddrPort{l.Addr().(*net.TCPAddr).AddrPort()}}
			b.ReportAllocs()
			for b.Loop() {
				c, err := Dial(b.Context(), t, DialOpts{Creds: who.creds})
				if err != nil {
					b.Fatal(err)
				}
				unix.SetsockoptLinger(c.FD, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}) // no TIME_WAIT
				unix.Close(c.FD)
				raw.Control(func(fd uintptr) {
					if peer, _, err := unix.Accept(int(fd)); err == nil {
						unix.Close(peer)
					}
				})
			}
		})
	}
}
