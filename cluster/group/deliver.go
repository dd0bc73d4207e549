package group

import (
	"slices"

	"github.com/convoke-fs/convoke/cluster/ring"
)

// Deliver takes in messages of the log. Deliver, Install and State are the
// engine's: it calls them one at a time, in the order of the core's outputs, and
// then Flush, without its lock.
func (g *Groups) Deliver(r ring.ID, messages []ring.Message) {
	for i := range messages {
		switch m := &messages[i]; m.Kind {
		case KindMulticast:
			g.multicast(r, m)
		case KindSend:
			g.sent(r, m)
		default:
			g.control(r, m)
		}
	}
	g.checkUsers()
}

// multicast gives a member's message to its group. One whose origin is not a
// member here is dropped, and so it is by all.
func (g *Groups) multicast(r ring.ID, m *ring.Message) {
	data, inc, ok := decodeMulticast(m.Data)
	if !ok {
		return
	}
	p := g.table.proc(m.Origin, inc)
	if p == nil {
		return
	}
	g.message(p.group.feed, p.process(), data, r, m.Pos)
}

// sent gives the message of one who is no member, if it may send.
func (g *Groups) sent(r ring.ID, m *ring.Message) {
	data, h, ok := decodeSend(m.Data)
	if !ok {
		return
	}
	gr := g.table.groups[string(h.name)]
	if gr == nil || !gr.allows(h.cred, Send, mayWrite) {
		return
	}
	g.message(gr.feed, Process{Node: m.Origin.ID, PID: h.pid}, data, r, m.Pos)
}

func (g *Groups) message(f *feed, from Process, data []byte, r ring.ID, pos uint64) {
	if f == nil || f.live.Load() == 0 {
		return
	}
	rec := newMsg(data, f.lag)
	rec.From, rec.Ring, rec.Pos = from, r, pos
	f.push(rec)
}

// control applies an entry that changes the table.
func (g *Groups) control(r ring.ID, m *ring.Message) {
	g.mu.Lock()
	e, ok := g.table.apply(m.Origin, m.Kind, m.Data)
	g.mu.Unlock()
	if !ok {
		return
	}
	own := m.Origin == g.conf.Self
	var lm *Member
	if own && m.Kind == KindJoin {
		if lm = g.local(e.id); lm != nil && e.joined != nil {
			lm.n = e.joined.n
			e.group.feed = lm.feed
			lm.feed.need.Store(e.group.need)
			first := g.view
			first.Ring = r
			lm.feed.attach(lm, &first)
		}
	}
	if e.group != nil {
		g.changed(e.group, r, m.Pos, e.joined, e.left, e.reason)
	}
	switch {
	case own && m.Kind == KindGroup:
		g.answered(e.id, e.err)
	case lm != nil:
		g.answerJoin(lm, e.err)
	case own && e.joined != nil:
		// Reset came between the call of Join and its entry: nobody is there.
		g.wmu.Lock()
		g.leaves = append(g.leaves, leaveNote{e.id, ProcDown})
		g.wmu.Unlock()
	}
}

// changed tells the members of a group of those who joined and left, and lets go
// those of this node that are out.
func (g *Groups) changed(gr *group, r ring.ID, pos uint64, joined *proc, left []*proc, why Reason) {
	if gr.feed == nil {
		return
	}
	if gr.feed.live.Load() > 0 {
		rec := &Record{Kind: Conf, Members: processes(gr.members), Ring: r, Pos: pos, Left: changes(left, why)}
		if joined != nil {
			rec.Joined = []Changed{{joined.process(), Join}}
		}
		gr.feed.push(rec)
	}
	g.letGo(gr, left)
}

// letGo ends the members of this node among those who are out of the table.
func (g *Groups) letGo(gr *group, left []*proc) {
	for _, p := range left {
		if p.node != g.conf.Self {
			continue
		}
		if m := g.local(p.inc); m != nil {
			m.feed.finish(m)
			g.exit(m)
		}
	}
	if !g.hasLocals(gr) {
		gr.feed = nil
	}
}

// hasLocals tells whether this node has members of a group, or such as are on
// their way in or out.
func (g *Groups) hasLocals(gr *group) bool {
	g.lmu.Lock()
	defer g.lmu.Unlock()
	return gr.feed != nil && gr.feed.users > 0
}

func processes(procs []*proc) []Process {
	out := make([]Process, len(procs))
	for i, p := range procs {
		out[i] = p.process()
	}
	return out
}

func changes(procs []*proc, why Reason) []Changed {
	var out []Changed
	for _, p := range procs {
		out = append(out, Changed{p.process(), why})
	}
	return out
}

// State gives this node's part of the tables as they will be after tail, see
// ring.AskState.
func (g *Groups) State(tail []ring.Message, lead bool) []byte {
	t := g.table
	if slices.ContainsFunc(tail, func(m ring.Message) bool { return m.Kind != KindMulticast && m.Kind != KindSend }) {
		t = t.clone()
		for i := range tail {
			t.apply(tail[i].Origin, tail[i].Kind, tail[i].Data)
		}
	}
	return t.appendState(nil, g.conf.Self, lead)
}
