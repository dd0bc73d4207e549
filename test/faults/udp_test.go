package faults

import (
	"errors"
	"net"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/test/daemon"
)

func TestDatagrams_KeepTheirBounds(t *testing.T) {
	n := start(t)
	l, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f := n.MustOpen("dev/udp/local/"+strconv.Itoa(l.LocalAddr().(*net.UDPAddr).Port), unix.O_RDWR)
	b := make([]byte, 1<<16)
	var from *net.UDPAddr
	for _, text := range []string{"one", "two", strings.Repeat("3", 60000)} {
		f.Send(text)
		size, addr, err := l.ReadFromUDP(b)
		if err != nil || string(b[:size]) != text {
			t.Fatalf("the server got %d bytes, %v, want %d", size, err, len(text))
		}
		from = addr
	}
	for _, text := range []string{"first", "second", strings.Repeat("x", 9000)} {
		if _, err := l.WriteToUDP([]byte(text), from); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []struct {
		size int
		text string
	}{{3, "fir"}, {100, "st"}, {100, "second"}, {1, "x"}, {10000, strings.Repeat("x", 8999)}} {
		if r := daemon.Wait(t, daemon.Bound, "read", f.Read(want.size)); r.Data != want.text || r.Err != nil {
			t.Errorf("read of %d: got %d bytes %.20q, %v, want %.20q", want.size, r.N, r.Data, r.Err, want.text)
		}
	}
	if size, err := unix.Write(f.FD, make([]byte, 70000)); !errors.Is(err, unix.EMSGSIZE) {
		t.Errorf("write of 70,000 bytes: got %d, %v, want EMSGSIZE", size, err)
	}
	read := f.Read(10)
	waitMetric(t, n, "convoke_parked_requests", 1)
	l.Close()
	f.Send("nobody is there")
	if r := daemon.Wait(t, daemon.Bound, "read", read); !errors.Is(r.Err, unix.ECONNREFUSED) {
		t.Errorf("read behind a refused datagram: got %+v, want ECONNREFUSED", r)
	}
}
