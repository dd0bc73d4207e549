package cluster

import (
	"bytes"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/serf/serf"
)

// Timing of the gossip. It is quick, since for us a failure that serf sees is
// only a hint: a false one costs little, and a living node takes it back.
const (
	probeInterval  = 200 * time.Millisecond
	probeTimeout   = 100 * time.Millisecond
	gossipInterval = 50 * time.Millisecond
	syncInterval   = 5 * time.Second // whole tables are compared: it heals what gossip has missed
	streamTimeout  = 3 * time.Second // of a connection between nodes
	retransmit     = 6               // how often a node passes news on, times the decimal logarithm of the members
	// A leave waits for three messages, goodbyeDelay after the first, and
	// leaveDelay after the last: 2 s at most.
	leaveTimeout = 500 * time.Millisecond
	goodbyeDelay = 150 * time.Millisecond
	leaveDelay   = 300 * time.Millisecond
	// How long memberlist holds the address of a node that does not answer. A
	// node that comes back elsewhere waits for that; one that comes back where
	// it was is found by our own redialling.
	forgetAfter = 5 * time.Second
	// How long serf shows a node that left. Failed ones stay until an operator
	// removes them: to forget them would split the cluster for good.
	tombstoneTime = 24 * time.Hour
	never         = 100 * 365 * 24 * time.Hour
	checkInterval = time.Second // of the table and of the keyring
)

// eventRoom holds more than what serf can still send after its shutdown (its
// own channel has 1024), when nobody reads any more.
const eventRoom = 2048

// instance is one serf node: it can leave once, and is replaced then.
type instance struct {
	serf  *serf.Serf
	trans *transport
	gate  *gate
	ring  *memberlist.Keyring // nil when insecure
	key   []byte              // the one that belongs into ring
	log   *slog.Logger

	events  chan serf.Event
	joining chan struct{} // held by the join that is under way
	queue   queue
	stop    chan struct{}
	done    sync.WaitGroup
}

// settings are what an instance needs to know of its node.
type settings struct {
	name, cluster string
	addr          netip.AddrPort
	tags          map[string]string
	key           []byte // nil: neither encrypted nor authenticated
	log           *slog.Logger
}

// newInstance starts serf over inner, which it owns from now on. Events go to
// apply, one after the other, from one goroutine; check is called on the same
// goroutine every second.
func newInstance(s settings, inner memberlist.Transport, g *gate, apply func(serf.Member), reap func(name string), check func()) (*instance, error) {
	l := newBridge(s.log)
	in := &instance{
		trans:   newTransport(inner, l),
		gate:    g,
		key:     s.key,
		log:     s.log,
		events:  make(chan serf.Event, eventRoom),
		joining: make(chan struct{}, 1),
		stop:    make(chan struct{}),
	}
	in.queue.more = make(chan struct{}, 1)
	c := serf.DefaultConfig()
	c.NodeName = s.name
	c.Tags = s.tags
	c.EventCh = in.events
	c.Merge = g
	c.Logger = l
	c.LogOutput = nil
	// A vote of the others could otherwise shut this node down.
	c.EnableNameConflictResolution = false
	// Ours allow '_', and the gate has looked at them.
	c.ValidateNodeNames = false
	c.DisableCoordinates = true
	c.BroadcastTimeout = leaveTimeout
	c.LeavePropagateDelay = leaveDelay
	c.ReconnectInterval = time.Hour // the redialler does it, sooner
	c.ReconnectTimeout = never
	c.TombstoneTimeout = tombstoneTime

	m := c.MemberlistConfig
	m.Logger = c.Logger
	m.Transport = in.trans
	m.BindAddr = s.addr.Addr().String()
	m.BindPort = int(s.addr.Port())
	m.AdvertiseAddr = m.BindAddr
	m.AdvertisePort = m.BindPort
	m.Label = s.cluster
	m.ProbeInterval = probeInterval
	m.ProbeTimeout = probeTimeout
	m.GossipInterval = gossipInterval
	m.GossipToTheDeadTime = forgetAfter
	m.RetransmitMult = retransmit
	m.SuspicionMult = 3
	m.SuspicionMaxTimeoutMult = 2
	m.PushPullInterval = syncInterval
	m.TCPTimeout = streamTimeout
	m.EnableCompression = false // packets are small, and LZW costs more than it saves
	if s.key != nil {
		ring, err := memberlist.NewKeyring(nil, s.key)
		if err != nil {
			in.trans.Shutdown()
			return nil, err
		}
		in.ring, m.Keyring = ring, ring
	}
	var err error
	if in.serf, err = serf.Create(c); err != nil {
		in.trans.Shutdown()
		return nil, err
	}
	in.done.Add(2)
	go in.collect()
	go in.run(apply, reap, check)
	return in, nil
}

