package cluster

import (
	"errors"
	"maps"
	"math"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/serf/serf"
)

// brought is a member as another node brings it.
func brought(m Member) *serf.Member {
	return &serf.Member{Name: m.Name, Addr: net.IP(m.Addr.Addr().AsSlice()), Port: m.Addr.Port(),
		Tags: tagsOf(m, hashCluster("c"))}
}

func newGate(known ...Member) *gate {
	table := map[string]Member{}
	for _, m := range known {
		table[m.Name] = m
	}
	g := &gate{self: at(1), name: "me", boot: 10, cluster: hashCluster("c"), view: &atomic.Pointer[view]{}}
	g.view.Store(newView(table))
	return g
}

func TestGate_LetsInAndKeepsOut(t *testing.T) {
	good := Member{ID: 7, Name: "web2", Addr: at(2), State: Alive, Boot: 3, Version: "1"}
	for _, tt := range []struct {
		name   string
		change func(sm *serf.Member)
		want   error // nil: let in
	}{
		{"a good one", func(sm *serf.Member) {}, nil},
		{"this node itself", func(sm *serf.Member) { sm.Name, sm.Addr = "me", net.IPv4(10, 0, 0, 1) }, nil},
		{"IPv4 in 16 bytes", func(sm *serf.Member) { sm.Addr = net.IPv4(10, 0, 0, 2).To16() }, nil},
		{"a later protocol too", func(sm *serf.Member) { sm.Tags[tagProtocol] = "1-9" }, nil},
		{"a foreign tag", func(sm *serf.Member) { sm.Tags["x"] = "\x00" }, nil},
		{"another cluster", func(sm *serf.Member) { sm.Tags[tagCluster] = hashCluster("d") }, ErrForeign},
		{"no tags", func(sm *serf.Member) { clear(sm.Tags) }, ErrInvalid},
		{"only a later protocol", func(sm *serf.Member) { sm.Tags[tagProtocol] = "2-9" }, ErrForeign},
		{"a range upside down", func(sm *serf.Member) { sm.Tags[tagProtocol] = "9-1" }, ErrForeign},
		{"no range", func(sm *serf.Member) { sm.Tags[tagProtocol] = "1" }, ErrForeign},
		{"name of a path", func(sm *serf.Member) { sm.Name = "../x" }, ErrInvalid},
		{"name with a newline", func(sm *serf.Member) { sm.Name = "a\nb" }, ErrInvalid},
		{"no name", func(sm *serf.Member) { sm.Name = "" }, ErrInvalid},
		{"name with a meaning", func(sm *serf.Member) { sm.Name = "share" }, ErrInvalid},
		{"no address", func(sm *serf.Member) { sm.Addr = nil }, ErrInvalid},
		{"any address", func(sm *serf.Member) { sm.Addr = net.IPv4zero }, ErrInvalid},
		{"multicast", func(sm *serf.Member) { sm.Addr = net.IPv4(224, 0, 0, 1) }, ErrInvalid},
		{"port 0", func(sm *serf.Member) { sm.Port = 0 }, ErrInvalid},
		{"number 0", func(sm *serf.Member) { sm.Tags[tagID] = "0" }, ErrInvalid},
		{"number of 33 bits", func(sm *serf.Member) { sm.Tags[tagID] = "4294967296" }, ErrInvalid},
		{"boot 0", func(sm *serf.Member) { sm.Tags[tagBoot] = "0" }, ErrInvalid},
		{"boot just near enough", func(sm *serf.Member) { sm.Tags[tagBoot] = strconv.FormatUint(10+1<<32, 10) }, nil},
		{"boot too far ahead", func(sm *serf.Member) { sm.Tags[tagBoot] = strconv.FormatUint(11+1<<32, 10) }, ErrInvalid},
		{"the last boot", func(sm *serf.Member) { sm.Tags[tagBoot] = strconv.FormatUint(math.MaxUint64, 10) }, ErrInvalid},
		{"our name elsewhere", func(sm *serf.Member) { sm.Name = "me" }, ErrNameTaken},
		{"a living member's name", func(sm *serf.Member) { sm.Name = "web3" }, ErrNameTaken},
		{"a failed member's name", func(sm *serf.Member) { sm.Name = "web4" }, nil},
		{"our name, but it left", func(sm *serf.Member) { sm.Name, sm.Status = "me", serf.StatusLeft }, nil},
	} {
		g := newGate(Member{ID: 3, Name: "web3", Addr: at(3), State: Alive, Boot: 1}, Member{ID: 4, Name: "web4", Addr: at(4), State: Failed, Boot: 1})
		sm := brought(good)
		tt.change(sm)
		err := g.NotifyMerge([]*serf.Member{brought(good), sm})
		if !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
		if why := g.why(at(2)); !errors.Is(why, tt.want) || (why == nil) != (tt.want == nil) {
			t.Errorf("%s: why tells %v, want %v", tt.name, why, tt.want)
		}
		if why := g.why(at(99)); why != nil {
			t.Errorf("%s: why tells %v of a node that was not there", tt.name, why)
		}
	}
}

