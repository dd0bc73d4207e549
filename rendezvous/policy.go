package rendezvous

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// denied is the error of whom the rules forbid what he asks: EACCES, with the reason for the log.
func denied(op string, p Path, why string) error {
	return &Error{Op: op, Path: p.String(), Kind: Permission, Err: fmt.Errorf("%s: %w", why, unix.EACCES)}
}

// sameNet refuses a caller from another network namespace: this process dials and listens in its own, to where the
// caller has no network.
func (h *Host) sameNet(op string, c Caller, p Path) error {
	if h.opts.ForeignNet {
		return nil
	}
	own, err := ownNet()
	if err != nil {
		return &Error{Op: op, Path: p.String(), Kind: KindOf(err), Err: fmt.Errorf("the own network namespace cannot be seen: %w", err)}
	}
	if c.NetNS != own {
		return denied(op, p, "the caller is in another network namespace")
	}
	return nil
}

// resolveIDs returns p with its user and group as numbers. Names are looked up in the system's databases, which may
// block.
func resolveIDs(c Caller, p Path) (Path, error) {
	if id := p.Options.User; id != nil {
		n, err := id.User(c.UID)
		if err != nil {
			return p, err
		}
		p.Options.User = &ID{N: n}
	}
	if id := p.Options.Group; id != nil {
		n, err := id.Group(c.GID)
		if err != nil {
			return p, err
		}
		p.Options.Group = &ID{N: n}
	}
	return p, nil
}

// mayName refuses the instances of other people: user= must be the caller's own, group= one of his. The options are
// numbers.
func mayName(op string, c Caller, p Path) error {
	if id := p.Options.User; id != nil && id.N != c.UID && c.UID != 0 {
		return denied(op, p, "the instance belongs to another user")
	}
	if id := p.Options.Group; id != nil && !c.In(id.N) && c.UID != 0 {
		return denied(op, p, "the caller is not in the group of the instance")
	}
	return nil
}

// mayConnect applies what the announcement asks of its clients, and its permissions, which the kernel checks only where
// a file is opened.
func (a *Announcement) mayConnect(c Caller) error {
	if err := mayName("open", c, a.path); err != nil {
		return err
	}
	if mode, uid, gid := a.Mode(); !mayWrite(c, mode, uid, gid) {
		return denied("open", a.path, "the permissions of the service forbid it")
	}
	return nil
}

func mayWrite(c Caller, mode, uid, gid uint32) bool {
	switch {
	case c.UID == 0:
		return true
	case c.UID == uid:
		return mode&0o200 != 0
	case c.In(gid):
		return mode&0o020 != 0
	}
	return mode&0o002 != 0
}

// holder returns whose the name is that c announces: his own, but that of root's server is root's also where it runs as
// the user of the instance. owner is that of the server which can be started for p, nil if there is none.
func holder(c Caller, p Path, o AnnounceOpts, owner *uint32) uint32 {
	if user := p.Options.User; o.Server && owner != nil && *owner == 0 && user != nil && user.N == c.UID {
		return 0
	}
	return c.UID
}

// mayHold decides whose a service's name is. A name that somebody has announced is his; one that stands for a port in
// the system's service table is root's, and so is that of a server which can be started, unless it is its owner's. It is
// called with h.mu held, table is whether the name is in the table.
func (h *Host) mayHold(a *Announcement, table bool, owner *uint32) error {
	p := a.path
	i, _ := instanceOf(p)
	for j, b := range h.announced {
		if j.proto != i.proto || j.service != i.service {
			continue
		}
		if b.holder != a.holder && a.holder != 0 {
			return denied("announce", p, "the name belongs to another user, who has announced it")
		}
		if j == i {
			return &Error{Op: "announce", Path: p.String(), Kind: Busy, Err: fmt.Errorf("it is announced already: %w", unix.EADDRINUSE)}
		}
	}
	if a.holder == 0 {
		return nil
	}
	mine := owner != nil && *owner == a.holder
	switch {
	case owner != nil && !mine:
		return denied("announce", p, "the name belongs to the owner of the server that can be started for it")
	case table && !(a.opts.Server && mine):
		return denied("announce", p, "the name is in the system's service table and belongs to root")
	}
	return nil
}

// mayBind refuses ports that the system keeps for the privileged. The kernel cannot: it is this process that binds.
func mayBind(c Caller, p Path, port uint16) error {
	if c.UID == 0 || c.Has(unix.CAP_NET_BIND_SERVICE) {
		return nil
	}
	if start := unprivilegedStart(); int(port) < start {
		return denied("announce", p, fmt.Sprintf("port %d is below %d and needs a privilege", port, start))
	}
	return nil
}

// unprivilegedStart is asked each time, for the administrator may change it; it is of this network namespace.
func unprivilegedStart() int {
	const usual = 1024
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	if err != nil {
		return usual
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return usual
	}
	return n
}

func (h *Host) take(uid uint32, what Limit) bool {
	return h.opts.Limits == nil || h.opts.Limits.Take(uid, what)
}

func (h *Host) give(uid uint32, what Limit) {
	if h.opts.Limits != nil {
		h.opts.Limits.Give(uid, what)
	}
}

// outOfFiles says whose descriptors have run out.
func outOfFiles(err error) error {
	if errors.Is(err, unix.EMFILE) {
		return fmt.Errorf("the daemon is out of descriptors: %w", err)
	}
	return err
}
