package rendezvous

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// AnnounceOpts says how to announce.
type AnnounceOpts struct {
	// Raw: clients are not accepted here, Listeners are handed to a server that does. Their peers are then unproved, so
	// user and group over tcp are EOPNOTSUPP.
	Raw bool
	// Server: it is announced for its --lib server, whose owner's the name is. c is who the server runs as: the owner, or
	// for an instance of a user of root's server that user. Only a Launcher sets it.
	Server bool
}

// Announcement is a service that is announced on this host. Its methods may be called from many goroutines.
type Announcement struct {
	host    *Host
	path    Path
	element string
	key     instance
	holder  uint32 // whose the name is: the caller's, or the owner's of the server
	caller  Caller
	opts    AnnounceOpts

	accepted atomic.Bool // with Server: it has accepted once

	live bool // guarded by host.mu: it can be found

	// Set before it is live, not changed after.
	addrs     []netip.AddrPort
	listeners []*listener   // TCP, accepting
	local     *unixListener // FDP, accepting
	datagrams *demux        // UDP, receiving
	raw       []int         // Raw: the sockets

	close sync.Once
	queue queue

	mu       sync.Mutex
	mode     uint32 // guarded by mu
	uid, gid uint32 // guarded by mu
}

// Announce announces p on this host for c, until Close.
//
// A service listens at the cluster address and on loopback; with user or group on loopback only. Its port is SERVICE, if
// that is a number; that of the system's service table; else the computed port, or the next one that is free. A service
// with user, group or a qualifier has any port that is free, and so has "0", whose Path then has the number. A service
// of FDP listens on a socket "ELEMENT,sock" in the folder of the sockets, which is made with c's identity.
//
// Errors are *Error: Permission (EROFS) for a host other than "local"; Permission (EACCES) for a caller in another
// network namespace, for a port that c may not have, for a name that is somebody else's, and for a user or group that is
// not c's; Busy (EADDRINUSE) where it is announced already or the port is taken; Unavailable: ENOSPC where c has
// announced too much, EOPNOTSUPP for user and group over udp, and for what Raw cannot keep; Invalid: the malformed, and ENAMETOOLONG for a socket's name.
func (h *Host) Announce(ctx context.Context, c Caller, p Path, o AnnounceOpts) (*Announcement, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	fail := func(kind Kind, why string, errno unix.Errno) (*Announcement, error) {
		return nil, announceError(p, kind, fmt.Errorf("%s: %w", why, errno))
	}
	switch {
	case p.Host != "local":
		return fail(Permission, "only the host local can be announced at", unix.EROFS)
	case c.TGID == 0:
		return nil, denied("announce", p, "the caller is not known")
	case p.Proto == FDP && p.Service == "0":
		return fail(Invalid, "0 is no name of a socket", unix.EINVAL)
	}
	if err := h.sameNet("announce", c, p); err != nil {
		return nil, err
	}
	p, err := resolveIDs(c, p)
	if err != nil {
		return nil, err
	}
	if err := mayName("announce", c, p); err != nil {
		return nil, err
	}
	p.Options = Options{User: p.Options.User, Group: p.Options.Group, Other: p.Options.Other, Qualifiers: p.Options.Qualifiers}
	a := &Announcement{host: h, path: p, element: p.Element(), caller: c, opts: o}
	a.queue.init(h, c.UID)
	a.setMode()
	if p.unprovable() {
		return fail(Unavailable, "nobody can prove over udp who he is", unix.EOPNOTSUPP)
	}
	if o.Raw && a.unprovable() {
		return fail(Unavailable, "who accepts his clients himself cannot prove who they are", unix.EOPNOTSUPP)
	}
	if !h.take(c.UID, AnnounceLimit) {
		return fail(Unavailable, "too many services are announced", unix.ENOSPC)
	}
	if err := a.start(ctx); err != nil {
		h.give(c.UID, AnnounceLimit)
		return nil, err
	}
	return a, nil
}

func announceError(p Path, kind Kind, err error) error {
	return &Error{Op: "announce", Path: p.String(), Kind: kind, Err: err}
}

// restricted tells whether only some users may connect.
func (a *Announcement) restricted() bool { return a.path.Options.restricted() }

func (o Options) restricted() bool { return o.User != nil || o.Group != nil }

// unprovable tells whether the path asks for an identity that its protocol cannot prove. See demux.
func (p Path) unprovable() bool { return p.Proto == UDP && p.Options.restricted() }

// unprovable tells whether the restriction needs an identity that only an accepting Host has. For FDP the kernel checks
// the owner or the group of the socket, but not both.
func (a *Announcement) unprovable() bool {
	if a.path.Proto == FDP {
		return a.path.Options.User != nil && a.path.Options.Group != nil
	}
	return a.restricted()
}

