package main

import (
	"context"
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/cluster/group"
	"github.com/convoke-fs/convoke/ipc"
	"github.com/convoke-fs/convoke/rendezvous"
)

// socketGroups are this node's process groups for clients of the daemon's socket.
type socketGroups struct {
	groups     *group.Groups
	foreignNet bool // callers of other network namespaces may take part
	last       atomic.Pointer[sharedConf]
}

var _ ipc.Groups = (*socketGroups)(nil)

// caller is who asks, as cluster/group knows him. One from another network namespace is refused, as he is in the tree: a
// group is a way to other hosts too.
func (g *socketGroups) caller(c rendezvous.Caller) (group.Caller, error) {
	if !g.foreignNet {
		var own unix.Stat_t
		if err := unix.Stat("/proc/self/ns/net", &own); err != nil {
			return group.Caller{}, fmt.Errorf("the own network namespace cannot be seen: %w", err)
		}
		if c.NetNS != (rendezvous.Namespace{Dev: uint64(own.Dev), Ino: own.Ino}) {
			return group.Caller{}, fmt.Errorf("the caller is in another network namespace: %w", unix.EACCES)
		}
	}
	return group.Caller{PID: c.TGID, UID: c.UID, GID: c.GID, Groups: c.Groups}, nil
}

func (g *socketGroups) Join(ctx context.Context, name string, c rendezvous.Caller, create bool) (ipc.Membership, error) {
	who, err := g.caller(c)
	if err != nil {
		return nil, err
	}
	m, err := g.groups.Join(ctx, name, who, group.JoinOpts{Create: create})
	if err != nil {
		return nil, err // not a nil *group.Member in an interface
	}
	return membership{m, g}, nil
}

func (g *socketGroups) Sender(name string, c rendezvous.Caller) (ipc.Sending, error) {
	who, err := g.caller(c)
	if err != nil {
		return nil, err
	}
	s, err := g.groups.Sender(name, who)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// membership is a member for its client.
type membership struct {
	*group.Member
	all *socketGroups
}

func (m membership) ID() ipc.Process { return ipc.Process(m.Member.ID()) }

func (m membership) Leave(r ipc.Reason) { m.Member.Leave(group.Reason(r)) }

func (m membership) Next(r *ipc.Record) error {
	from, err := m.Member.Next()
	if err != nil {
		return err
	}
	switch from.Kind {
	case group.Msg:
		*r = ipc.Record{Kind: ipc.MessageRecord, From: ipc.Process(from.From), Data: from.Data}
	case group.Conf:
		*r = m.all.conf(from)
	case group.Ring:
		*r = ipc.Record{Kind: ipc.RingRecord, Nodes: from.Nodes}
	}
	r.Ring, r.Pos = ipc.RingID{Seq: from.Ring.Seq, Rep: from.Ring.Rep}, from.Pos
	return nil
}

// sharedConf is a record as its members' clients get it.
type sharedConf struct {
	from *group.Record
	conf ipc.Record
}

// conf translates a Conf. All members of a node read the same record, one soon after the other, and it can be long: so
// the last one is kept.
func (g *socketGroups) conf(from *group.Record) ipc.Record {
	if last := g.last.Load(); last != nil && last.from == from {
		return last.conf
	}
	conf := ipc.Record{Kind: ipc.ConfRecord, Members: make([]ipc.Process, len(from.Members))}
	for i, p := range from.Members {
		conf.Members[i] = ipc.Process(p)
	}
	conf.Joined, conf.Left = clientChanges(from.Joined), clientChanges(from.Left)
	g.last.Store(&sharedConf{from, conf})
	return conf
}

func clientChanges(from []group.Changed) []ipc.Change {
	list := make([]ipc.Change, len(from))
	for i, c := range from {
		list[i] = ipc.Change{Process: ipc.Process(c.Process), Reason: ipc.Reason(c.Reason)}
	}
	return list
}