// close ends the instance without a word to the others; leave says goodbye
// first. No event is applied after it has returned.
func (in *instance) close() {
	in.serf.Shutdown()
	close(in.stop)
	in.done.Wait()
}

// leave tells the others, for at most 2 s; tags are what they know of this node.
//
// Serf's own word for it often comes after memberlist's, and then they see a
// failure. So a tag says it first.
func (in *instance) leave(tags map[string]string) {
	tags[tagLeaving] = "1"
	if err := in.serf.SetTags(tags); err != nil {
		in.log.Debug("leave: the tag is not on its way yet", "err", err)
	}
	time.Sleep(goodbyeDelay)
	if err := in.serf.Leave(); err != nil {
		in.log.Warn("leave: the others may see a failure", "err", err)
	}
}

// collect moves events from serf's channel to the queue and does nothing else:
// serf holds its lock while it sends, so a slow reader would stop the gossip.
func (in *instance) collect() {
	defer in.done.Done()
	for {
		select {
		case e := <-in.events:
			if me, ok := e.(serf.MemberEvent); ok { // nothing of ours depends on events and queries of users
				in.queue.put(me)
			}
		case <-in.stop:
			return
		}
	}
}

// run applies what has been collected.
func (in *instance) run(apply func(serf.Member), reap func(string), check func()) {
	defer in.done.Done()
	tick := time.NewTicker(checkInterval)
	defer tick.Stop()
	for {
		select {
		case <-in.stop:
			return
		case <-in.queue.more:
			for _, e := range in.queue.take() {
				for _, m := range e.Members {
					if e.Type == serf.EventMemberReap {
						reap(m.Name)
					} else {
						apply(m)
					}
				}
			}
		case <-tick.C:
			in.checkRing()
			check()
		}
	}
}

// checkRing takes every key out of the keyring that is not ours. Serf lets any
// member install keys and can not be told not to; whoever holds only an old key
// of the cluster would get back in by it.
func (in *instance) checkRing() {
	if in.ring == nil {
		return
	}
	keys := slices.Clone(in.ring.GetKeys())
	if len(keys) == 1 && bytes.Equal(keys[0], in.key) {
		return
	}
	in.log.Warn("gossip: a member has changed the keyring; only our key stays", "keys", len(keys))
	if err := in.ring.AddKey(in.key); err != nil {
		in.log.Error("gossip: keyring", "err", err)
	}
	if err := in.ring.UseKey(in.key); err != nil {
		in.log.Error("gossip: keyring", "err", err)
	}
	for _, k := range keys {
		if !bytes.Equal(k, in.key) {
			if err := in.ring.RemoveKey(k); err != nil {
				in.log.Error("gossip: keyring", "err", err)
			}
		}
	}
}

// queue is an unbounded queue of events for one reader.
type queue struct {
	more chan struct{} // has room for one: set when something was put

	mu     sync.Mutex
	events []serf.MemberEvent // mu
}

func (q *queue) put(e serf.MemberEvent) {
	q.mu.Lock()
	q.events = append(q.events, e)
	q.mu.Unlock()
	select {
	case q.more <- struct{}{}:
	default:
	}
}

func (q *queue) take() []serf.MemberEvent {
	q.mu.Lock()
	defer q.mu.Unlock()
	events := q.events
	q.events = nil
	return events
}

func (q *queue) empty() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.events) == 0
}
