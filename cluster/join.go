package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/serf/serf"
)

// Join asks the nodes at addrs, each HOST[:PORT], to let this one into their
// cluster, and tells how many did. A node that is a member already answers too.
// After Leave it opens the port again.
//
// With none, the error is ErrNoKey, ErrInvalid (an address has not this form,
// or all are this node's; nothing was asked then), ErrNameTaken, ErrForeign or
// ErrNoAnswer, whichever tells most, or the cause of ctx's end; the node is what
// it was before. Each address takes 6 s at most.
func (n *Node) Join(ctx context.Context, addrs []string) (int, error) {
	if !n.networked() {
		return 0, fmt.Errorf("join: %w", ErrNoKey)
	}
	if len(addrs) == 0 {
		return 0, fmt.Errorf("join: %w: no address", ErrInvalid)
	}
	for _, a := range addrs {
		if _, _, err := splitHostPort(a); err != nil {
			return 0, fmt.Errorf("join: %w", err)
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(n.ctx, func() { cancel(ErrClosed) })()
	release, err := n.begins(ctx)
	if err != nil {
		return 0, err
	}
	defer release()

	inst, fresh := n.instance(), false
	if inst == nil {
		self := n.Self()
		if inst, err = n.newInstance(&self); err != nil {
			return 0, fmt.Errorf("join: %w", err)
		}
		fresh = true
	}
	answered, err := n.joinEach(ctx, inst, addrs)
	switch {
	case answered > 0:
		n.mu.Lock()
		n.inst = inst
		n.mu.Unlock()
		return answered, nil
	case fresh:
		n.engine.Detach()
		inst.close()
		n.forget()
	}
	return 0, fmt.Errorf("join: %w", err)
}

// joinEach asks one address after the other. err is what tells most of what
// went wrong.
func (n *Node) joinEach(ctx context.Context, inst *instance, addrs []string) (answered int, err error) {
	for _, a := range addrs {
		e := n.joinHost(ctx, inst, a)
		if e == nil {
			answered++
			continue
		}
		if ctx.Err() != nil {
			return answered, n.ended(ctx)
		}
		n.log.Warn("join", "addr", a, "err", e)
		if err == nil || telling(e) > telling(err) {
			err = e
		}
	}
	return answered, err
}

// telling ranks errors of a join.
func telling(err error) int {
	return slices.IndexFunc([]error{ErrInvalid, ErrNoAnswer, ErrForeign, ErrNameTaken},
		func(kind error) bool { return errors.Is(err, kind) })
}

// joinHost asks the node at HOST[:PORT]; of a host with several addresses the
// first that lets us in.
func (n *Node) joinHost(ctx context.Context, inst *instance, hostport string) error {
	host, port, err := splitHostPort(hostport)
	if err != nil {
		return err
	}
	var ips []netip.Addr
	if ip, err := netip.ParseAddr(host); err == nil {
		ips = []netip.Addr{ip}
	} else if ips, err = net.DefaultResolver.LookupNetIP(ctx, "ip", host); err != nil {
		return fmt.Errorf("%s: %w: %w", hostport, ErrNoAnswer, err)
	}
	for _, ip := range ips {
		addr := netip.AddrPortFrom(ip.Unmap(), port)
		e := error(nil)
		if addr == n.addr {
			e = fmt.Errorf("%s: %w: it is the address of this node", hostport, ErrInvalid)
		} else if e = inst.join(ctx, addr); e == nil {
			return nil
		}
		if err == nil || telling(e) > telling(err) {
			err = e
		}
	}
	return err
}

// splitHostPort takes HOST[:PORT] apart; HOST may be an IPv6 address, which
// stands in brackets when a port follows.
func splitHostPort(s string) (host string, port uint16, err error) {
	bad := fmt.Errorf("address %q: %w: want HOST[:PORT]", s, ErrInvalid)
	host, text := s, ""
	if ip, e := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")); e == nil {
		if ip.Zone() != "" {
			return "", 0, bad
		}
		return ip.String(), DefaultPort, nil
	}
	if i := strings.LastIndexByte(s, ':'); i >= 0 {
		if host, text, err = net.SplitHostPort(s); err != nil || text == "" {
			return "", 0, bad
		}
	}
	if host == "" || len(host) > 253 || strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '/' || r == '%' }) {
		return "", 0, bad
	}
	if text == "" {
		return host, DefaultPort, nil
	}
	p, e := strconv.ParseUint(text, 10, 16)
	if e != nil || p == 0 {
		return "", 0, bad
	}
	return host, uint16(p), nil
}

