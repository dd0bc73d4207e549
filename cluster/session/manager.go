package session

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/convoke-fs/convoke/cluster/ring"
)

const (
	defaultHeartbeat = 100 * time.Millisecond
	defaultDead      = 500 * time.Millisecond
	byeTime          = 100 * time.Millisecond // for peers to take a BYE
)

// Manager keeps a session with each target, and takes those that others dial.
type Manager struct {
	conf     Config
	tls      *tls.Config
	log      *slog.Logger
	instance [16]byte
	cluster  [16]byte
	start    time.Time // of the clock that now reads
	hb, dead int64     // ns

	ctx    context.Context // ends at Close
	cancel context.CancelFunc
	work   sync.WaitGroup // all goroutines
	doors  doors
	said   said
	counts counts

	beaten   atomic.Int64 // when beat came last
	merciful atomic.Int64 // until then nobody is judged
	pausing  sync.Mutex   // held while the handler is told of a pause

	mu       sync.Mutex
	nodes    map[uint32]*node // mu
	closed   bool             // mu
	bootTold uint64           // mu; the highest that the handler knows
}

type counts struct {
	bytes                    byteCounts
	framesIn, framesOut      atomic.Uint64
	dials, refused, breaks   atomic.Uint64
	pauses, probes, extended atomic.Uint64
}

// New starts a manager. The error is about c only.
func New(c Config) (*Manager, error) {
	switch {
	case c.Self.ID == 0 || c.Self.Boot == 0:
		return nil, fmt.Errorf("session: node %s", c.Self)
	case !validName(c.Name):
		return nil, fmt.Errorf("session: node name %q", c.Name)
	case c.Listener == nil || c.Hello == nil || c.Handler == nil || c.Log == nil:
		return nil, errors.New("session: a required field is missing")
	}
	if c.Dead == 0 {
		c.Dead = defaultDead
	}
	if c.Heartbeat == 0 {
		c.Heartbeat = min(defaultHeartbeat, c.Dead/5)
	}
	if c.Heartbeat < time.Millisecond || c.Dead < 3*c.Heartbeat {
		return nil, fmt.Errorf("session: heartbeat %v and dead after %v", c.Heartbeat, c.Dead)
	}
	if c.Dial == nil {
		c.Dial = dialTCP
	}
	m := &Manager{
		conf: c, log: c.Log, cluster: clusterHash(c.Cluster), start: time.Now(),
		hb: int64(c.Heartbeat), dead: int64(c.Dead), nodes: map[uint32]*node{}, bootTold: c.Self.Boot - 1,
	}
	if m.instance = c.Instance; m.instance == ([16]byte{}) {
		rand.Read(m.instance[:])
	}
	if c.TLS != nil {
		m.tls = c.TLS.Clone()
		// Small records at the beginning of a transfer help who shows a page
		// early; here they only cost.
		m.tls.DynamicRecordSizingDisabled = true
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.work.Go(m.accept)
	m.work.Go(m.beat)
	return m, nil
}

func dialTCP(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", addr.String())
}

// now is the time since the manager was made, in ns, by a clock that never goes
// back.
func (m *Manager) now() int64 { return int64(time.Since(m.start)) }

func (m *Manager) isClosed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.closed
}

// hello is our greeting.
func (m *Manager) hello() hello {
	r, maxSeq := m.conf.Hello()
	return hello{
		protoMin: protoMin, protoMax: protoMax, cluster: m.cluster, nk: m.conf.Self, instance: m.instance,
		name: m.conf.Name, maxSeq: maxSeq, ring: r,
	}
}

// SetTargets replaces the set of targets. A session with a node that is none any
// more stays until it breaks. Of two targets with one number the first counts,
// and this node is none.
func (m *Manager) SetTargets(ts []Target) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return
	}
	wanted := make(map[uint32]bool, len(ts))
	for _, t := range ts {
		if t.ID == 0 || t.ID == m.conf.Self.ID || wanted[t.ID] {
			continue
		}
		wanted[t.ID] = true
		n := m.node(t.ID)
		was := n.target
		n.target = &t
		switch {
		case was == nil:
			ctx, stop := context.WithCancel(m.ctx)
			n.stop = stop
			m.work.Go(func() { n.keep(ctx) })
		case was.Addr != t.Addr || was.Failed && !t.Failed:
			n.hurry = hurryNow
			n.wake()
		}
	}
	for id, n := range m.nodes {
		if n.target != nil && !wanted[id] {
			n.stop()
			n.target, n.stop = nil, nil
		}
	}
}

// Close says BYE to all, and ends all sessions and goroutines. Down is told for
// each that was up. It waits for the handler, and for peers to take the BYE, some
// 100 ms at most.
func (m *Manager) Close() {
	m.mu.Lock()
	first := !m.closed
	m.closed = true
	m.mu.Unlock()
	if first {
		m.conf.Listener.Close()
		bye := newFrame(ring.TypeBye, []byte("the daemon ends"))
		up := m.sessions()
		for _, p := range up {
			p.leaving.Store(true)
			p.Send(bye)
			p.Flush()
		}
		enough, stop := context.WithTimeout(m.ctx, byeTime)
		for _, p := range up {
			select {
			case <-p.ended:
			case <-enough.Done():
			}
		}
		stop()
		m.cancel()
		m.mu.Lock()
		for _, n := range m.nodes {
			if n.peer != nil {
				n.peer.fail(errClosed, false)
			}
		}
		m.mu.Unlock()
	}
	m.work.Wait()
}

// refused acts on a refusal of this node by another one.
func (m *Manager) refused(who string, r *refusal) {
	level, text := slog.LevelWarn, "another node refuses this one"
	switch {
	case r.reason == reasonBusy:
		return
	case r.reason == reasonConflict:
		level, text = slog.LevelError, "this node is refused: another daemon with its number runs, or its state folder is a copy"
	case r.reason != reasonBoot:
	case r.boot < m.conf.Self.Boot || r.boot-m.conf.Self.Boot > maxAhead:
		text = "another node refuses this one for a start that can not be known"
	default:
		m.mu.Lock()
		news := r.boot > m.bootTold
		m.bootTold = max(m.bootTold, r.boot)
		m.mu.Unlock()
		if news {
			m.conf.Handler.BootKnown(r.boot)
		}
	}
	m.say(level, who, "refused "+r.Error(), text, "by", who, "err", r)
}

// say has a line logged, unless the same was said of who not long ago.
func (m *Manager) say(level slog.Level, who, what, text string, args ...any) {
	if m.said.once(who, what, time.Now()) {
		m.log.Log(m.ctx, level, text, args...)
	}
}

// Stats gives the counts.
func (m *Manager) Stats() Stats {
	c := &m.counts
	return Stats{
		Up:    len(m.sessions()),
		Dials: c.dials.Load(), Refused: c.refused.Load(), Breaks: c.breaks.Load(),
		BytesIn: c.bytes.in.Load(), BytesOut: c.bytes.out.Load(),
		FramesIn: c.framesIn.Load(), FramesOut: c.framesOut.Load(),
		Pauses: c.pauses.Load(), Probes: c.probes.Load(), Extended: c.extended.Load(),
	}
}
