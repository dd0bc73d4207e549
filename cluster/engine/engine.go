package engine

import (
	"context"
	crand "crypto/rand"
	"crypto/tls"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/convoke-fs/convoke/cluster/group"
	"github.com/convoke-fs/convoke/cluster/quorum"
	"github.com/convoke-fs/convoke/cluster/ring"
	"github.com/convoke-fs/convoke/cluster/session"
)

const (
	// queue is how much may wait to be submitted; joins, leaves and groups may be
	// as much again, so that these go through when messages do not.
	queue = 4 << 20
	// window is what may be on its way in the whole ring. Each member gets a share of
	// it, which has to last while an answer is on its way to a busy host and back.
	window = 12 << 20
	// longest is a message with what the groups put around it.
	longest = group.MaxMessage + group.Overhead

	// DefaultDead is how long a peer may be silent.
	DefaultDead = 500 * time.Millisecond

	// slowAfter is how long a member may make no progress; it is longer than what
	// silence means death, so that the silent are not taken for slow.
	slowAfter = 5 * time.Second

	staleAfter = 10 * time.Second // without a ring, or without word from the coordinator
	saveRetry  = time.Second      // after a ceiling could not be saved
)

// Config is what an engine is made with.
type Config struct {
	Self    ring.NK            // required
	Name    string             // required: of this node
	Floor   uint64             // required: the ceiling that the state folder had at the start
	Ceiling uint64             // required: the one that it has now, raised before the start
	Save    func(uint64) error // required: makes a ceiling durable; may wait for the disk
	Quorum  *quorum.Quorum     // required
	Log     *slog.Logger       // required
	Dead    time.Duration      // optional: T_dead; DefaultDead

	// Installed is told of each ring, in order, under the engine's lock: it must
	// not wait, nor call the engine. Optional.
	Installed func(Installed)
	// Stale is told when the node has been without a ring or a coordinator for
	// 10 s, and when that has ended; the same rules. Optional.
	Stale func(bool)
	// BootKnown is told that another node knows a later start of this one. It may
	// wait. Optional.
	BootKnown func(boot uint64)
}

// Installed is a ring that this node is in from now on.
type Installed struct {
	Ring    ring.ID
	Members []Member // sorted by ID
	Quorum  quorum.Status
	Cause   string // for people
}

// Member is a node in the ring.
type Member struct {
	ring.NK
	Name string     // "" if it is not known
	Addr netip.Addr // of the session with it, if there is one
}

// Engine is the ring's life at this node. Its methods may be called from any
// goroutine.
type Engine struct {
	conf   Config
	log    *slog.Logger
	groups *group.Groups
	next   chan struct{} // mu; closed at the next ring
	life   [16]byte      // mu; of this node's key; the same for all managers of that
	start  time.Time     // of the core's clock
	disk   disk

	names names

	aiming sync.Mutex // orders what managers are told of the targets; before mu

	mu       sync.Mutex
	core     *ring.Core        // mu
	events   []ring.Event      // mu; to be stepped before the lock is given back
	peers    map[ring.NK]*peer // mu; those whose session is up
	dirty    []*peer           // mu; to be flushed
	notes    []func()          // mu; log lines to be written
	manager  *session.Manager  // mu; nil: a ring of one
	targets  []session.Target  // mu
	timer    *time.Timer       // mu
	armed    time.Duration     // mu; when it fires, 0: not set
	refused  error             // mu; why the core did not take the last Submit
	full     bool              // mu; somebody was told that there is no room
	closed   bool              // mu
	view     ring.View         // mu; the last that was installed
	since    time.Time         // mu; when it was
	quorum   quorum.Status     // mu
	heard    time.Time         // mu; last word of the coordinator, or the install
	isStale  bool              // mu
	latency  latency           // mu
	changes  uint64            // mu; rings
	carried  uint64            // mu; bytes of them
	received uint64            // mu; messages delivered

	watching sync.WaitGroup
	stop     chan struct{}
}

// peer is a session that is up.
type peer struct {
	*session.Peer
	dec   ring.Decoder
	dirty bool // is in Engine.dirty
}

// New gives an engine in a ring of one, and its groups.
func New(c Config) *Engine {
	if c.Dead == 0 {
		c.Dead = DefaultDead
	}
	e := &Engine{conf: c, log: c.Log, start: time.Now(), peers: map[ring.NK]*peer{}, stop: make(chan struct{}), life: newLife(), next: make(chan struct{})}
	e.names.set(c.Self.ID, c.Name)
	e.groups = group.New(group.Config{Self: c.Self, Order: order{e}, Name: e.names.get, PutOut: e.putOut})
	e.core = e.newCore(c.Self, c.Floor, c.Ceiling)
	e.timer = time.AfterFunc(time.Hour, e.tick)
	e.timer.Stop()
	e.disk.start(c.Save, e.durable, func(err error) {
		e.log.Error("ring number: the state folder cannot be written; no new ring until it can", "err", err)
	})
	e.watching.Go(e.watch)
	e.do(ring.Tick{})
	return e
}

