package session

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/convoke-fs/convoke/cluster/ring"
)

// patience is how long a test on the host's clock waits for what ought to come.
const patience = 60 * time.Second

func await(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// startTCP starts a node on loopback, which judges nobody unless a test wants it.
func startTCP(t testing.TB, id uint32, conf *tls.Config, h Handler, change ...func(*Config)) (*Manager, Target, *logBuffer) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	log := &logBuffer{}
	c := Config{
		Self: nk(id, 1), Name: fmt.Sprint("node", id), Cluster: "c", Listener: l, TLS: conf, Handler: h,
		Hello: func() (ring.ID, uint64) { return ring.ID{}, 0 },
		Log:   slog.New(slog.NewTextHandler(io.MultiWriter(log, t.Output()), nil)).With("at", id),
		Dead:  time.Hour,
	}
	for _, f := range change {
		f(&c)
	}
	m, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m, Target{Name: c.Name, ID: id, Addr: netip.MustParseAddrPort(l.Addr().String())}, log
}

// meetTCP gives two nodes with a session.
func meetTCP(t *testing.T, encrypted bool, a, b *recorder) (*Manager, *Manager) {
	t.Helper()
	var ca, cb *tls.Config
	if encrypted {
		au := newAuthority(t)
		ca, cb = au.config(t, "node1"), au.config(t, "node2")
	}
	ma, _, _ := startTCP(t, 1, ca, a)
	mb, tb, _ := startTCP(t, 2, cb, b)
	ma.SetTargets([]Target{tb})
	await(t, "a session", func() bool { return a.peer(2) != nil && b.peer(1) != nil })
	return ma, mb
}

// bothWays runs a test with TLS and without.
func bothWays(t *testing.T, f func(t *testing.T, encrypted bool)) {
	t.Run("tls", func(t *testing.T) { f(t, true) })
	t.Run("plain", func(t *testing.T) { f(t, false) })
}

// numbered makes frames of all lengths, each with its number and a content that
// follows from that.
func numbered(i, size int) []byte {
	f := newFrame(ring.TypeOrd, pattern[i%251:][:max(size, 8)])
	binary.LittleEndian.PutUint64(f[ring.HeaderSize:], uint64(i))
	return f
}

// pattern looks the same nowhere near.
var pattern = func() []byte {
	b := make([]byte, ring.MaxBody+251)
	for i := range b {
		b[i] = byte(i*i>>8 + i)
	}
	return b
}()

// inOrder checks frames of numbered, and counts them.
type inOrder struct {
	t    *testing.T
	gate *gate // nil: none

	mu   sync.Mutex
	next uint64 // mu
}

// gate holds who comes until it is opened. A test defers that, since managers
// wait for their handlers when they are closed.
type gate struct {
	once    sync.Once
	closed  chan struct{}
	waiting atomic.Bool // somebody has come
}

func newGate() *gate { return &gate{closed: make(chan struct{})} }

func (g *gate) open() { g.once.Do(func() { close(g.closed) }) }

func (o *inOrder) frame(_ *Peer, typ ring.Type, _ uint8, body []byte) {
	if o.gate != nil {
		o.gate.waiting.Store(true)
		<-o.gate.closed
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	i := binary.LittleEndian.Uint64(body)
	if want := numbered(int(i), len(body))[ring.HeaderSize:]; typ != ring.TypeOrd || i != o.next || !bytes.Equal(body, want) {
		o.t.Errorf("frame %d of type %d with %d bytes is damaged, or not the next, %d", i, typ, len(body), o.next)
	}
	o.next = i + 1
}

func (o *inOrder) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return int(o.next)
}

func TestTCP_FramesOfAllSizes(t *testing.T) {
	bothWays(t, func(t *testing.T, encrypted bool) {
		a, b := newRecorder(t), newRecorder(t)
		oa, ob := &inOrder{t: t}, &inOrder{t: t}
		a.onFrame, b.onFrame = oa.frame, ob.frame
		ma, _ := meetTCP(t, encrypted, a, b)
		sizes := []int{0, 100, 1000, copyBytes - 8, copyBytes - 7, copyBytes, 4000, recordBytes - 8, recordBytes - 7, recordBytes, 65 << 10,
			sealBytes - 8, sealBytes - 7, sealBytes, inlineBytes, ring.MaxBody, 9, 10, 11}
		const rounds = 6
		var done sync.WaitGroup
		for _, p := range []*Peer{a.peer(2), b.peer(1)} {
			done.Go(func() {
				n := 0
				for r := range rounds {
					for i, size := range sizes {
						p.Send(numbered(n, size))
						n++
						if (i+r)%3 == 0 {
							p.Flush()
						}
					}
				}
				p.Flush()
			})
		}
		done.Wait()
		for _, o := range []*inOrder{oa, ob} {
			await(t, "all frames", func() bool { return o.count() == rounds*len(sizes) })
		}
		await(t, "an empty queue", func() bool { return a.peer(2).Backlog() == 0 && b.peer(1).Backlog() == 0 })
		st := ma.Stats()
		if st.FramesOut < rounds*uint64(len(sizes)) || st.FramesIn < rounds*uint64(len(sizes)) || st.BytesIn < 6<<20 || st.BytesOut < 6<<20 || st.Up != 1 {
			t.Errorf("stats %+v", st)
		}
	})
}