func (a *Announcement) setMode() {
	a.mode, a.uid, a.gid = 0o666, a.caller.UID, a.caller.GID
	if id := a.path.Options.Group; id != nil {
		a.mode, a.gid = 0o660, id.N
	}
	if id := a.path.Options.User; id != nil {
		a.mode, a.uid = 0o600, id.N
	}
}

// start takes the name, listens and goes live.
func (a *Announcement) start(ctx context.Context) error {
	port, err := a.port(ctx)
	if err != nil {
		return err
	}
	if a.path.Service == "0" {
		// The name is the port's number, which comes first.
		if err := a.listen(ctx, port); err != nil {
			return err
		}
		a.path.Service = strconv.Itoa(int(a.addrs[0].Port()))
		a.element = a.path.Element()
		if err := a.hold(port); err != nil {
			a.closeSockets()
			return err
		}
	} else {
		if err := a.hold(port); err != nil {
			return err
		}
		if err := a.listen(ctx, port); err != nil {
			a.release()
			return err
		}
	}
	if !a.goLive() {
		a.closeSockets()
		a.release()
		return announceError(a.path, Unavailable, fmt.Errorf("the daemon ends: %w", unix.ESHUTDOWN))
	}
	return nil
}

// hold takes the name.
func (a *Announcement) hold(port portChoice) error {
	h := a.host
	var owner *uint32
	if h.launcher != nil {
		if uid, ok := h.launcher.Owner(a.path); ok {
			owner = &uid
		}
	}
	a.key, _ = instanceOf(a.path)
	h.mu.Lock()
	defer h.mu.Unlock()
	a.holder = holder(a.caller, a.path, a.opts, owner)
	if err := h.mayHold(a, port.table, owner); err != nil {
		return err
	}
	h.announced[a.key] = a
	return nil
}

func (a *Announcement) release() {
	a.host.mu.Lock()
	defer a.host.mu.Unlock()
	delete(a.host.announced, a.key)
}

func (a *Announcement) goLive() bool {
	h := a.host
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	a.live = true
	for _, addr := range a.addrs {
		h.table(a.path.Proto)[addr] = a
	}
	for _, l := range a.listeners {
		go l.serve()
	}
	if a.local != nil {
		go a.local.serve()
	}
	if a.datagrams != nil {
		a.datagrams.start()
	}
	return true
}

// Path returns what is announced: PROTO, SERVICE and the options that make it an instance, user and group as numbers.
// Where any port was asked for, SERVICE is its number.
func (a *Announcement) Path() Path { return a.path }

// Addrs returns where it listens; none for FDP.
func (a *Announcement) Addrs() []netip.AddrPort { return a.addrs }

// Caller returns who has announced it.
func (a *Announcement) Caller() Caller { return a.caller }

// Mode returns permissions, owner and group of the name, as ls -l shows them: 0666 of the announcer; with user 0600 of
// that user, with group 0660 of that group; as Chmod and Chown left them.
func (a *Announcement) Mode() (mode, uid, gid uint32) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.mode, a.uid, a.gid
}

// Chmod changes the permissions: who may not write may not connect. It does not touch the socket of FDP, whose own
// permissions are the file system's.
func (a *Announcement) Chmod(mode uint32) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mode = mode & 0o777
}

// Chown changes owner and group. NoID leaves one as it is.
func (a *Announcement) Chown(uid, gid uint32) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if uid != NoID {
		a.uid = uid
	}
	if gid != NoID {
		a.gid = gid
	}
}

// Listeners returns the sockets of a Raw announcement, for UDP the bound ones; they stay a's. They are blocking: the
// server changes that if it likes.
func (a *Announcement) Listeners() []int { return a.raw }

// Close ends it: clients that still wait are reset, the port and the name are free when it returns. Connections that
// Next has given out go on, but for UDP, whose clients have their port in common. The socket of FDP goes by HostOpts.Unlink:
// Close makes no request to the file system.
func (a *Announcement) Close() {
	a.close.Do(func() {
		h := a.host
		h.mu.Lock()
		a.live = false
		for _, addr := range a.addrs {
			delete(h.table(a.path.Proto), addr)
		}
		h.mu.Unlock()
		a.closeSockets()
		a.queue.end()
		a.release()
		h.give(a.caller.UID, AnnounceLimit)
	})
}

func (a *Announcement) closeSockets() {
	for _, l := range a.listeners {
		l.close()
	}
	if a.local != nil {
		a.local.close()
	}
	if a.datagrams != nil {
		a.datagrams.close()
	}
	for _, fd := range a.raw {
		unix.Close(fd)
	}
	if a.path.Proto == FDP {
		a.host.opts.Unlink(a.socketName())
	}
}

// errEndedAnnouncement is what a client meets whose service goes while he connects.
var errEndedAnnouncement = errors.New("the service is not announced any more")
