package session

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"github.com/convoke-fs/convoke/cluster/ring"
)

// ended tells whether the other side has closed c, and what it had sent.
func ended(t *testing.T, c net.Conn) (bool, []byte) {
	t.Helper()
	c.SetDeadline(time.Now().Add(time.Millisecond))
	got, err := io.ReadAll(c)
	return err == nil, got
}

func TestStrangers_AreRefusedAndChangeNothing(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s := w.meet(1, 2)
		good := func(change func(*hello)) []byte {
			h := s[0].hello()
			h.nk, h.name = nk(3, 1), "node3"
			if change != nil {
				change(&h)
			}
			return h.append(nil)
		}
		sum := func(f []byte) []byte { return appendSum(bytes.Clone(f), f) }
		greeting := func(body []byte) []byte { return sum(newFrame(ring.TypeHello, body)) }
		long := newFrame(ring.TypeHello, make([]byte, maxGreeting+1))
		for _, tt := range []struct {
			name   string
			sends  []byte
			reason reason // 0: it is told nothing
		}{
			{"garbage", bytes.Repeat([]byte("GET / HTTP/1.0\r\n"), 100), 0},
			{"zeros", make([]byte, 100), 0},
			{"TLS", append([]byte{0x16, 3, 1, 2, 0, 1, 0, 1}, make([]byte, 512)...), 0},
			{"a long frame", sum(long), 0},
			{"a wrong checksum", append(newFrame(ring.TypeHello, good(nil)), 1, 2, 3, 4), 0},
			{"another frame first", sum(newFrame(ring.TypePing, make([]byte, 8))), 0},
			{"a frame of the ring", sum(newFrame(ring.TypePropose, make([]byte, 8))), 0},
			{"a short greeting", greeting(good(nil)[:40]), 0},
			{"another magic", greeting(append([]byte("XSP1"), good(nil)[4:]...)), 0},
			{"no name", greeting(good(func(h *hello) { h.name = "" })), 0},
			{"a name that is none", greeting(good(func(h *hello) { h.name = "a\nb" })), 0},
			{"number 0", greeting(good(func(h *hello) { h.nk.ID = 0 })), 0},
			{"boot 0", greeting(good(func(h *hello) { h.nk.Boot = 0 })), 0},
			{"versions upside down", greeting(good(func(h *hello) { h.protoMin, h.protoMax = 2, 1 })), 0},
			{"a newer protocol", greeting(good(func(h *hello) { h.protoMin, h.protoMax = 2, 3 })), reasonVersion},
			{"a newer protocol of another form", greeting(append(bytes.Clone(magic[:]), 2, 0, 2, 0)), reasonVersion},
			{"another cluster", greeting(good(func(h *hello) { h.cluster = clusterHash("d") })), reasonCluster},
		} {
			c := w.call(9, 1)
			c.Write(tt.sends)
			settle()
			over, got := ended(t, c)
			if !over {
				t.Errorf("%s: the connection stays open", tt.name)
			}
			if tt.reason == 0 {
				if len(got) != 0 {
					t.Errorf("%s: it is told %q", tt.name, got)
				}
				continue
			}
			if len(got) < ring.HeaderSize || ring.Type(got[4]) != ring.TypeRefuse {
				t.Errorf("%s: it is told %q", tt.name, got)
				continue
			}
			if r, err := parseRefusal(got[ring.HeaderSize:]); err != nil || r.reason != tt.reason {
				t.Errorf("%s: refused by %v, %v, want reason %d", tt.name, r, err, tt.reason)
			}
		}
		time.Sleep(10 * time.Second)
		s[0].want(t)
		s[1].want(t)
		if n := len(s[0].nodes); n != 1 {
			t.Errorf("%d nodes are known, want the one with a session", n)
		}
		if n := s[0].log.lines("level=WARN", "no member called"); n != 1 {
			t.Errorf("%d lines about strangers in the log, want 1 for the address", n)
		}
		if n := s[0].log.lines("level=WARN", "another cluster"); n != 1 {
			t.Errorf("%d lines about the other cluster, want 1", n)
		}
	})
}

// What follows the fields that are known belongs to later versions.
func TestStrangers_LongerGreetingIsUnderstood(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.start(1, 1)
		h := a.hello()
		h.nk, h.name, h.instance = nk(2, 1), "node2", [16]byte{2}
		h.protoMax, h.features = 900, 1<<63
		l := a.newLink(w.call(2, 1), true)
		if err := l.writeNow(ring.TypeHello, append(h.append(nil), "more of it"...)); err != nil {
			t.Fatal(err)
		}
		if typ, _, _, err := l.in.next(); typ != ring.TypeHelloAck || err != nil {
			t.Errorf("frame %d, %v", typ, err)
		}
		settle()
		a.want(t, "up 2/1")
	})
}