// Many flush at the same time: nothing is lost, and nothing stays behind.
func TestTCP_ManyFlush(t *testing.T) {
	bothWays(t, func(t *testing.T, encrypted bool) {
		a, b := newRecorder(t), newRecorder(t)
		o := &inOrder{t: t}
		b.onFrame = o.frame
		meetTCP(t, encrypted, a, b)
		p := a.peer(2)
		const many, each = 8, 3000
		var mu sync.Mutex
		n := 0
		var done sync.WaitGroup
		for range many {
			done.Go(func() {
				for range each {
					mu.Lock() // as the engine does
					p.Send(numbered(n, n%300))
					n++
					mu.Unlock()
					p.Flush()
				}
			})
		}
		done.Wait()
		await(t, "all frames", func() bool { return o.count() == many*each })
	})
}

// A session whose socket is full ends without delay, whoever ends it.
func TestTCP_BreakOfAFullSocket(t *testing.T) {
	for _, who := range []string{"sender", "receiver", "close"} {
		bothWays(t, func(t *testing.T, encrypted bool) {
			a, b := newRecorder(t), newRecorder(t)
			o := &inOrder{t: t, gate: newGate()}
			defer o.gate.open()
			b.onFrame = o.frame
			ma, mb := meetTCP(t, encrypted, a, b)
			ma.SetTargets(nil)
			p := a.peer(2)
			for i := range 40 {
				p.Send(numbered(i, 1<<20))
				p.Flush()
			}
			switch who {
			case "sender":
				p.Close(errProtocol)
			case "receiver":
				b.peer(1).Close(errProtocol)
			case "close":
				go mb.Close()
			}
			if who != "sender" {
				o.gate.open()
			}
			await(t, "down at the sender", func() bool { return a.peer(2) == nil })
			if who == "sender" {
				o.gate.open()
			}
			await(t, "down at the receiver", func() bool { return b.peer(1) == nil })
		})
	}
}

// A reader that is held up kills nobody: bytes that the kernel holds count.
func TestTCP_UnreadBytesAreHeard(t *testing.T) {
	a, b := newRecorder(t), newRecorder(t)
	o := &inOrder{t: t, gate: newGate()}
	defer o.gate.open()
	a.onFrame = o.frame
	ma, mb := meetTCP(t, false, a, b)
	mb.SetTargets(nil)
	ma.SetTargets(nil)
	p := a.peer(2)
	for i := range 2 {
		b.peer(1).Send(numbered(i, 300_000)) // more than the reader takes at a time
	}
	b.peer(1).Flush()
	await(t, "a reader that is held up", o.gate.waiting.Load)
	await(t, "unread bytes", func() bool { unread, _ := look(p.raw); return unread })
	later := func() int64 { return ma.now() + 10*ma.dead }
	for range 3 {
		ma.lookAfter(later())
	}
	if p.broken.Load() {
		t.Fatal("a peer whose bytes wait is taken for dead")
	}
	o.gate.open()
	await(t, "the frames", func() bool { return o.count() == 2 })
	await(t, "a break for silence", func() bool {
		p.heard.Store(ma.now()) // bytes that have come in between count
		ma.lookAfter(later())
		return p.broken.Load()
	})
	await(t, "down", func() bool { return a.peer(2) == nil })
}

// A peer that has hung up while its reader was held up does not count as alive.
func TestTCP_HungUpDoesNotAnswer(t *testing.T) {
	a, b := newRecorder(t), newRecorder(t)
	o := &inOrder{t: t, gate: newGate()}
	defer o.gate.open()
	a.onFrame = o.frame
	ma, mb := meetTCP(t, true, a, b)
	p := a.peer(2)
	ma.SetTargets(nil)
	b.peer(1).Send(numbered(0, 0))
	b.peer(1).Flush()
	await(t, "a reader that is held up", o.gate.waiting.Load)
	b.peer(1).Send(numbered(1, 0))
	b.peer(1).Flush()
	await(t, "unread bytes", func() bool { unread, _ := look(p.raw); return unread })
	if !ma.answers(p) {
		t.Error("a peer whose bytes wait does not answer")
	}
	mb.Close()
	await(t, "the end in the socket", func() bool { _, hung := look(p.raw); return hung })
	if ma.answers(p) {
		t.Error("who has hung up answers")
	}
	o.gate.open()
	await(t, "down", func() bool { return a.peer(2) == nil })
}