// join asks the node at addr. The connection is made first, then both compare
// what they know.
func (in *instance) join(ctx context.Context, addr netip.AddrPort) error {
	conn, drop, err := in.trans.dialJoin(ctx, addr.String(), streamTimeout)
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("%s: %w: %w", addr, ErrNoAnswer, err)
	}
	defer drop()
	// Serf joins one at a time anyway; so the gate's refusal is that of this join.
	select {
	case in.joining <- struct{}{}:
		defer func() { <-in.joining }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	in.gate.refused.Store(nil)
	met, err := in.serf.Join([]string{addr.String()}, true)
	switch {
	case met > 0:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case in.serf.State() != serf.SerfAlive:
		return ErrClosed
	}
	if why := in.gate.why(addr); why != nil {
		return fmt.Errorf("%s: %w", addr, why)
	}
	if !conn.answered() {
		return fmt.Errorf("%s: %w", addr, ErrNoAnswer)
	}
	in.log.Debug("join", "addr", addr, "err", err)
	return fmt.Errorf("%s: %w", addr, ErrForeign)
}

// Leave tells the members that this node goes, and goes: afterwards it is a
// cluster of one, listens on no port, knows no peers, and asks nobody until it
// is told to Join. In a cluster of one it does the same. ctx bounds the wait for
// other operations; the leave itself takes at most 2 s.
func (n *Node) Leave(ctx context.Context) error {
	release, err := n.begins(ctx)
	if err != nil {
		return err
	}
	defer release()
	n.seeded.Store(true) // nobody is asked any more
	inst := n.instance()
	if inst == nil {
		return nil
	}
	self := n.Self()
	self.State = Leaving
	n.put(self)
	if !n.alone() {
		inst.leave(tagsOf(n.Self(), n.hash))
	}
	n.mu.Lock()
	n.inst = nil
	n.mu.Unlock()
	n.engine.Detach()
	inst.close()
	n.forget()
	n.log.Info("left the cluster")
	return n.writePeers()
}

// forget makes the node a cluster of one in its own eyes. There must be no
// instance any more.
func (n *Node) forget() {
	n.mu.Lock()
	clear(n.old)
	n.mu.Unlock()
	for _, m := range n.Members() {
		n.drop(m.Name)
	}
	self := n.Self()
	self.State = Alive
	n.put(self)
}

// Remove makes all members forget one that has failed or left, and nobody looks
// for it any more. The error is ErrAlive for one that takes part,
// ErrUnknownMember for one that is not known, ErrInvalid for this node itself,
// or the cause of ctx's end, which bounds the wait for other operations.
func (n *Node) Remove(ctx context.Context, name string) error {
	release, err := n.begins(ctx)
	if err != nil {
		return err
	}
	defer release()
	n.mu.Lock()
	m, known := n.table[name]
	_, met := n.old[name]
	n.mu.Unlock()
	switch {
	case name == n.conf.Name:
		return fmt.Errorf("remove %s: %w: it is this node", name, ErrInvalid)
	case !known && !met:
		return fmt.Errorf("remove %s: %w", name, ErrUnknownMember)
	case known && (m.State.In() || m.In):
		return fmt.Errorf("remove %s: %w", name, ErrAlive)
	}
	if inst := n.instance(); inst != nil && known {
		if err := inst.serf.RemoveFailedNodePrune(name); err != nil {
			// It is queued, and goes out when there is somebody to tell.
			n.log.Warn("remove: not all may know yet", "name", name, "err", err)
		}
	}
	n.drop(name)
	return nil
}