func TestStrangers_TakeFewPlacesAndNotForLong(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s := w.meet(1, 2)
		var slow []net.Conn
		for range maxStrangersAddress {
			slow = append(slow, w.call(9, 1))
		}
		settle()
		for i, c := range slow {
			if over, _ := ended(t, c); over {
				t.Errorf("connection %d of the address is closed", i)
			}
			c.Write([]byte{1}) // a byte now and then does not help
		}
		if over, _ := ended(t, w.call(9, 1)); !over {
			t.Error("one address may have more connections than it should")
		}
		for h := uint32(10); h < 10+maxStrangers/maxStrangersAddress-1; h++ {
			for range maxStrangersAddress {
				w.call(h, 1)
			}
		}
		settle()
		if over, _ := ended(t, w.call(99, 1)); !over {
			t.Error("all together may have more connections than they should")
		}
		time.Sleep(greetingTime)
		for i, c := range slow {
			if over, _ := ended(t, c); !over {
				t.Errorf("connection %d is still open after %v", i, greetingTime)
			}
		}
		// The places are free, and those with a session do not count.
		for range 3 * maxStrangersAddress {
			w.handshake(t, s[0], 3, nil).conn.Close()
			settle()
		}
		if s[0].peer(2) == nil {
			t.Error("the session of a member has suffered")
		}
	})
}

// A greeting that never gets its answer ends, too.
func TestStrangers_WhoIsCalledAndSaysNothing(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.start(1, 1)
		l, err := w.net.listen(at(2))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		a.SetTargets(targets(2))
		began := time.Now()
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(c); err != nil {
			t.Error(err)
		}
		if d := time.Since(began); d != greetingTime {
			t.Errorf("the connection is closed after %v, want %v", d, greetingTime)
		}
		// And an end of the manager does not wait for it.
		if c, err = l.Accept(); err != nil {
			t.Fatal(err)
		}
		settle()
		began = time.Now()
		a.Close()
		if d := time.Since(began); d > byeTime {
			t.Errorf("close took %v", d)
		}
		c.Close()
	})
}

func TestStrangers_ProtocolErrorsBreakTheSession(t *testing.T) {
	for name, f := range map[string][]byte{
		"a second greeting": newFrame(ring.TypeHello, nil),
		"an answer":         newFrame(ring.TypeHelloAck, nil),
		"an unknown type":   newFrame(9, nil),
		"a short PING":      newFrame(ring.TypePing, make([]byte, 7)),
		"a short PROBE":     newFrame(ring.TypeProbe, make([]byte, 11)),
		"a short HEARD":     newFrame(ring.TypeHeard, make([]byte, 15)),
		"a short REFUSE":    newFrame(ring.TypeRefuse, nil),
		"a long frame":      newFrame(ring.TypeInfo, make([]byte, ring.MaxBody+1)),
	} {
		inWorld(t, func(t *testing.T, w *world) {
			s := w.meet(1, 2)
			l := w.handshake(t, s[0], 3, nil)
			l.wire.Write(appendSum(bytes.Clone(f), f))
			settle()
			s[0].want(t, "up 3/1", "down 3/1")
			if over, _ := ended(t, l.conn); !over {
				t.Errorf("%s: the connection stays open", name)
			}
		})
	}
}

// The answers to a flood of questions do not pile up at who does not read them.
func TestStrangers_FloodOfQuestions(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.start(1, 1)
		l := w.handshake(t, a, 2, nil)
		p := a.peer(2)
		for range 10_000 {
			if err := l.writeNow(ring.TypePing, make([]byte, 8)); err != nil {
				t.Fatal(err)
			}
		}
		settle()
		if n := p.Backlog(); n > 2*maxEcho {
			t.Errorf("%d bytes wait", n)
		}
		l.conn.Close()
	})
}

func TestStrangers_WhoDoesNotReadIsLeftOut(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.start(1, 1)
		w.handshake(t, a, 2, nil)
		p := a.peer(2)
		big := newFrame(ring.TypeOrd, make([]byte, ring.MaxBody)) // one buffer for all
		for range 60 {
			p.Send(big)
		}
		if n := p.Backlog(); n < 60<<20 || n > 61<<20 {
			t.Errorf("%d bytes wait", n)
		}
		settle()
		a.want(t, "up 2/1")
		for range 5 {
			p.Send(big)
		}
		settle()
		a.want(t, "down 2/1")
	})
}