func TestMemberOf_WhatWeWouldNotWriteIsLeftOut(t *testing.T) {
	sm := brought(Member{ID: 7, Name: "web2", Addr: at(2), Boot: 3, Version: "1.0", Tags: map[string]string{"zone": "a"}})
	sm.Tags[userPrefix+"bad key"] = "x"
	sm.Tags[userPrefix+"esc"] = "\x1b[2J"
	sm.Tags[userPrefix+"state"] = "alive"
	m, err := memberOf(sm)
	if err != nil || m.Version != "1.0" || !maps.Equal(m.Tags, map[string]string{"zone": "a"}) {
		t.Errorf("%+v, %v", m, err)
	}
	for _, version := range []string{"a\nb", strings.Repeat("1", 33)} {
		sm.Tags[tagRelease] = version
		if m, err := memberOf(sm); err != nil || m.Version != "" {
			t.Errorf("version %q is read as %q, %v", version, m.Version, err)
		}
	}
}

func TestMemberOf_GoodbyeTurnsFailedIntoLeft(t *testing.T) {
	for _, tt := range []struct {
		status  serf.MemberStatus
		goodbye bool
		want    State
	}{
		{serf.StatusAlive, false, Alive}, {serf.StatusAlive, true, Leaving},
		{serf.StatusFailed, false, Failed}, {serf.StatusFailed, true, Left},
		{serf.StatusLeaving, false, Leaving}, {serf.StatusLeft, false, Left}, {serf.StatusLeft, true, Left},
	} {
		sm := brought(Member{ID: 7, Name: "web2", Addr: at(2), Boot: 3})
		sm.Status = tt.status
		if tt.goodbye {
			sm.Tags[tagLeaving] = "1"
		}
		if m, err := memberOf(sm); err != nil || m.State != tt.want {
			t.Errorf("%v, goodbye %v: %v, %v, want %v", tt.status, tt.goodbye, m.State, err, tt.want)
		}
	}
}

func TestSplitHostPort(t *testing.T) {
	for in, want := range map[string]string{
		"web1":               "web1 7947",
		"web1:80":            "web1 80",
		"127.0.0.1":          "127.0.0.1 7947",
		"127.0.0.1:1":        "127.0.0.1 1",
		"::1":                "::1 7947",
		"[::1]":              "::1 7947",
		"[::1]:65535":        "::1 65535",
		"a.example.org:7000": "a.example.org 7000",
		"":                   "",
		":80":                "",
		"a:":                 "",
		"a:0":                "",
		"a:65536":            "",
		"a:http":             "",
		"a:1:2":              "",
		"a b":                "",
		"a/b":                "",
		"node/10.0.0.1:80":   "",
		"fe80::1%eth0":       "",
		"[fe80::1%eth0]:80":  "",
		"a\n":                "",
	} {
		host, port, err := splitHostPort(in)
		got := host + " " + strconv.Itoa(int(port))
		if want == "" && !errors.Is(err, ErrInvalid) || want != "" && (err != nil || got != want) {
			t.Errorf("splitHostPort(%q) = %q, %v, want %q", in, got, err, want)
		}
	}
}

func TestChooseAddr_PrivateFirst(t *testing.T) {
	nets := func(ss ...string) (out []net.Addr) {
		for _, s := range ss {
			p := netip.MustParsePrefix(s)
			out = append(out, &net.IPNet{IP: net.IP(p.Addr().AsSlice()), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())})
		}
		return out
	}
	for _, tt := range []struct {
		in   []net.Addr
		want string
	}{
		{nets("127.0.0.1/8", "203.0.113.7/24", "10.1.2.3/8"), "10.1.2.3"},
		{nets("127.0.0.1/8", "fe80::1/64", "2001:db8::7/64"), "2001:db8::7"},
		{nets("127.0.0.1/8", "203.0.113.7/24", "2001:db8::7/64"), "203.0.113.7"},
		{nets("127.0.0.1/8", "::1/128"), "127.0.0.1"},
		{nil, "127.0.0.1"},
	} {
		if got := chooseAddr(tt.in); got.String() != tt.want {
			t.Errorf("of %v: %v, want %s", tt.in, got, tt.want)
		}
	}
}
