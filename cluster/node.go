package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/convoke-fs/convoke/cluster/engine"
	"github.com/convoke-fs/convoke/cluster/quorum"
	"github.com/convoke-fs/convoke/cluster/watch"
)

// DefaultPort is the port of a node's address where none is given. It is not
// Serf's own 7946, which Serf agents and Docker's swarm mode use on many hosts.
const DefaultPort = 7947

// DefaultCluster is the name of a cluster that was given none.
const DefaultCluster = "convoke"

// Config is what a node is started with.
type Config struct {
	Name     string         // required: the node's name, [A-Za-z0-9][A-Za-z0-9._-]* of at most 127 bytes, not "local" or "share"
	Cluster  string         // optional: the cluster's name, of the same form; DefaultCluster
	Bind     netip.AddrPort // optional: the node's address; a private address of the host, else loopback. Port 0: any that is free
	Key      *Key           // optional: without it, and unless Insecure, the node listens on no port
	Insecure bool           // optional: without a key, listen nevertheless, for tests: whoever reaches the port is in
	StateDir string         // optional: number, boot counter and peers; "" keeps nothing
	Join     []string       // optional: HOST[:PORT] of members; asked in the background until one answers
	Version  string         // optional: of the daemon, up to 32 visible characters, for people
	Log      *slog.Logger   // optional: nothing is logged without it
	Watch    *watch.Hub     // optional: is told the changes of the table
	Quorum   quorum.Options // optional: when the ring is quorate
	Dead     time.Duration  // optional: how long a member may be silent before the ring goes on without it; engine.DefaultDead

	transport func() (memberlist.Transport, error) // tests: in place of the ports
	sessions  func() (sessionNet, error)           // tests: the same for the port of sessions
}

// Node is this node. All methods may be called from any goroutine.
type Node struct {
	conf  Config
	key   []byte // of the gossip, nil when there is none
	hash  string // of the cluster's name
	addr  netip.AddrPort
	log   *slog.Logger
	hub   *watch.Hub
	state *stateDir

	// What changes the node, one at a time: join, leave, remove, tags, close.
	ops chan struct{}

	ctx    context.Context // ends at Close
	cancel context.CancelFunc
	work   sync.WaitGroup // goroutines of the node itself

	engine   *engine.Engine // set by Start
	asked    bool           // a quorum is of interest
	learned  chan int       // the size of a ring that was larger than any before
	listener net.Listener   // ops; the last one of the sessions, nil before the first

	more chan struct{} // there are news; has room for one

	view   atomic.Pointer[view] // of table, replaced at each change
	seeded atomic.Bool          // one of conf.Join has answered, or they are of no interest any more

	aiming sync.Mutex // orders what the engine is told of the table

	mu        sync.Mutex
	table     map[string]Member        // mu; this node included
	old       map[string]peer          // mu; from the peer file, not in table yet
	inst      *instance                // mu and ops to change it; nil: listens nowhere
	closed    bool                     // mu
	isStale   bool                     // mu
	invalid   bool                     // mu
	news      []func()                 // mu; what the hub is to be told, in order
	ring      map[uint32]engine.Member // mu; those in the ring, by number
	lost      map[uint32]loss          // mu; who was in the ring a moment ago, by number
	reborn    bool                     // mu; a rebirth is under way
	peersText string                   // mu; what the peer file holds
}

// Start starts a node and returns at once: the members of c.Join are asked in
// the background. ctx bounds the start only; the node lives until Close.
//
// The error is ErrInvalid for what c or a file in c.StateDir must not be,
// ErrInUse when another process has the state folder, and what the system says
// about files and ports, for example EADDRINUSE.
func Start(ctx context.Context, c Config) (*Node, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := complete(&c); err != nil {
		return nil, err
	}
	state, err := openState(c.StateDir)
	if err != nil {
		return nil, err
	}
	me, err := state.start(c.Bind.Addr())
	if err != nil {
		state.close()
		return nil, err
	}
	n := &Node{
		conf: c, hash: hashCluster(c.Cluster), addr: c.Bind, log: c.Log, hub: c.Watch, state: state,
		ops:   make(chan struct{}, 1),
		more:  make(chan struct{}, 1),
		table: map[string]Member{},
		lost:  map[uint32]loss{},
		old:   map[string]peer{},
	}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	if c.Key != nil {
		n.key = c.Key.Gossip(c.Cluster)
	}
	self := Member{ID: me.ID, Name: c.Name, Addr: c.Bind, State: Alive, Boot: me.Boot, Tags: map[string]string{}, Version: c.Version, Since: time.Now()}
	n.readPeers(self.Name)
	n.view.Store(newView(n.table)) // the gate needs one from the first moment
	if err := n.startEngine(self); err != nil {
		n.cancel()
		n.work.Wait()
		state.close()
		return nil, err
	}
	if err := n.begin(self); err != nil {
		n.cancel()
		n.engine.Close()
		n.work.Wait()
		state.close()
		return nil, err
	}
	n.work.Go(n.redial)
	n.tellNews() // so that the first reader meets this node, and not its coming
	n.work.Go(n.tellHub)
	return n, nil
}