func newLife() (life [16]byte) {
	crand.Read(life[:])
	return life
}

func (e *Engine) newCore(self ring.NK, floor, ceiling uint64) *ring.Core {
	return ring.New(ring.Config{Self: self, MaxSeq: floor, Ceiling: ceiling, Rand: rand.Uint64, Queue: queue, MaxMessage: longest, Slow: max(slowAfter, 2*e.conf.Dead), Window: window})
}

// Groups gives the process groups.
func (e *Engine) Groups() *group.Groups { return e.groups }

// Network is by what an engine meets others.
type Network struct {
	Cluster  string                                                  // required
	TLS      *tls.Config                                             // nil: insecure
	Listener net.Listener                                            // required; the engine's from then on
	Dial     func(context.Context, netip.AddrPort) (net.Conn, error) // optional: TCP
}

// Attach opens the node to others.
func (e *Engine) Attach(n Network) error {
	e.mu.Lock()
	self, life := e.conf.Self, e.life
	e.mu.Unlock()
	m, err := session.New(session.Config{
		Self: self, Name: e.conf.Name, Cluster: n.Cluster, TLS: n.TLS, Listener: n.Listener, Dial: n.Dial, Instance: life,
		Hello: e.hello, Handler: (*handler)(e), Log: e.log, Dead: e.conf.Dead,
	})
	if err != nil {
		return err
	}
	e.aiming.Lock()
	defer e.aiming.Unlock()
	e.mu.Lock()
	e.manager = m
	targets := e.targets
	e.mu.Unlock()
	m.SetTargets(targets)
	return nil
}

// Detach takes the node out of every ring but its own: it says goodbye, closes
// the port, ends all sessions, and waits for the ring of one, for a second at
// most.
func (e *Engine) Detach() {
	e.mu.Lock()
	m := e.manager
	e.manager = nil
	e.mu.Unlock()
	if m == nil {
		return
	}
	m.Close()
	late := time.NewTimer(time.Second)
	defer late.Stop()
	for {
		e.mu.Lock()
		alone, next := len(e.view.Members) == 1, e.next
		e.mu.Unlock()
		if alone {
			return
		}
		select {
		case <-next:
		case <-late.C:
			return
		}
	}
}

// SetTargets replaces the set of nodes with which there ought to be sessions.
func (e *Engine) SetTargets(ts []session.Target) {
	for _, t := range ts {
		e.names.set(t.ID, t.Name)
	}
	e.aiming.Lock()
	defer e.aiming.Unlock()
	e.mu.Lock()
	same := slices.Equal(ts, e.targets)
	e.targets = ts
	m := e.manager
	e.mu.Unlock()
	if m != nil && !same {
		m.SetTargets(ts)
	}
}

// Restart gives the node another key, and a ring of its own under that: members
// of this node's processes are gone, as after a restart. The engine is detached
// then.
func (e *Engine) Restart(self ring.NK) {
	e.Detach()
	e.mu.Lock()
	e.names.set(self.ID, e.conf.Name)
	e.core = e.newCore(self, e.core.Stats().MaxSeq+1, 0)
	e.conf.Self = self
	e.life = newLife()
	clear(e.peers)
	e.groups.Reset(self)
	e.step(ring.Tick{})
	e.unlock()
}

// Close ends the engine: members of this node's processes are gone.
func (e *Engine) Close() {
	e.Detach()
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return
	}
	e.closed = true
	e.timer.Stop()
	e.mu.Unlock()
	close(e.stop)
	e.watching.Wait()
	e.disk.close()
	e.groups.Close()
}

// hello is what this node says of itself to others.
func (e *Engine) hello() (ring.ID, uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.view.Ring, e.core.Stats().MaxSeq
}

func (e *Engine) now() time.Duration { return time.Since(e.start) }

// do lets the core take one event.
func (e *Engine) do(ev ring.Event) {
	e.mu.Lock()
	e.step(ev)
	e.unlock()
}

// step takes an event and those that follow from it; mu is held.
func (e *Engine) step(ev ring.Event) {
	if e.closed {
		return
	}
	for {
		for _, o := range e.core.Step(e.now(), ev) {
			e.carryOut(o)
		}
		if len(e.events) == 0 {
			return
		}
		ev = e.events[0]
		e.events = slices.Delete(e.events, 0, 1)
	}
}

