package ipc

import (
	"context"
	"math"
	"net"
	"net/netip"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/rendezvous"
)

// PathAddr returns the address, port and protocol of a path such as /dev/tcp/db/5432, as csinet of cs(3) does. The
// service may be left out: the port is then 0.
//
// It differs from cs(3): the error tells what is wrong, IPv6 addresses are known, and a service that is not in the
// system's table has its computed port, as an open of the path would use it, where cs(3) reads numbers only. What is
// announced is not asked for: for that, open the path. HOST is resolved as by an open: see [Tree.HostAddr].
func (t *Tree) PathAddr(ctx context.Context, path string) (netip.AddrPort, rendezvous.Proto, error) {
	p, err := rendezvous.Parse(path)
	if err != nil {
		// Once more, as if there were a service.
		var whole error
		if p, whole = rendezvous.Parse(strings.TrimRight(path, "/") + "/1"); whole != nil || !folderOfHost(path) {
			return netip.AddrPort{}, 0, err
		}
	}
	if p.Proto == rendezvous.FDP {
		return netip.AddrPort{}, p.Proto, failed("resolve", path, worded{"a local service has no address", unix.EAFNOSUPPORT})
	}
	target, err := t.resolver().Resolve(ctx, p)
	if err != nil {
		return netip.AddrPort{}, p.Proto, err
	}
	addr := target.Addrs[0]
	if folderOfHost(path) {
		addr = netip.AddrPortFrom(addr.Addr(), 0)
	}
	return addr, p.Proto, nil
}

// folderOfHost tells whether a path ends with the host: PROTO/HOST, with or without dev.
func folderOfHost(path string) bool {
	elements := strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
	if len(elements) > 0 && elements[0] == "dev" {
		elements = elements[1:]
	}
	return len(elements) == 2
}

// HostAddr returns the address of a host, as csaddr of cs(3) does: "local", an address, a member of the tree's cluster, or
// a host name that the system's resolver knows. Of several it is the first. A Tree without Dir knows no members.
//
// It differs from cs(3), where 0 stands for an error, "share" for a gateway, and a cache is switched by an argument.
func (t *Tree) HostAddr(ctx context.Context, host string) (netip.Addr, error) {
	target, err := t.resolver().Resolve(ctx, rendezvous.Path{Proto: rendezvous.TCP, Host: host, Service: "1"})
	if err != nil {
		kind := rendezvous.KindOf(err)
		if told, ok := err.(*rendezvous.Error); ok {
			err = told.Err // its path has a service
		}
		return netip.Addr{}, &rendezvous.Error{Op: "resolve", Path: host, Kind: kind, Err: err}
	}
	return target.Addrs[0].Addr(), nil
}

func (t *Tree) resolver() *rendezvous.Resolver {
	if t.Dir == "" {
		return &rendezvous.Resolver{}
	}
	return &rendezvous.Resolver{Members: memberAddrs{t}}
}

// memberAddrs are the members of a tree's cluster for a Resolver.
type memberAddrs struct{ t *Tree }

// Member implements rendezvous.Members.
func (m memberAddrs) Member(name string) (netip.Addr, bool) {
	if !rendezvous.ValidName(name) {
		return netip.Addr{}, false
	}
	text, err := m.t.value("cluster/members/" + name + "/addr")
	if err != nil {
		return netip.Addr{}, false
	}
	addr, err := netip.ParseAddrPort(text)
	return addr.Addr(), err == nil
}

// AddrText returns an address as text, as csntoa of cs(3) does: "10.0.0.1". An IPv4 address that is written as an IPv6
// one is told as IPv4. Unlike cs(3) it knows IPv6, and the text is the caller's to keep. The zero Addr, no address, is
// "0.0.0.0", as the 0 that cs(3) has for it.
func AddrText(a netip.Addr) string {
	if !a.IsValid() {
		return "0.0.0.0"
	}
	return a.Unmap().String()
}

// HostName returns the name of this host up to its first dot, as csname of cs(3) does. There is always one: "localhost"
// if the system has none. In a cluster the member's name is [Tree.Self].
func HostName() string {
	name, _, _ := strings.Cut(wholeHostName(), ".")
	return name
}

// FullHostName returns the name of this host with its domain, as csfull of cs(3) does: as the system has it, or else as
// its resolver completes it; without a domain where neither knows one. It waits for the resolver until ctx ends.
func FullHostName(ctx context.Context) string {
	name := wholeHostName()
	if strings.Contains(name, ".") {
		return name
	}
	full, err := net.DefaultResolver.LookupCNAME(ctx, name)
	full = strings.TrimSuffix(full, ".")
	if err != nil || !strings.HasPrefix(full, name+".") {
		return name
	}
	return full
}

func wholeHostName() string {
	name, err := os.Hostname()
	name = strings.Trim(name, ".")
	if err != nil || name == "" || name == "(none)" {
		return "localhost"
	}
	return name
}

// leastFDs is what cs(3) promises of csfdmax.
const leastFDs = 20

// MaxFDs returns how many descriptors this process may have open, as csfdmax of cs(3) does; at least 20 whatever the
// limit. A Go program has raised its limit as far as it may (see package os).
func MaxFDs() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return leastFDs
	}
	return int(max(min(limit.Cur, math.MaxInt32), leastFDs))
}
