package group

import (
	"slices"
	"syscall"

	"github.com/convoke-fs/convoke/cluster/ring"
)

// call applies an entry of KindGroup.
func (t *table) call(origin ring.NK, o *op, e *effect) {
	g := t.groups[string(o.name)]
	if o.verb == verbMkdir {
		e.err = t.mkdir(origin, o, g)
		return
	}
	if g == nil {
		e.err = syscall.ENOENT
		return
	}
	switch o.verb {
	case verbRmdir:
		e.err = t.rmdir(g, o)
	case verbChange:
		e.err = t.change(origin, g, o)
	case verbMode:
		e.err = t.mode(origin, g, o)
	case verbEvict:
		e.err = t.evict(g, o, e)
	case verbQuorum:
		e.err = t.quorum(origin, g, o)
	}
}

func (t *table) mkdir(origin ring.NK, o *op, g *group) syscall.Errno {
	uid := o.cred.uid
	switch {
	case g != nil:
		return syscall.EEXIST
	case uid != 0 && t.empty[uid] >= maxEmpty:
		return syscall.ENOSPC
	}
	g = &group{name: string(o.name), attrs: attrs{
		kept: true, uid: uid, gid: o.cred.gid, modes: closedModes,
		created: o.when, maker: origin.ID,
	}}
	t.groups[g.name] = g
	t.count(g, +1)
	return 0
}

func (t *table) rmdir(g *group, o *op) syscall.Errno {
	switch {
	case !g.owns(o.cred): // the folder above is sticky
		return syscall.EPERM
	case len(g.members) > 0:
		return syscall.EBUSY
	}
	t.count(g, -1)
	delete(t.groups, g.name)
	return 0
}

// change does all that is asked for or nothing. As with other files only root
// gives a group to another user; the owner may name one of his own groups.
func (t *table) change(origin ring.NK, g *group, o *op) syscall.Errno {
	root := o.cred.uid == 0
	switch {
	case !g.owns(o.cred):
		return syscall.EPERM
	case o.set&setUID != 0 && o.uid != g.uid && !root:
		return syscall.EPERM
	case o.set&setGID != 0 && o.gid != g.gid && !root && !o.cred.in(o.gid):
		return syscall.EPERM
	}
	t.count(g, -1)
	defer t.count(g, +1)
	if o.set&setUID != 0 {
		g.uid = o.uid
	}
	if o.set&setGID != 0 {
		g.gid = o.gid
	}
	if o.set&setMode != 0 {
		g.modes[o.file] = o.mode & modeMask
	}
	g.changed, g.changer = o.when, origin.ID
	return 0
}

func (t *table) mode(origin ring.NK, g *group, o *op) syscall.Errno {
	if !g.allows(o.cred, Ctl, mayWrite) {
		return syscall.EACCES
	}
	g.modes = closedModes
	if o.on {
		g.modes = openModes
	}
	g.changed, g.changer = o.when, origin.ID
	return 0
}

func (t *table) quorum(origin ring.NK, g *group, o *op) syscall.Errno {
	if !g.allows(o.cred, Ctl, mayWrite) {
		return syscall.EACCES
	}
	g.need = o.on
	if g.feed != nil {
		g.feed.need.Store(g.need)
	}
	g.changed, g.changer = o.when, origin.ID
	return 0
}

func (t *table) evict(g *group, o *op, e *effect) syscall.Errno {
	if o.cred.uid != 0 {
		return syscall.EPERM
	}
	for _, p := range slices.Clone(g.members) {
		if at := p.process(); at.Node == o.target.Node && at.PID == o.target.PID && (o.target.N == 0 || at.N == o.target.N) {
			t.leave(p)
			e.left = append(e.left, p)
		}
	}
	if e.left == nil {
		return syscall.ESRCH
	}
	e.group, e.reason = g, ProcDown
	return 0
}