// carryOut does what the core wants; mu is held.
func (e *Engine) carryOut(o ring.Output) {
	switch o := o.(type) {
	case ring.Send:
		e.send(o)
	case ring.Deliver:
		e.received += uint64(len(o.Messages))
		for i := range o.Messages {
			e.carried += uint64(ring.EntrySize(len(o.Messages[i].Data)))
		}
		e.latency.delivered(o.Messages, e.conf.Self)
		e.groups.Deliver(o.Ring, o.Messages)
	case ring.Persist:
		e.disk.save(o.Ceiling)
	case ring.AskState:
		e.events = append(e.events, ring.State{Ballot: o.Ballot, Data: e.groups.State(o.Tail, o.Lead)})
	case ring.Install:
		e.install(o)
	case ring.Break:
		if p := e.peers[o.Peer]; p != nil {
			e.note(slog.LevelWarn, "peer breaks the protocol", "node", e.names.get(o.Peer.ID), "id", o.Peer.ID, "err", o.Reason)
			p.Close(fmt.Errorf("it breaks the protocol: %s", o.Reason))
		}
	case ring.Refused:
		e.refused = o.Err
	case ring.Note:
		e.note(slog.LevelDebug, "ring: "+o.Text)
	}
}

// send queues a frame at the sessions; mu is held.
func (e *Engine) send(s ring.Send) {
	var b []byte
	for _, to := range s.To {
		p := e.peers[to]
		if p == nil {
			continue
		}
		if b == nil {
			b = ring.AppendFrame(nil, s.Frame)
		}
		p.Send(b)
		if !p.dirty {
			p.dirty = true
			e.dirty = append(e.dirty, p)
		}
	}
}

// install is where a ring begins; mu is held.
func (e *Engine) install(in ring.Install) {
	now := time.Now()
	e.view, e.since, e.heard = in.View, now, now
	e.changes++
	close(e.next)
	e.next = make(chan struct{})
	e.latency.drop()
	ids := make([]uint32, len(in.View.Members))
	members := make([]Member, len(ids))
	for i, nk := range in.View.Members {
		ids[i] = nk.ID
		members[i] = Member{NK: nk, Name: e.names.get(nk.ID)}
		if p := e.peers[nk]; p != nil {
			members[i].Addr = p.Addr().Addr().Unmap()
		}
	}
	slices.SortFunc(members, func(a, b Member) int { return ring.CompareNK(a.NK, b.NK) })
	e.quorum = e.conf.Quorum.View(ids)
	e.groups.SetQuorate(e.quorum.Quorate)
	e.groups.Install(in)
	e.note(slog.LevelInfo, "ring", "ring", in.View.Ring.String(), "members", memberList(members), "was", in.Old.String(),
		"quorate", e.quorum.Quorate, "cause", in.Cause)
	if e.conf.Installed != nil {
		e.conf.Installed(Installed{in.View.Ring, members, e.quorum, in.Cause})
	}
	e.setStale(false)
}

func memberList(ms []Member) string {
	var b []byte
	for i, m := range ms {
		if i > 0 {
			b = append(b, ',')
		}
		b = fmt.Appendf(b, "%d", m.ID)
	}
	return string(b)
}

// putOut logs that a member was put out.
func (e *Engine) putOut(name string, p group.Process, uid uint32, why string) {
	e.log.Warn("group: a member is put out", "group", group.EscapeName(name), "pid", p.PID, "uid", uid, "cause", why)
}

// note has a line logged once the lock is given back.
func (e *Engine) note(level slog.Level, text string, args ...any) {
	e.notes = append(e.notes, func() { e.log.Log(context.Background(), level, text, args...) })
}

// unlock gives the lock back and does what needs none.
func (e *Engine) unlock() {
	e.arm()
	var few [8]*peer
	dirty := append(few[:0], e.dirty...)
	for i, p := range dirty {
		p.dirty, e.dirty[i] = false, nil
	}
	e.dirty = e.dirty[:0]
	notes := e.notes
	e.notes = nil
	room := e.full && e.core.Room() >= longest
	if room {
		e.full = false
	}
	closed := e.closed
	e.mu.Unlock()
	for _, p := range dirty {
		p.Flush()
	}
	if !closed {
		e.groups.Flush()
	}
	if room {
		e.groups.Room()
	}
	for _, f := range notes {
		f()
	}
}

// arm sets the timer to the core's next one. It is left alone when it fires
// sooner: a tick too many is cheaper than a timer set anew for each message.
func (e *Engine) arm() {
	at, ok := e.core.Next()
	if !ok || e.closed || e.armed != 0 && e.armed <= at {
		return
	}
	e.armed = max(at, 1)
	e.timer.Reset(max(0, at-e.now()))
}

func (e *Engine) tick() {
	e.mu.Lock()
	e.armed = 0
	e.step(ring.Tick{})
	e.unlock()
}
