package session

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/convoke-fs/convoke/cluster/ring"
)

// world is a cluster in memory, on a clock of its own.
type world struct {
	t   *testing.T
	net *memnet
}

// inWorld runs a test with nodes in memory.
func inWorld(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f(t, &world{t: t, net: newMemnet()})
	})
}

// at gives the address of the sessions of node id.
func at(id uint32) netip.AddrPort {
	return netip.AddrPortFrom(host(id), 7001)
}

func host(id uint32) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, byte(id)}) }

func nk(id uint32, boot uint64) ring.NK { return ring.NK{ID: id, Boot: boot} }

func target(id uint32) Target {
	return Target{Name: fmt.Sprint("node", id), ID: id, Addr: at(id)}
}

// side is one manager and what it told.
type side struct {
	*Manager
	*recorder
	log *logBuffer
}

// start starts node id.
func (w *world) start(id uint32, boot uint64, change ...func(*Config)) *side {
	w.t.Helper()
	return w.startAt(at(id), id, boot, change...)
}

func (w *world) startAt(addr netip.AddrPort, id uint32, boot uint64, change ...func(*Config)) *side {
	w.t.Helper()
	l, err := w.net.listen(addr)
	if err != nil {
		w.t.Fatal(err)
	}
	s := &side{recorder: newRecorder(w.t), log: &logBuffer{}}
	c := Config{
		Self: nk(id, boot), Name: fmt.Sprint("node", id), Cluster: "c", Listener: l,
		Dial:    w.net.dialer(addr.Addr()),
		Hello:   func() (ring.ID, uint64) { return ring.ID{Seq: 5, Rep: id}, uint64(100 + id) },
		Handler: s.recorder,
		Log:     slog.New(slog.NewTextHandler(io.MultiWriter(s.log, w.t.Output()), &slog.HandlerOptions{Level: slog.LevelDebug})).With("at", id),
	}
	for _, f := range change {
		f(&c)
	}
	if s.Manager, err = New(c); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(s.Close)
	return s
}

// meet starts nodes that are targets of each other, and waits for their
// sessions.
func (w *world) meet(ids ...uint32) []*side {
	w.t.Helper()
	var sides []*side
	for _, id := range ids {
		sides = append(sides, w.start(id, 1))
	}
	for _, s := range sides {
		s.SetTargets(targets(ids...))
	}
	time.Sleep(100 * time.Millisecond)
	settle()
	for _, s := range sides {
		if got := s.Stats().Up; got != len(ids)-1 {
			w.t.Fatalf("node %d has %d sessions, want %d: %q", s.conf.Self.ID, got, len(ids)-1, s.events())
		}
		s.take()
	}
	return sides
}

func targets(ids ...uint32) (ts []Target) {
	for _, id := range ids {
		ts = append(ts, target(id))
	}
	return ts
}

// logBuffer keeps the log.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer // mu
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

// lines gives how many lines hold all of words.
func (b *logBuffer) lines(words ...string) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for line := range strings.Lines(b.buf.String()) {
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
			n++
		}
	}
	return n
}

// recorder is a handler that keeps what it is told, and checks the order of it.
type recorder struct {
	t       *testing.T
	onFrame func(p *Peer, typ ring.Type, flags uint8, body []byte) // optional, in place of keeping it

	mu    sync.Mutex
	told  []string             // mu
	peers map[uint32]*Peer     // mu; up now, by number
	when  map[string]time.Time // mu; of the last event of a text
}

var _ Handler = (*recorder)(nil)

func newRecorder(t *testing.T) *recorder {
	return &recorder{t: t, peers: map[uint32]*Peer{}, when: map[string]time.Time{}}
}

// add notes an event; mu is held.
func (r *recorder) add(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	r.told = append(r.told, text)
	r.when[text] = time.Now()
}

func (r *recorder) Up(p *Peer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if q := r.peers[p.NK().ID]; q != nil {
		r.t.Errorf("up %s while %s is", p.NK(), q.NK())
	}
	r.peers[p.NK().ID] = p
	r.add("up %s", p.NK())
}

func (r *recorder) Frame(p *Peer, typ ring.Type, flags uint8, body []byte) {
	r.mu.Lock()
	if r.peers[p.NK().ID] != p {
		r.t.Errorf("frame of %s whose session is not up", p.NK())
	}
	if r.onFrame == nil {
		r.add("frame %s %d %d %s", p.NK(), typ, flags, body)
	}
	r.mu.Unlock()
	if r.onFrame != nil {
		r.onFrame(p, typ, flags, body)
	}
}

func (r *recorder) Down(p *Peer, cause error, dead bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.peers[p.NK().ID] != p {
		r.t.Errorf("down %s whose session is not up", p.NK())
	}
	if cause == nil {
		r.t.Errorf("down %s without a cause", p.NK())
	}
	delete(r.peers, p.NK().ID)
	if dead {
		r.add("down %s dead", p.NK())
	} else {
		r.add("down %s", p.NK())
	}
}

func (r *recorder) Dead(nk ring.NK) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if q := r.peers[nk.ID]; q != nil {
		r.t.Errorf("dead %s while %s is up", nk, q.NK())
	}
	r.add("dead %s", nk)
}

func (r *recorder) Paused(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.add("paused %v", d)
}

func (r *recorder) BootKnown(boot uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.add("boot known %d", boot)
}

// peer gives the session with node id.
func (r *recorder) peer(id uint32) *Peer {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.peers[id]
}

// events gives what was told since the last take.
func (r *recorder) events() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.told)
}

// take gives the same and forgets it.
func (r *recorder) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	told := r.told
	r.told = nil
	return told
}

// whenTold gives the time of the last event of this text.
func (r *recorder) whenTold(text string) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.when[text]
}

// want compares what was told, and forgets it.
func (r *recorder) want(t *testing.T, want ...string) {
	t.Helper()
	if got := r.take(); !slices.Equal(got, want) {
		t.Errorf("told %q, want %q", got, want)
	}
}

// frame makes a frame of the ring.
func frame(typ ring.Type, body string) []byte { return newFrame(typ, []byte(body)) }

// call dials node id as a stranger at host from would, by hand.
func (w *world) call(from, id uint32) net.Conn {
	w.t.Helper()
	c, err := w.net.dialer(host(from))(w.t.Context(), at(id))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	return c
}
