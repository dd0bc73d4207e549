package group

import (
	"context"
	"syscall"
	"time"
)

// maxLocals is how many memberships a user may have on this node, root
// excepted. One counts until the log has its leave.
const maxLocals = 1024

// JoinOpts are how to join.
type JoinOpts struct {
	Create bool // make the group when it is missing; else that is ENOENT
}

// Join makes c a member of the group and returns once the join is ordered; its
// first record then waits. EACCES, ENOENT, ENOSPC, ENAMETOOLONG, ENETDOWN (the
// group needs a quorum, and the ring is none). EINTR or
// ETIMEDOUT when ctx ends first: then it leaves again as soon as it has joined.
func (g *Groups) Join(ctx context.Context, name string, c Caller, o JoinOpts) (*Member, error) {
	if g.short(name) {
		return nil, fail("join", name, syscall.ENETDOWN)
	}
	m, err := g.enter(name, c)
	if err != nil {
		return nil, fail("join", name, err)
	}
	entry := op{
		id: m.inc, pid: uint32(c.PID), create: o.Create,
		name: []byte(name), cred: credOf(c, maxJoinGroups, g.gidOf(name)),
		when: time.Now().UnixMilli(),
	}
	if err := g.conf.Order.Submit(KindJoin, entry.append(KindJoin, nil)); err != nil {
		g.exit(m)
		return nil, fail("join", name, err)
	}
	ended, err := m.wait(ctx)
	if ended {
		// The leave follows the join in the order, whenever that is ordered.
		m.Leave(Leave)
	}
	if err != nil {
		return nil, fail("join", name, err)
	}
	return m, nil
}

// enter makes a member that has not joined yet.
func (g *Groups) enter(name string, c Caller) (*Member, error) {
	g.lmu.Lock()
	defer g.lmu.Unlock()
	switch {
	case len(name) > MaxName:
		return nil, syscall.ENAMETOOLONG
	case g.closed:
		return nil, syscall.ESHUTDOWN
	case c.UID != 0 && g.byUID[c.UID] >= maxLocals:
		return nil, syscall.ENOSPC
	}
	f := g.feeds[name]
	if f == nil {
		f = &feed{g: g, name: name}
		g.feeds[name] = f
	}
	for g.inc++; g.locals[g.inc] != nil; g.inc++ {
	}
	m := &Member{answer: answer{done: make(chan struct{})}, g: g, feed: f, inc: g.inc, caller: c, node: g.conf.Self.ID}
	g.locals[m.inc] = m
	g.byUID[c.UID]++
	f.users++
	return m, nil
}

// exit forgets a member that the table has not, or has no more.
func (g *Groups) exit(m *Member) {
	g.lmu.Lock()
	defer g.lmu.Unlock()
	if g.locals[m.inc] != m {
		return
	}
	delete(g.locals, m.inc)
	if g.byUID[m.caller.UID]--; g.byUID[m.caller.UID] == 0 {
		delete(g.byUID, m.caller.UID)
	}
	m.feed.users--
	m.feed.dropLocked()
}

// local gives a member of this node by its incarnation, or nil.
func (g *Groups) local(inc uint32) *Member {
	g.lmu.Lock()
	defer g.lmu.Unlock()
	return g.locals[inc]
}

// answerJoin takes the result of a join.
func (g *Groups) answerJoin(m *Member, errno syscall.Errno) {
	g.lmu.Lock()
	m.decide(errno)
	g.lmu.Unlock()
	if errno != 0 {
		g.exit(m)
	}
}
