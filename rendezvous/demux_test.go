package rendezvous

import (
	"bytes"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// quietDemux is a service of uid 1000 whose datagrams are made up.
func quietDemux(t *testing.T) (*Announcement, *udpSocket) {
	t.Helper()
	a := &Announcement{caller: callerOf(t, 1000)}
	a.queue.init(NewHost(HostOpts{Log: quiet}), 1000)
	a.datagrams = newDemux(a)
	return a, &udpSocket{x: a.datagrams, addr: netip.MustParseAddrPort("127.0.0.1:7000")}
}

func clientAddr(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), 4000)
}

func (s *udpSocket) from(n int, text string) { s.x.arrive(s, clientAddr(n), []byte(text)) }

func TestDemux_AddressIsForgottenAfterAMinuteWithoutADatagram(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, s := quietDemux(t)
		s.from(1, "one")
		s.from(2, "two")
		one, two := next(t, a).Datagrams, next(t, a).Datagrams
		if datagram(t, one) != "one" {
			t.Error("one is not there")
		}
		var ended atomic.Int32
		one.Notify(func() { ended.Add(1) })
		time.Sleep(40 * time.Second)
		s.from(2, "more")
		time.Sleep(20*time.Second - 1)
		synctest.Wait()
		if one.Readable() || ended.Load() != 0 {
			t.Error("one has ended early")
		}
		time.Sleep(1)
		synctest.Wait()
		if !one.Readable() || ended.Load() != 1 || !one.isClosed() || two.isClosed() {
			t.Errorf("after 60 s: readable %v, told %d times", one.Readable(), ended.Load())
		}
		if n, err := one.Read(make([]byte, 9)); n != 0 || err != nil {
			t.Errorf("got %d, %v, want the end", n, err)
		}
		if _, err := one.Write([]byte("x")); err != unix.EPIPE {
			t.Errorf("got %v, want EPIPE", err)
		}
		// What was not read is there to the end.
		time.Sleep(40 * time.Second)
		synctest.Wait()
		if two.isClosed() {
			t.Error("two is gone with what it has sent")
		}
		for _, want := range []string{"two", "more", ""} {
			if got := datagram(t, two); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
		if a.datagrams.timer != nil || len(a.datagrams.remotes) > 0 {
			t.Errorf("left over: %v", a.datagrams.remotes)
		}
		s.from(1, "again")
		if got := datagram(t, next(t, a).Datagrams); got != "again" {
			t.Errorf("got %q", got)
		}
		a.datagrams.close()
		a.queue.end()
		if u := a.queue.host.unread; u.all != 0 || len(u.byUser) != 0 {
			t.Errorf("still counted: %d, %v", u.all, u.byUser)
		}
	})
}

func TestDemux_WhatIsNotReadIsDropped(t *testing.T) {
	a, s := quietDemux(t)
	for range maxQueueDatagrams + 1 {
		s.from(1, "x")
	}
	d := next(t, a).Datagrams
	n := 0
	for d.Readable() {
		if _, err := d.Read(make([]byte, 9)); err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != maxQueueDatagrams {
		t.Errorf("got %d datagrams, want %d", n, maxQueueDatagrams)
	}
	big := strings.Repeat("x", 50000)
	for range 9 {
		s.from(1, big)
	}
	for n = 0; d.Readable(); n++ {
		if got := datagram(t, d); got != big {
			t.Errorf("got %d bytes", len(got))
		}
	}
	if n != maxQueueBytes/len(big) {
		t.Errorf("got %d large ones", n)
	}
	s.from(1, "")
	if d.Readable() {
		t.Error("an empty datagram can be read")
	}
	// All clients together.
	for i := range 500 {
		for range 2 {
			s.from(10+i, big)
		}
	}
	if u := a.queue.host.unread; u.all > u.mostUser || u.all < u.mostUser-len(big)-datagramCost {
		t.Errorf("%d bytes are unread, want at most %d", u.all, u.mostUser)
	}
	for a.Ready() {
		next(t, a).Reject()
	}
	if u := a.queue.host.unread; u.all != 0 || d.bytes != 0 {
		t.Errorf("still counted: %d", u.all)
	}
}

func TestDemux_AddressesAreBounded(t *testing.T) {
	a, s := quietDemux(t)
	for i := range MaxWaiting + 5 {
		s.from(i, "x")
	}
	if a.Waiting() != MaxWaiting || len(a.datagrams.remotes) != MaxWaiting {
		t.Errorf("%d wait, %d are known, want %d", a.Waiting(), len(a.datagrams.remotes), MaxWaiting)
	}
	var all []*Datagrams
	for i := range maxRemotes + 3 {
		s.from(i, "y")
		for a.Ready() {
			all = append(all, next(t, a).Datagrams)
		}
		if i == maxRemotes-1 {
			s.from(0, "z") // used again: 1 is the oldest now
		}
	}
	if len(a.datagrams.remotes) != maxRemotes {
		t.Errorf("%d are known, want %d", len(a.datagrams.remotes), maxRemotes)
	}
	for i, d := range all[:6] {
		if closed := i >= 1 && i <= 3; d.closed != closed {
			t.Errorf("client %d: closed is %v", i, d.closed)
		}
	}
	a.datagrams.close()
	for i, d := range all {
		if !d.closed {
			t.Fatalf("client %d goes on", i)
		}
	}
}

func TestDatagrams_WriteThatFailsIsTold(t *testing.T) {
	h := newHost(t)
	a := mustAnnounce(t, h, me(t), "dev/udp/local/0,create")
	conn := mustOpen(t, h, me(t), "dev/udp/local/"+portOf(a))
	send(t, conn.FD, "x")
	d := next(t, a).Datagrams
	if n, err := d.Write(make([]byte, 70000)); n != 0 || err != unix.EMSGSIZE {
		t.Errorf("too large: got %d, %v", n, err)
	}
	big := bytes.Repeat([]byte("x"), 65507)
	if n, err := d.Write(big); n != len(big) || err != nil {
		t.Errorf("the largest: got %d, %v", n, err)
	}
	if got := readSome(t, conn.FD); len(got) != len(big) {
		t.Errorf("got %d bytes", len(got))
	}
	// As if the socket had had no room: who waits is told as soon as it has.
	datagram(t, d)
	told := make(chan struct{}, 9)
	d.Notify(func() { told <- struct{}{} })
	a.datagrams.mu.Lock()
	d.blocked = true
	a.datagrams.mu.Unlock()
	d.sock.awaitRoom()
	select {
	case <-told:
	case <-time.After(10 * time.Second):
		t.Error("nobody is told")
	}
}
