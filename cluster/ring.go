package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/convoke-fs/convoke/cluster/engine"
	"github.com/convoke-fs/convoke/cluster/group"
	"github.com/convoke-fs/convoke/cluster/quorum"
	"github.com/convoke-fs/convoke/cluster/ring"
	"github.com/convoke-fs/convoke/cluster/session"
	"github.com/convoke-fs/convoke/cluster/watch"
)

// sessionNet is how sessions meet: a listener, and who dials.
type sessionNet struct {
	listener net.Listener
	dial     func(ctx context.Context, addr netip.AddrPort) (net.Conn, error)
}

// Groups gives the process groups of the cluster.
func (n *Node) Groups() *group.Groups { return n.engine.Groups() }

// RingStatus tells where the ring stands. It answers from memory.
func (n *Node) RingStatus() engine.Status { return n.engine.Status() }

// QuorumLine is the text of cluster/quorum: what the ring is worth, by this
// node's knowledge at this moment. It answers from memory.
func (n *Node) QuorumLine() string {
	line := n.engine.QuorumLine()
	if n.conf.Insecure && n.key == nil {
		line += " insecure=yes"
	}
	return line
}

// reserved is how many numbers of rings a start makes durable at once, so that
// none of them has to wait for the disk.
const reserved = 1024

// startEngine begins with a ring of one.
func (n *Node) startEngine(self Member) error {
	floor, err := n.state.ceiling()
	if err != nil {
		return err
	}
	if floor == 0 {
		floor = ring.Fresh(rand.Uint64())
	}
	ceiling := floor + reserved
	if err := n.state.saveCeiling(ceiling); err != nil {
		return err
	}
	learned, err := n.state.votes()
	if err != nil {
		return err
	}
	n.asked = n.conf.Quorum.Asked()
	n.learned = make(chan int, 1)
	n.engine = engine.New(engine.Config{
		Self: ring.NK{ID: self.ID, Boot: self.Boot}, Name: self.Name, Floor: floor, Ceiling: ceiling, Save: n.state.saveCeiling,
		Quorum: quorum.New(n.conf.Quorum, learned, n.learn), Log: n.log, Dead: n.conf.Dead,
		Installed: n.installed, Stale: n.stale, BootKnown: n.bootKnown,
	})
	n.work.Go(n.keepLearned)
	return nil
}

// attach opens the node's sessions to others.
func (n *Node) attach(s sessionNet) error {
	var conf *tls.Config
	if n.key != nil {
		var err error
		if conf, err = n.conf.Key.SessionTLS(n.conf.Cluster, n.conf.Name); err != nil {
			s.listener.Close()
			return err
		}
	}
	if s.dial == nil {
		// From the node's own address, by which the others know it and let it in.
		from := &net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(n.conf.Bind.Addr(), 0))}
		s.dial = func(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
			return from.DialContext(ctx, "tcp", addr.String())
		}
	}
	return n.engine.Attach(engine.Network{Cluster: n.conf.Cluster, TLS: conf, Listener: s.listener, Dial: s.dial})
}

// listenSessions opens the port of sessions: that of the node's address plus
// one, or any that is free where the node's own is so, too. After the first time
// it is the same one.
func (n *Node) listenSessions() (sessionNet, error) {
	open := n.conf.sessions
	if open == nil {
		open = n.listenTCP
	}
	s, err := open()
	if err == nil {
		n.listener = s.listener
	}
	return s, err
}

func (n *Node) listenTCP() (sessionNet, error) {
	var port uint16
	switch bind := n.conf.Bind.Port(); {
	case n.listener != nil:
		port = portOf(n.listener.Addr())
	case bind == math.MaxUint16:
		port = bind - 1
	case bind != 0:
		port = bind + 1
	}
	l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(n.conf.Bind.Addr(), port)))
	if err != nil {
		return sessionNet{}, fmt.Errorf("port of sessions: %w", err)
	}
	return sessionNet{listener: l}, nil
}

