package cluster

import (
	"time"

	"github.com/hashicorp/serf/serf"
)

// put puts a member into the table and tells of it.
func (n *Node) put(m Member) {
	if n.enter(&m) {
		n.retarget()
	}
}

// enter is put for the table alone; changed is false when the table has m already.
func (n *Node) enter(m *Member) (changed bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	old, known := n.table[m.Name]
	if known && old.same(*m) {
		return false
	}
	delete(n.old, m.Name)
	if known && old.State == m.State && old.Boot == m.Boot {
		m.Since = old.Since
	} else if m.Since = time.Now(); m.Name != n.conf.Name {
		n.log.Info("member "+m.State.String(), "name", m.Name, "id", m.ID, "addr", m.Addr, "boot", m.Boot)
	}
	n.table[m.Name] = *m
	n.look()
	shown := n.view.Load().byName[m.Name].watched()
	n.post(func() { n.hub.Update(shown) })
	return true
}

// drop takes a member out of the table and tells of it.
func (n *Node) drop(name string) {
	if n.strike(name) {
		n.retarget()
	}
}

// strike is drop for the table alone.
func (n *Node) strike(name string) (changed bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.old, name)
	m, known := n.table[name]
	if !known || name == n.conf.Name {
		return false
	}
	n.log.Info("member removed", "name", m.Name, "id", m.ID, "state", m.State.String())
	delete(n.table, name)
	n.look()
	n.post(func() { n.hub.Remove(name) })
	return true
}

// apply takes in what serf tells of a member. What it tells of this node is
// what the node has said itself.
func (n *Node) apply(sm serf.Member) {
	if sm.Name == n.conf.Name {
		return
	}
	m, err := memberOf(&sm)
	if err != nil {
		n.log.Warn("a member that can not be", "err", err) // the gate has let it in by its older tags
		return
	}
	n.put(m)
}

// clash gives the member that takes part under this node's number, if this node
// is the one to give way: the one that has been started less often, and of two
// equal ones that with the later name.
func (n *Node) clash(self Member) (Member, bool) {
	for _, m := range n.view.Load().list {
		if m.ID == self.ID && m.Name != self.Name && m.State.In() &&
			(self.Boot < m.Boot || self.Boot == m.Boot && self.Name > m.Name) {
			return m, true
		}
	}
	return Member{}, false
}

// reconciler compares the table with serf's, so that an event that was lost is
// only a delay.
type reconciler struct {
	node  *Node
	inst  *instance
	ready chan struct{} // closed when inst is set

	// What differed a second ago, by name; the zero member is one that serf does
	// not have. Only check uses it, which is called from one goroutine.
	differed map[string]Member
}

// check mends what has differed for a second with no event on the way: serf's
// table is ahead of its events, so a difference alone says nothing.
func (r *reconciler) check() {
	<-r.ready
	n := r.node
	differs := map[string]Member{}
	theirs := map[string]bool{}
	idle := r.inst.queue.empty()
	for _, sm := range r.inst.serf.Members() {
		theirs[sm.Name] = true
		m, err := memberOf(&sm)
		if err != nil || m.Name == n.conf.Name {
			continue
		}
		n.mu.Lock()
		mine, known := n.table[m.Name]
		n.mu.Unlock()
		if known && mine.same(m) {
			continue
		}
		if was, twice := r.differed[m.Name]; idle && twice && was.same(m) {
			n.put(m)
			continue
		}
		differs[m.Name] = m
	}
	for _, mine := range n.view.Load().list {
		if mine.Name == n.conf.Name || theirs[mine.Name] {
			continue
		}
		if was, twice := r.differed[mine.Name]; idle && twice && was.Name == "" {
			n.drop(mine.Name)
			continue
		}
		differs[mine.Name] = Member{}
	}
	r.differed = differs
	n.forgive()
	if _, clash := n.clash(n.Self()); clash {
		// Not here: it waits for the gossip, which waits for this goroutine
		// when its events pile up.
		n.mu.Lock()
		if !n.closed {
			n.work.Go(n.redrawID)
		}
		n.mu.Unlock()
	}
	if err := n.writePeers(); err != nil {
		n.log.Warn("peer file", "err", err)
	}
}

// post has the hub told what f says. The hub hears of changes in the order in
// which they were made, from one goroutine, so that nothing else of the node
// waits for those whom the hub wakes. The caller holds n.mu.
func (n *Node) post(f func()) {
	n.news = append(n.news, f)
	select {
	case n.more <- struct{}{}:
	default:
	}
}

func (n *Node) tellHub() {
	for {
		n.tellNews()
		select {
		case <-n.more:
		case <-n.ctx.Done():
			return
		}
	}
}

// tellNews tells the hub what there is. One goroutine at a time does it.
func (n *Node) tellNews() {
	n.mu.Lock()
	news := n.news
	n.news = nil
	n.mu.Unlock()
	for _, f := range news {
		f()
	}
}
