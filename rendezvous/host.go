package rendezvous

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// A Limit is something of which one user may hold so much and no more.
type Limit uint8

const (
	DialLimit     Limit = iota // connections being made
	AnnounceLimit              // announcements
	WaitLimit                  // clients that wait for announcements of the user
)

// Limits counts what users hold. Its methods are called from many goroutines and must not wait.
type Limits interface {
	// Take counts one more for uid, or returns false where that is too many.
	Take(uid uint32, what Limit) bool
	// Give takes back what Take has counted.
	Give(uid uint32, what Limit)
}

// A Launcher starts servers on demand. The Host calls it from many goroutines at once.
type Launcher interface {
	// Owner returns the uid of the owner of p's server, if there is one that may be started here or elsewhere. It looks
	// into folders of this host only.
	Owner(p Path) (uid uint32, ok bool)
	// Start starts the server of p, which nobody announces here, and returns when it can be connected to, or with the
	// reason why it cannot. For many callers at once it starts it once. NotExist (ENOENT): there is no server for it.
	Start(ctx context.Context, c Caller, p Path) error
	// Accepted waits until the server that was or is being started for p has taken clients off its listening socket once.
	// Host.Open calls it after it has connected to an announcement with AnnounceOpts.Server, until it has returned nil for
	// one, but not for the option now. p is the announcement's. The error, ECONNREFUSED: the server did not start, has ended, or has accepted nobody for 10 s.
	Accepted(ctx context.Context, p Path) error
}

// HostOpts are what a Host is made of.
type HostOpts struct {
	Resolver    *Resolver         // required
	Log         *slog.Logger      // required
	Addr        func() netip.Addr // optional: this node's cluster address, at which announced services listen besides loopback; an invalid one: loopback only
	Self        string            // optional: this member's name
	SocketDir   string            // required for fdp: the folder of the sockets, dev/fdp/local of the mount
	Unlink      func(name string) // required for fdp: makes a socket's name in SocketDir go away, without a request to the file system
	Limits      Limits            // optional
	ForeignNet  bool              // optional: callers of other network namespaces may connect and announce
	DialTimeout time.Duration     // optional: DefaultTimeout
}

// A Host is the rendezvous of this host: what is announced here, and the way from a path to a connection. It may be
// used from many goroutines.
type Host struct {
	opts     HostOpts
	launcher Launcher // set once by SetLauncher, before use
	waiting  *budget  // clients
	unread   *budget  // bytes of datagrams

	mu        sync.Mutex
	announced map[instance]*Announcement       // guarded by mu; those not yet live hold their name
	listening map[netip.AddrPort]*Announcement // guarded by mu; live TCP services by where they listen
	bound     map[netip.AddrPort]*Announcement // guarded by mu; live UDP services likewise
	closed    bool                             // guarded by mu
}

// NewHost returns a Host on which nothing is announced.
func NewHost(o HostOpts) *Host {
	return &Host{
		opts:      o,
		announced: map[instance]*Announcement{},
		listening: map[netip.AddrPort]*Announcement{},
		bound:     map[netip.AddrPort]*Announcement{},
		waiting:   newWaitingBudget(maxFiles()),
		unread:    newDatagramBudget(),
	}
}

// SetLauncher names who starts servers. It is called before the first Open.
func (h *Host) SetLauncher(l Launcher) { h.launcher = l }

// instance is what makes two announcements the same service. What is announced is one for each.
type instance struct {
	proto      Proto
	service    string
	user       uint32 // NoID: not given
	group      uint32 // likewise
	qualifiers string // in alphabetical order, separated by commas
}

// instanceOf returns what p names, whose ID options are numbers; ok is false if they are not.
func instanceOf(p Path) (i instance, ok bool) {
	i = instance{proto: p.Proto, service: p.Service, user: NoID, group: NoID}
	for _, id := range []struct {
		from *ID
		to   *uint32
	}{{p.Options.User, &i.user}, {p.Options.Group, &i.group}} {
		if id.from == nil {
			continue
		}
		if id.from.Self || id.from.Name != "" {
			return i, false
		}
		*id.to = id.from.N
	}
	if q := p.Options.Qualifiers; len(q) > 0 {
		q = slices.Clone(q)
		slices.Sort(q)
		i.qualifiers = strings.Join(q, ",")
	}
	return i, true
}

// Announced returns what is announced here of a protocol, in the order of names.
func (h *Host) Announced(proto Proto) []*Announcement {
	h.mu.Lock()
	var as []*Announcement
	for i, a := range h.announced {
		if i.proto == proto && a.live {
			as = append(as, a)
		}
	}
	h.mu.Unlock()
	slices.SortFunc(as, func(a, b *Announcement) int { return strings.Compare(a.element, b.element) })
	return as
}

// Find returns the announcement that p, without create, names on this host: the same service, user, group and
// qualifiers, in any order. Other options do not matter, nor does p's host. An instance whose user or group is given by
// name, or not at all, is not found: see Path of Announcement.
func (h *Host) Find(p Path) (*Announcement, bool) {
	i, ok := instanceOf(p)
	if !ok {
		return nil, false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	a, ok := h.announced[i]
	if !ok || !a.live {
		return nil, false
	}
	return a, true
}

// at returns who listens at an address.
func (h *Host) at(proto Proto, addr netip.AddrPort) (*Announcement, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	a, ok := h.table(proto)[netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())]
	return a, ok
}

// table is called with h.mu held.
func (h *Host) table(proto Proto) map[netip.AddrPort]*Announcement {
	if proto == UDP {
		return h.bound
	}
	return h.listening
}

// addr returns the cluster address, or an invalid one.
func (h *Host) addr() netip.Addr {
	if h.opts.Addr == nil {
		return netip.Addr{}
	}
	return h.opts.Addr().Unmap()
}

func (h *Host) timeout() time.Duration {
	if h.opts.DialTimeout > 0 {
		return h.opts.DialTimeout
	}
	return DefaultTimeout
}

// Close ends all announcements, and nothing can be announced any more.
func (h *Host) Close() {
	h.mu.Lock()
	h.closed = true
	var as []*Announcement
	for _, a := range h.announced {
		if a.live {
			as = append(as, a)
		}
	}
	h.mu.Unlock()
	for _, a := range as {
		a.Close()
	}
}