// installed takes in a ring. The engine holds its lock.
func (n *Node) installed(in engine.Installed) {
	members := make([]watch.Member, len(in.Members))
	ids := make(map[uint32]engine.Member, len(in.Members))
	for i, m := range in.Members {
		members[i] = watch.Member{ID: m.ID, Name: m.Name, Boot: m.Boot}
		ids[m.ID] = m
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	for id, m := range n.ring {
		if ids[id].Boot != m.Boot {
			n.lost[id] = loss{m.Boot, now}
		}
	}
	for id, m := range ids {
		if n.lost[id].boot == m.Boot {
			delete(n.lost, id)
		}
	}
	n.ring = ids
	n.lookAgain()
	name := in.Ring.String()
	n.post(func() { n.hub.Ring(name, members) })
	n.invalid = n.asked && !in.Quorum.Quorate
	n.tellCondition()
}

// lookAgain is look with news of all members: who is how may have changed with
// anything. The caller holds n.mu.
func (n *Node) lookAgain() {
	n.look()
	v := n.view.Load()
	n.post(func() {
		for _, m := range v.list {
			n.hub.Update(m.watched())
		}
	})
}

func (n *Node) tellCondition() {
	stale, invalid := n.isStale, n.invalid
	n.post(func() { n.hub.Condition(stale, invalid) })
}

// lossTime is how long the ring's word that a member is gone counts for more
// than gossip, which takes about a second to come to the same.
const lossTime = 3 * time.Second

// loss is a life of a node that the ring has lost.
type loss struct {
	boot uint64
	at   time.Time
}

// shown is a member of the table as everybody sees it: with what the ring knows
// of it. The caller holds n.mu.
func (n *Node) shown(m Member) Member {
	m.In = n.ring[m.ID].Boot == m.Boot
	if l, ok := n.lost[m.ID]; ok && l.boot == m.Boot && !m.In {
		switch m.State {
		case Alive:
			m.State, m.Since = Failed, l.at
		case Leaving:
			m.State, m.Since = Left, l.at
		}
	}
	return m
}

// look makes the view anew. The caller holds n.mu.
func (n *Node) look() {
	table := make(map[string]Member, len(n.table))
	told := map[uint32]bool{}
	for name, m := range n.table {
		table[name] = n.shown(m)
		told[m.ID] = true
	}
	for id, m := range n.ring {
		if _, taken := table[m.Name]; told[id] || taken || m.Name == "" || m.Name == n.conf.Name {
			continue
		}
		// Gossip will tell more of it in a moment.
		table[m.Name] = Member{ID: id, Name: m.Name, Boot: m.Boot, Addr: netip.AddrPortFrom(m.Addr, 0), State: Alive, In: true, Tags: map[string]string{}}
	}
	n.view.Store(newView(table))
}

// forgive leaves it to gossip again how members are whom the ring has lost some
// time ago.
func (n *Node) forgive() {
	n.mu.Lock()
	defer n.mu.Unlock()
	before := len(n.lost)
	for id, l := range n.lost {
		if time.Since(l.at) > lossTime {
			delete(n.lost, id)
		}
	}
	if len(n.lost) != before {
		n.lookAgain()
	}
}

// stale takes in that the node has been without a ring or a coordinator for
// long, or is not any more. The engine holds its lock.
func (n *Node) stale(stale bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.isStale = stale
	n.tellCondition()
}

// retarget tells the engine with whom there ought to be sessions. The caller
// holds no lock.
func (n *Node) retarget() {
	n.aiming.Lock()
	defer n.aiming.Unlock()
	var ts []session.Target
	for _, m := range n.view.Load().list {
		if m.Name != n.conf.Name && m.State != Left && m.Sessions != 0 {
			ts = append(ts, session.Target{
				Name: m.Name, ID: m.ID, Addr: netip.AddrPortFrom(m.Addr.Addr(), m.Sessions), Failed: m.State == Failed,
			})
		}
	}
	if n.engine != nil {
		n.engine.SetTargets(ts)
	}
}

// learn hears of a larger ring than ever. The engine holds its lock, so the
// disk is another goroutine's.
func (n *Node) learn(votes int) {
	select {
	case <-n.learned: // a smaller one that nobody has written yet
	default:
	}
	n.learned <- votes
}

func (n *Node) keepLearned() {
	for {
		select {
		case <-n.ctx.Done():
			return
		case v := <-n.learned:
			if err := n.state.saveVotes(v); err != nil {
				n.log.Error("expected votes", "err", err)
			}
		}
	}
}

// bootKnown gives this node a new life with a higher boot counter: another node
// knows a later start of it than its state folder does, which is lost or a copy.
func (n *Node) bootKnown(boot uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.closed && !n.reborn {
		n.reborn = true
		n.work.Go(func() {
			n.rebirth(func(me *Member) { me.Boot = max(me.Boot, boot) + 1 })
			n.mu.Lock()
			n.reborn = false
			n.mu.Unlock()
		})
	}
}

// rebirth changes number or boot of this node, and with them its life in the
// ring: what its processes had joined is gone, as after a restart.
func (n *Node) rebirth(change func(*Member)) {
	release, err := n.begins(n.ctx)
	if err != nil {
		return
	}
	defer release()
	n.reborns(change)
}

// reborns is rebirth for who holds ops.
func (n *Node) reborns(change func(*Member)) {
	self := n.Self()
	was := self
	change(&self)
	if was.ID == self.ID && was.Boot == self.Boot {
		return
	}
	if err := n.state.save(identity{ID: self.ID, Boot: self.Boot}); err != nil {
		n.log.Error("number of this node", "err", err)
		return
	}
	n.log.Warn("this node begins anew", "id", self.ID, "boot", self.Boot, "was", was.ID, "wasboot", was.Boot)
	n.engine.Restart(ring.NK{ID: self.ID, Boot: self.Boot})
	for n.instance() != nil {
		s, err := n.listenSessions()
		if err == nil {
			err = n.attach(s)
		}
		if err == nil {
			break
		}
		n.log.Error("the port of sessions does not open again", "err", err)
		select {
		case <-time.After(time.Second):
		case <-n.ctx.Done():
			return
		}
	}
	n.announce(self)
}

// votesFile holds how many members the largest ring had.
const votesFile = "votes"

const votesForm = "convoke votes 1\nvotes %d\nend\n"

// votes reads how many members the largest ring had that this node was in.
func (s *stateDir) votes() (int, error) {
	if s.path == "" {
		return 0, nil
	}
	path := filepath.Join(s.path, votesFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("state: %w", err)
	}
	var votes int
	_, err = fmt.Sscanf(string(text), votesForm, &votes)
	if err != nil || votes < 0 || votes > quorum.MaxExpected || !slices.Equal(fmt.Appendf(nil, votesForm, votes), text) {
		return 0, fmt.Errorf("state %s: %w: the file is damaged; remove it to learn the number anew", path, ErrInvalid)
	}
	return votes, nil
}

func (s *stateDir) saveVotes(votes int) error {
	return s.write(votesFile, fmt.Appendf(nil, votesForm, votes))
}
