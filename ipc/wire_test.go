package ipc

import (
	"encoding/hex"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/convoke-fs/convoke/rendezvous"
)

var (
	four = netip.MustParseAddrPort("127.0.0.1:80")
	six  = netip.MustParseAddrPort("[fe80::1%3]:258")
)

// The layout is spoken by programs in other languages, so it is held byte by byte.
func TestWire_LayoutIsAsDocumented(t *testing.T) {
	const zeros = "000000000000000000000000"
	for _, tc := range []struct{ name, got, want string }{
		{"header", hex.EncodeToString(appendHeader(nil, header{opOpen | opAnswer, 1, 0x01020304, 13})), "0280" + "0100" + "04030201" + "0d000000"},
		{"string", hex.EncodeToString(appendString(nil, "ab")), "0200" + "6162"},
		{"no address", hex.EncodeToString(appendAddr(nil, netip.AddrPort{})), zeros + zeros},
		{"IPv4", hex.EncodeToString(appendAddr(nil, four)), "0200" + "5000" + "7f000001" + zeros + "00000000"},
		{"IPv6", hex.EncodeToString(appendAddr(nil, six)), "0a00" + "0201" + "fe800000000000000000000000000001" + "03000000"},
		{"hello", hex.EncodeToString(helloRequest{1, 2}.append(nil)), "636e766b" + "0100" + "0200"},
		{"hello's answer", hex.EncodeToString(helloAnswer{1, 1, 64, 16}.append(nil)), "636e766b" + "0100" + "0100" + "40000000" + "10000000"},
		{"opened", hex.EncodeToString(opened{four, netip.AddrPort{}, "web"}.append(nil)),
			"0200" + "5000" + "7f000001" + zeros + "00000000" + zeros + zeros + "0300" + "776562"},
		{"announced", hex.EncodeToString(announced{7, []netip.AddrPort{four}, "p"}.append(nil)),
			"07000000" + "0100" + "0200" + "5000" + "7f000001" + zeros + "00000000" + "0100" + "70"},
		{"accepted", hex.EncodeToString(accepted{peer: rendezvous.Peer{Host: "h", Node: "n", PID: 1, UID: 2, GID: rendezvous.NoID}}.append(nil)),
			"01000000" + "02000000" + "ffffffff" + zeros + zeros + zeros + zeros + "0100" + "68" + "0100" + "6e"},
	} {
		if tc.got != tc.want {
			t.Errorf("%s:\ngot  %s\nwant %s", tc.name, tc.got, tc.want)
		}
	}
}

func TestWire_WhatIsWrittenIsRead(t *testing.T) {
	o := opened{four, six, "web2"}
	if got, err := decodeOpened(append(o.append(nil), "more"...)); err != nil || got != o {
		t.Errorf("opened: got %+v, %v, want %+v", got, err, o)
	}
	a := announced{9, []netip.AddrPort{four, six}, "dev/tcp/local/echo"}
	if got, err := decodeAnnounced(append(a.append(nil), "more"...)); err != nil || !reflect.DeepEqual(got, a) {
		t.Errorf("announced: got %+v, %v, want %+v", got, err, a)
	}
	c := accepted{rendezvous.Peer{Host: "127.0.0.1", Node: "web1", PID: 42, UID: 1000, GID: rendezvous.NoID}, four, six}
	if got, err := decodeAccepted(append(c.append(nil), "more"...)); err != nil || got != c {
		t.Errorf("accepted: got %+v, %v, want %+v", got, err, c)
	}
}

func TestWire_WhatEndsEarlyIsAnError(t *testing.T) {
	whole := [][]byte{
		opened{four, six, "web2"}.append(nil),
		announced{9, []netip.AddrPort{four, six}, "p"}.append(nil),
		accepted{rendezvous.Peer{Host: "h", Node: "n"}, four, six}.append(nil),
		helloAnswer{1, 1, 64, 16}.append(nil),
		helloRequest{1, 1}.append(nil),
	}
	for i, decode := range []func(b []byte) bool{
		func(b []byte) bool { _, err := decodeOpened(b); return err == nil },
		func(b []byte) bool { _, err := decodeAnnounced(b); return err == nil },
		func(b []byte) bool { _, err := decodeAccepted(b); return err == nil },
		func(b []byte) bool { _, ok := decodeHelloAnswer(b); return ok },
		func(b []byte) bool { _, ok := decodeHelloRequest(b); return ok },
	} {
		for n := range whole[i] {
			if decode(whole[i][:n]) {
				t.Errorf("message %d: its first %d bytes were taken for the whole", i, n)
			}
		}
		if !decode(whole[i]) {
			t.Errorf("message %d: the whole was refused", i)
		}
	}
}

func TestWire_ALongStringIsCutAndNotMiscounted(t *testing.T) {
	d := decoder{b: appendString(nil, strings.Repeat("x", 1<<16+5))}
	if s := d.string(); d.err != nil || len(s) != maxFrame || len(d.b) != 0 {
		t.Errorf("got %d bytes and %d more, %v", len(s), len(d.b), d.err)
	}
}