// complete fills in what may be left out of a configuration, and checks the rest.
func complete(c *Config) error {
	if err := checkNodeName(c.Name); err != nil {
		return err
	}
	if c.Cluster == "" {
		c.Cluster = DefaultCluster
	}
	if !validName(c.Cluster) {
		return fmt.Errorf("cluster name %q: %w: want letters, digits, '.', '_' and '-', at most %d bytes", c.Cluster, ErrInvalid, maxName)
	}
	if len(c.Version) > maxVersion || !validTagValue(c.Version) {
		return fmt.Errorf("version %q: %w", c.Version, ErrInvalid)
	}
	if !c.Bind.Addr().IsValid() {
		c.Bind = netip.AddrPortFrom(hostAddr(), DefaultPort)
	}
	c.Bind = netip.AddrPortFrom(c.Bind.Addr().Unmap(), c.Bind.Port())
	if probe := netip.AddrPortFrom(c.Bind.Addr(), max(1, c.Bind.Port())); !validAddr(probe) {
		return fmt.Errorf("address %s: %w: the others must be able to reach the node there", c.Bind, ErrInvalid)
	}
	for _, seed := range c.Join {
		if _, _, err := splitHostPort(seed); err != nil {
			return err
		}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Watch == nil {
		c.Watch = watch.NewHub()
	}
	return nil
}

// begin puts the node into its own table and opens its port, if it has one.
func (n *Node) begin(self Member) error {
	if !n.networked() {
		n.put(self)
		n.log.Info("no cluster key: a cluster of one, no port is open", "name", self.Name)
		return nil
	}
	if n.key == nil {
		n.log.Warn("insecure: gossip is neither encrypted nor authenticated, whoever reaches the port is a member")
	}
	inst, err := n.newInstance(&self)
	if err != nil {
		return err
	}
	n.mu.Lock()
	n.inst = inst
	n.mu.Unlock()
	n.put(self)
	n.log.Info("node started", "name", self.Name, "id", self.ID, "boot", self.Boot, "addr", self.Addr, "cluster", n.conf.Cluster)
	return nil
}

// networked tells whether this node may speak to others at all.
func (n *Node) networked() bool { return n.key != nil || n.conf.Insecure }

// newInstance opens the port and starts serf for self, whose address it fills
// in: after the first time it stays the same.
func (n *Node) newInstance(self *Member) (*instance, error) {
	open := n.conf.transport
	if open == nil {
		open = func() (memberlist.Transport, error) { return listen(n.addr, newBridge(n.log)) }
	}
	inner, err := open()
	if err != nil {
		return nil, err
	}
	_, port, err := inner.FinalAdvertiseAddr("", 0)
	if err != nil {
		inner.Shutdown()
		return nil, err
	}
	if n.addr.Port() == 0 { // at the first time only, so later it is read without a lock
		n.addr = netip.AddrPortFrom(n.addr.Addr(), uint16(port))
	}
	self.Addr = n.addr
	sessions, err := n.listenSessions()
	if err != nil {
		inner.Shutdown()
		return nil, err
	}
	self.Sessions = portOf(sessions.listener.Addr())
	tags := tagsOf(*self, n.hash)
	if err := checkTagSize(tags); err != nil {
		inner.Shutdown()
		sessions.listener.Close()
		return nil, err
	}
	g := &gate{self: n.addr, name: self.Name, boot: self.Boot, cluster: n.hash, view: &n.view}
	r := &reconciler{node: n, ready: make(chan struct{})}
	in, err := newInstance(settings{
		name: self.Name, cluster: n.conf.Cluster, addr: n.addr, tags: tags, key: n.key, log: n.log,
	}, inner, g, n.apply, n.drop, r.check)
	if err != nil {
		sessions.listener.Close()
		return nil, err
	}
	r.inst = in
	close(r.ready) // in.close waits for who waits for it
	if err := n.attach(sessions); err != nil {
		in.close()
		return nil, err
	}
	return in, nil
}

// Self gives this node's own line of the table.
func (n *Node) Self() Member { return n.view.Load().byName[n.conf.Name] }

// Members gives the table of members, this node included, sorted by ID. It is
// this node's belief at this moment and never waits for anything.
func (n *Node) Members() []Member { return slices.Clone(n.view.Load().list) }

// Member gives the address of a member that has not left; a failed one has its
// address still, since it may only be this node that does not hear it. It never
// waits.
func (n *Node) Member(name string) (netip.Addr, bool) {
	m, ok := n.view.Load().byName[name]
	if !ok || m.State == Left {
		return netip.Addr{}, false
	}
	return m.Addr.Addr(), true
}

// SetTag sets a tag of this node, or deletes it when value is "". Tags are told
// to all members, and kept until the daemon ends. A key is a name and none of a
// member's own fields (id, name, addr, state, role, boot, tags, version), a
// value consists of visible ASCII without blanks, else the error is ErrInvalid.
// It is ErrTooLarge when tags and what the node says of itself exceed 512 bytes.
// SetTag waits until the change is on its way, below a second.
func (n *Node) SetTag(ctx context.Context, key, value string) error {
	if err := checkTag(key, value); err != nil {
		return err
	}
	release, err := n.begins(ctx)
	if err != nil {
		return err
	}
	defer release()
	self := n.Self()
	self.Tags = maps.Clone(self.Tags)
	if value == "" {
		delete(self.Tags, key)
	} else {
		self.Tags[key] = value
	}
	if err := checkTagSize(tagsOf(self, n.hash)); err != nil {
		return err
	}
	n.announce(self)
	return nil
}

// announce changes this node's own line, here and at the others. The caller
// holds ops.
func (n *Node) announce(self Member) {
	n.put(self)
	if inst := n.instance(); inst != nil {
		if err := inst.serf.SetTags(tagsOf(self, n.hash)); err != nil {
			// The change is queued and goes out with the next gossip.
			n.log.Debug("tags are not on their way yet", "err", err)
		}
	}
}

// redrawID gives this node another number, since another member has its.
func (n *Node) redrawID() {
	release, err := n.begins(n.ctx)
	if err != nil {
		return
	}
	defer release()
	if _, clash := n.clash(n.Self()); !clash {
		return
	}
	n.log.Warn("another member has the number of this node, which takes a new one")
	n.reborns(func(me *Member) { me.ID = randomID() })
}

// Close leaves the cluster in good order, for at most 2 s, and ends the node.
// The peers stay in the state folder, so that a restart finds them. Calls after
// the first do nothing.
func (n *Node) Close() error {
	n.cancel() // ends what holds ops, and the redialling
	n.ops <- struct{}{}
	defer func() { <-n.ops }()
	n.mu.Lock()
	inst, was := n.inst, n.closed
	n.inst, n.closed = nil, true
	n.mu.Unlock()
	if was {
		return nil
	}
	err := n.writePeers()
	if inst != nil {
		if !n.alone() {
			inst.leave(tagsOf(n.Self(), n.hash))
		}
		n.engine.Detach()
		inst.close()
	}
	n.engine.Close()
	n.work.Wait()
	n.state.close()
	return err
}

// begins takes ops for one operation that is to end with ctx and with the node.
func (n *Node) begins(ctx context.Context) (release func(), err error) {
	select {
	case n.ops <- struct{}{}:
	case <-ctx.Done():
		return nil, n.ended(ctx)
	case <-n.ctx.Done():
		return nil, ErrClosed
	}
	if n.ctx.Err() != nil {
		<-n.ops
		return nil, ErrClosed
	}
	return func() { <-n.ops }, nil
}

// ended says why ctx has ended: by the node's end, or by its own cause.
func (n *Node) ended(ctx context.Context) error {
	if n.ctx.Err() != nil {
		return ErrClosed
	}
	return context.Cause(ctx)
}

func (n *Node) instance() *instance {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.inst
}

// alone tells whether no other member takes part.
func (n *Node) alone() bool {
	for _, m := range n.view.Load().list {
		if m.Name != n.conf.Name && m.State.In() {
			return false
		}
	}
	return true
}

// readPeers takes in the peer file of the node that is named self.
func (n *Node) readPeers(self string) {
	if n.state.path == "" {
		return
	}
	text, err := os.ReadFile(filepath.Join(n.state.path, peersFile))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		n.log.Warn("peer file", "err", err)
	}
	peers, bad := parsePeers(text)
	if bad > 0 {
		n.log.Warn("peer file: lines left out", "count", bad)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.peersText, n.old = string(text), peers
	delete(n.old, self)
}

// writePeers brings the peer file up to date.
func (n *Node) writePeers() error {
	if n.state.path == "" {
		return nil
	}
	n.mu.Lock()
	peers := maps.Clone(n.old)
	for name, m := range n.table {
		if name != n.conf.Name {
			peers[name] = peer{Addr: m.Addr, Left: m.State == Left}
		}
	}
	text := string(formatPeers(peers))
	same := text == n.peersText
	n.peersText = text
	n.mu.Unlock()
	if same {
		return nil
	}
	return n.state.write(peersFile, []byte(text))
}
