package rendezvous

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// resolveTimeout bounds the look-up of a host name for a ctx that has no deadline.
const resolveTimeout = 30 * time.Second

// Members knows the members of the cluster. The cluster gives it to the Resolver, which calls it from many goroutines
// at once.
type Members interface {
	// Member returns the address of the member of that name; ok is false if there is none. It answers from memory and
	// must not block.
	Member(name string) (addr netip.Addr, ok bool)
}

// Resolver finds out where a Path leads. The zero value knows no members and asks the system. It may be used from many
// goroutines; its fields are not changed after the first use.
type Resolver struct {
	Members Members       // optional
	Net     *net.Resolver // optional: net.DefaultResolver
}

// Target is where a Path leads.
type Target struct {
	Proto Proto
	Path  string           // the canonical path, for errors; may be empty
	Addrs []netip.AddrPort // in the order in which to try them; none for FDP
	Node  string           // the name of the member that was named, else ""
	Local bool             // it is this host for sure: "local" or a loopback address, without the option remote
}

// Resolve finds the addresses of p.
//
// HOST is, in this order: "local", both loopback addresses; "share", which only a directory of announced services can
// answer, and there is none in this package: NotExist; an address; a member's name; a host name. (An address comes
// before the members, so that no member can call itself 10.0.0.1 and get that host's connections.) A host name is asked
// of the resolver for at most 30 s or until ctx ends; its addresses are interleaved by family as RFC 8305, section 4,
// has it, beginning with the family that the resolver puts first.
//
// SERVICE is, in this order: a port number; a name in the system's service table; a computed port. With user, group or
// a qualifier the path names an announced instance, for which nothing of these can stand: NotExist.
//
// Errors are *Error: NotExist for an unknown host; Timeout (ETIMEDOUT) when the name servers do not answer; Unavailable
// (EAGAIN: ask again later, as EAI_AGAIN of getaddrinfo(3)) when they fail; Invalid for port 0 and malformed paths;
// Unavailable (EOPNOTSUPP) for create, since that announces and does not connect, and Permission (EROFS) for create on
// another host; Other (EINTR) when ctx is cancelled. For FDP the Target has no addresses: see DialUnix.
func (r *Resolver) Resolve(ctx context.Context, p Path) (Target, error) {
	if err := p.Validate(); err != nil {
		return Target{}, err
	}
	t := Target{Proto: p.Proto, Path: p.String()}
	fail := func(kind Kind, err error) (Target, error) {
		return Target{}, &Error{Op: "resolve", Path: t.Path, Kind: kind, Err: err}
	}
	switch o := p.Options; {
	case o.Create && p.Host != "local":
		return fail(Permission, fmt.Errorf("create is for the host local only: %w", unix.EROFS))
	case o.Create:
		return fail(Unavailable, fmt.Errorf("announced, not resolved: %w", unix.EOPNOTSUPP))
	case p.Service == "0":
		return fail(Invalid, errors.New("port 0 is for create only"))
	case o.Instance():
		return fail(NotExist, errors.New("no such instance is announced"))
	case p.Host == "share":
		return fail(NotExist, errors.New("no member is known to run the service"))
	}
	if p.Proto == FDP {
		t.Local = !p.Options.Remote
		return t, nil
	}
	port, err := r.port(ctx, p)
	if err != nil {
		return Target{}, r.lookupError(ctx, t.Path, err)
	}
	addrs, node, err := r.host(ctx, p.Host)
	if err != nil {
		return Target{}, r.lookupError(ctx, t.Path, err)
	}
	t.Node = node
	t.Local = !p.Options.Remote
	t.Addrs = make([]netip.AddrPort, 0, len(addrs))
	for _, a := range addrs {
		t.Local = t.Local && a.IsLoopback()
		t.Addrs = append(t.Addrs, netip.AddrPortFrom(a, port))
	}
	return t, nil
}

func (r *Resolver) net() *net.Resolver {
	if r.Net != nil {
		return r.Net
	}
	return net.DefaultResolver
}

func (r *Resolver) port(ctx context.Context, p Path) (uint16, error) {
	if n, err := strconv.ParseUint(p.Service, 10, 16); err == nil {
		return uint16(n), nil
	}
	n, ok, err := r.tablePort(ctx, p.Proto, p.Service)
	if err == nil && !ok {
		n = ComputedPort(p.Service)
	}
	return n, err
}

// tablePort returns the port of a name in the system's service table.
func (r *Resolver) tablePort(ctx context.Context, proto Proto, name string) (port uint16, ok bool, err error) {
	n, err := r.net().LookupPort(ctx, proto.String(), name)
	var dns *net.DNSError
	var addr *net.AddrError
	switch {
	case err == nil && n > 0 && n < 1<<16:
		return uint16(n), true, nil
	case err == nil, errors.As(err, &addr), errors.As(err, &dns) && dns.IsNotFound:
		return 0, false, nil
	}
	return 0, false, err
}

func (r *Resolver) host(ctx context.Context, host string) (addrs []netip.Addr, node string, err error) {
	if host == "local" {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}, "", nil
	}
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a.Unmap()}, "", nil
	}
	if r.Members != nil {
		if a, ok := r.Members.Member(host); ok {
			if !a.IsValid() {
				return nil, "", fmt.Errorf("member %s has no address: %w", host, unix.EHOSTUNREACH)
			}
			return []netip.Addr{a.Unmap()}, host, nil
		}
	}
	if looksNumeric(host) {
		return nil, "", &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	bounded, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	addrs, err = r.net().LookupNetIP(bounded, "ip", host)
	if err != nil {
		return nil, "", err
	}
	if len(addrs) == 0 {
		return nil, "", &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return interleave(addrs), "", nil
}

// lookupError turns what the resolver said into an *Error. An end of ctx explains all else.
func (r *Resolver) lookupError(ctx context.Context, path string, err error) error {
	if ctx.Err() != nil {
		return contextError(ctx, "resolve", path)
	}
	e := &Error{Op: "resolve", Path: path, Kind: Unavailable, Err: err}
	var dns *net.DNSError
	var errno unix.Errno
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		e.Kind = NotExist
	case errors.As(err, &dns) && dns.IsTimeout, errors.Is(err, context.DeadlineExceeded):
		e.Kind, e.Err = Timeout, fmt.Errorf("%w: %w", unix.ETIMEDOUT, err)
	case dns == nil && errors.As(err, &errno):
		e.Kind = errnoKind(errno)
	default:
		// First in the chain, so that an errno of the resolver's own socket, such as ECONNREFUSED of a name server,
		// is not taken for the answer of the host.
		e.Err = fmt.Errorf("%w: %w", unix.EAGAIN, err)
	}
	return e
}

// interleave orders addresses by turns of family and drops doubles. Within a family the order is kept: the resolver has
// sorted by RFC 6724.
func interleave(addrs []netip.Addr) []netip.Addr {
	var first, second []netip.Addr
	for _, a := range addrs {
		a = a.Unmap()
		to := &first
		if len(first) > 0 && first[0].Is4() != a.Is4() {
			to = &second
		}
		if !slices.Contains(*to, a) {
			*to = append(*to, a)
		}
	}
	out := make([]netip.Addr, 0, len(first)+len(second))
	for i := range max(len(first), len(second)) {
		if i < len(first) {
			out = append(out, first[i])
		}
		if i < len(second) {
			out = append(out, second[i])
		}
	}
	return out
}