func TestTCP_OptionsOfTheSocket(t *testing.T) {
	a, b := newRecorder(t), newRecorder(t)
	meetTCP(t, true, a, b)
	for _, p := range []*Peer{a.peer(2), b.peer(1)} {
		if err := checkOptions(p.raw); err != nil {
			t.Error(err)
		}
	}
}

func TestTCP_WhoIsRefused(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	for _, tt := range []struct {
		name   string
		conf   *tls.Config
		change func(*Config)
		told   string // to who is refused; "": nothing but the end
	}{
		{"another key", theirs.config(t, "node2"), nil, ""},
		{"no TLS", nil, nil, ""},
		{"a name that is not in the certificate", ours.config(t, "node3"), nil, "the certificate is not that of the node's name"},
		{"the name of all certificates", ours.config(t, "node2"), func(c *Config) { c.Name = "convoke" }, "the certificate is not that of the node's name"},
		{"another cluster", ours.config(t, "node2"), func(c *Config) { c.Cluster = "d" }, "another cluster"},
	} {
		change := tt.change
		if change == nil {
			change = func(*Config) {}
		}
		for _, calls := range []bool{true, false} {
			a, b := newRecorder(t), newRecorder(t)
			ma, ta, la := startTCP(t, 1, ours.config(t, "node1"), a)
			mb, tb, lb := startTCP(t, 2, tt.conf, b, change)
			if calls {
				mb.SetTargets([]Target{ta})
				await(t, tt.name+": two refusals", func() bool { return ma.Stats().Refused > 1 && mb.Stats().Dials > 1 })
				if n := la.lines("level=WARN"); n != 1 {
					t.Errorf("%s: %d lines in the log of who refuses, want 1", tt.name, n)
				}
				if tt.told != "" {
					await(t, tt.name+" in the log of who is refused", func() bool { return lb.lines("level=WARN", tt.told) == 1 })
				}
			} else {
				ma.SetTargets([]Target{tb})
				await(t, tt.name+": two dials", func() bool { return ma.Stats().Dials > 1 })
			}
			ma.Close()
			mb.Close()
			if got := a.events(); len(got) != 0 {
				t.Errorf("%s, calls %v: told %q", tt.name, calls, got)
			}
			// Who is called and finds nothing wrong is up until it is told.
			if got := b.events(); calls && len(got) != 0 {
				t.Errorf("%s: who is refused was told %q", tt.name, got)
			}
		}
	}
}

func TestTCP_GarbageHurtsNobody(t *testing.T) {
	bothWays(t, func(t *testing.T, encrypted bool) {
		a, b := newRecorder(t), newRecorder(t)
		o := &inOrder{t: t}
		b.onFrame = o.frame
		ma, _ := meetTCP(t, encrypted, a, b)
		addr := ma.conf.Listener.Addr().String()
		var done sync.WaitGroup
		for i := range 40 {
			done.Go(func() {
				c, err := net.Dial("tcp", addr)
				if err != nil {
					return // refused for now, as others are who want too much
				}
				defer c.Close()
				junk := make([]byte, 1<<uint(i%16))
				rand.Read(junk)
				if i%2 == 0 {
					copy(junk, newFrame(ring.TypeHello, nil))
				}
				c.Write(junk)
				c.(*net.TCPConn).CloseWrite()
				c.SetDeadline(time.Now().Add(patience))
				if got, _ := io.ReadAll(c); len(got) > 300 {
					t.Errorf("a stranger is told %d bytes", len(got))
				}
			})
		}
		for i := range 1000 {
			a.peer(2).Send(numbered(i, 100))
			a.peer(2).Flush()
		}
		done.Wait()
		await(t, "all frames", func() bool { return o.count() == 1000 })
		if st := ma.Stats(); st.Up != 1 || st.Breaks != 0 || st.Refused == 0 {
			t.Errorf("stats %+v", st)
		}
	})
}

func TestTCP_DialOfAClosedPortTellsDead(t *testing.T) {
	a, b := newRecorder(t), newRecorder(t)
	ma, mb := meetTCP(t, true, a, b)
	ta := Target{Name: "node1", ID: 1, Addr: netip.MustParseAddrPort(ma.conf.Listener.Addr().String())}
	mb.SetTargets([]Target{ta})
	ma.SetTargets(nil)
	// The port goes first, and the session with it, but without a word.
	ma.conf.Listener.Close()
	a.peer(2).Close(errProtocol)
	await(t, "down and dead", func() bool { return len(b.events()) == 3 })
	b.want(t, "up 1/1", "down 1/1", "dead 1/1")
}
