package session

import (
	"slices"
	"testing"
	"time"

	"github.com/convoke-fs/convoke/cluster/ring"
)

// A host that loses its power says nothing, and is back with the next boot
// before anybody has missed it. Its kernel knows nothing of the old connection;
// where that does not get through, nobody answers on it.
func TestConflict_FastRestart(t *testing.T) {
	for _, told := range []bool{true, false} {
		inWorld(t, func(t *testing.T, w *world) {
			s := w.meet(1, 2)
			w.net.cutBoth(host(1), host(2)) // with its end of the connections
			w.net.crash(host(2))
			addr := at(7)
			if told {
				w.net.heal()
				addr = at(2)
			}
			began := time.Now()
			b := w.startAt(addr, 2, 2)
			b.SetTargets(targets(1))
			time.Sleep(time.Second)
			got := s[0].take()
			if told && len(got) == 3 { // the reset may come first
				got = append([]string{got[0] + " dead"}, got[2:]...)
			}
			if want := []string{"down 2/1 dead", "up 2/2"}; !slices.Equal(got, want) {
				t.Errorf("told %q, want %q", got, want)
			}
			b.want(t, "up 1/1")
			wait := 2 * hb
			if told {
				wait = 0
			}
			if d := s[0].whenTold("up 2/2").Sub(began); !within(d, wait, wait+yield+hb) {
				t.Errorf("told %v: up after %v, want %v", told, d, wait)
			}
		})
	}
}

// A process that is killed is known to be dead by the restart at the latest.
func TestConflict_RestartOfAProcess(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s := w.meet(1, 2)
		s[0].SetTargets(nil) // no redial finds out
		w.net.crash(host(2))
		settle()
		s[0].want(t, "down 2/1")
		w.start(2, 2).SetTargets(targets(1))
		time.Sleep(time.Second)
		s[0].want(t, "dead 2/1", "up 2/2")
	})
}

func TestConflict_TwoDaemonsWithOneNumber(t *testing.T) {
	for name, boot := range map[string]uint64{"a later boot": 9, "the same boot, a copied folder": 1, "an earlier boot": 0} {
		inWorld(t, func(t *testing.T, w *world) {
			var s []*side
			if boot == 0 { // of the newcomer 1, so the first gets 2
				s = []*side{w.start(1, 1), w.start(2, 2)}
				s[0].SetTargets(targets(2))
				time.Sleep(time.Second)
				s[0].take()
				s[1].take()
			} else {
				s = w.meet(1, 2)
			}
			copied := w.startAt(at(7), 2, max(boot, 1))
			copied.SetTargets(targets(1))
			time.Sleep(time.Minute)
			s[0].want(t)
			s[1].want(t)
			copied.want(t)
			if n := copied.log.lines("level=ERROR", "this node is refused"); n != 1 {
				t.Errorf("%s: %d errors in the log of the newcomer, want 1", name, n)
			}
			if n := s[0].log.lines("level=WARN", "a daemon is refused", "id=2"); n != 1 {
				t.Errorf("%s: %d lines in the log of who refuses, want 1", name, n)
			}
			if n := len(w.net.dialsTo(host(7), host(1))); n < 8 || n > 20 {
				t.Errorf("%s: %d dials in a minute, want some, slowly", name, n)
			}
			if boot != 9 {
				return
			}
			// When the first one is gone the newcomer takes its place.
			s[0].SetTargets(nil)
			w.net.crash(host(2))
			time.Sleep(redialLast * 9 / 8)
			s[0].want(t, "down 2/1", "dead 2/1", "up 2/9")
			copied.want(t, "up 1/1")
		})
	}
}

// Two daemons with one number that meet each other are both refused.
func TestConflict_MeetsItself(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.start(2, 1)
		b := w.startAt(at(7), 2, 1)
		_, typ, body := w.greet(t, a, 2, nil)
		if r, err := parseRefusal(body); typ != ring.TypeRefuse || err != nil || r.reason != reasonConflict {
			t.Errorf("frame %d, %v, %v, want a refusal for a conflict", typ, r, err)
		}
		a.want(t)
		b.want(t)
	})
}

// Without a living session the same boot in other hands is a life that did not
// count its start.
func TestConflict_SameBootAgain(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s := w.meet(1, 2)
		s[1].Close() // and opens anew, as at a second join
		time.Sleep(time.Second)
		s[0].take()
		again := w.start(2, 1)
		again.SetTargets(targets(1))
		time.Sleep(time.Second)
		s[0].want(t)
		if got := again.take(); !slices.Contains(got, "boot known 1") {
			t.Errorf("told %q, want that boot 1 is known", got)
		}
		again.Close()
		again = w.start(2, 2)
		again.SetTargets(targets(1))
		time.Sleep(redialLast * 2)
		if p := s[0].peer(2); p == nil || p.NK() != nk(2, 2) {
			t.Errorf("boot 2 is not let in: %q", s[0].events())
		}
	})
}

// A node whose state folder is lost starts again with boot 1, and is told,
// whoever dials.
func TestConflict_LowerBoot(t *testing.T) {
	for _, dialler := range []uint32{1, 2} {
		inWorld(t, func(t *testing.T, w *world) {
			a := w.start(1, 1)
			b := w.start(2, 7)
			a.SetTargets(targets(2))
			time.Sleep(time.Second)
			b.Close()
			time.Sleep(time.Second)
			a.SetTargets(nil)
			a.take()

			lost := w.start(2, 1)
			if dialler == 1 {
				a.SetTargets(targets(2))
			} else {
				lost.SetTargets(targets(1))
			}
			time.Sleep(time.Minute)
			a.want(t)
			if dialler == 1 { // it has said yes before it was refused, each time
				got := lost.take()
				if len(got) < 3 || got[0] != "up 1/1" || got[1] != "boot known 7" || got[2] != "down 1/1" {
					t.Errorf("told %q", got)
				}
				n := 0
				for _, e := range got {
					if e == "boot known 7" {
						n++
					}
				}
				if n != 1 {
					t.Errorf("the boot is told %d times", n)
				}
			} else {
				lost.want(t, "boot known 7")
			}
			lost.Close()
			a.take()
			again := w.start(2, 8)
			again.SetTargets(targets(1))
			time.Sleep(redialLast * 2)
			if p := a.peer(2); p == nil || p.NK() != nk(2, 8) {
				t.Errorf("boot 8 is not let in: %q", a.events())
			}
		})
	}
}

// Nobody may drive our numbers to their end. Those of rings are the handler's.
func TestConflict_WildNumbers(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.start(1, 5)
		for name, change := range map[string]func(*hello){
			"boot":     func(h *hello) { h.nk.Boot = 6 + maxAhead },
			"boot end": func(h *hello) { h.nk.Boot = 1<<64 - 1 },
		} {
			_, typ, body := w.greet(t, a, 2, change)
			if r, err := parseRefusal(body); typ != ring.TypeRefuse || err != nil || r.reason != reasonInvalid {
				t.Errorf("%s: frame %d, %v, %v, want a refusal", name, typ, r, err)
			}
		}
		l := w.handshake(t, a, 2, func(h *hello) {
			h.nk.Boot, h.maxSeq, h.ring.Seq = 5+maxAhead, 1<<64-1, 1<<64-1
		})
		// And a refusal for such a boot is not believed.
		r := refusal{reason: reasonBoot, boot: 6 + maxAhead}
		if err := l.writeNow(ring.TypeRefuse, r.append(nil)); err != nil {
			t.Fatal(err)
		}
		settle()
		a.want(t, "up 2/4294967301", "down 2/4294967301")
	})
}

// Whoever has an old session that is broken only for the other side is let in
// at once, and a dial that crosses a living session is not.
func TestConflict_SameInstanceAgain(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.start(1, 1)
		l := w.handshake(t, a, 2, nil)
		a.want(t, "up 2/1")
		alive := make(chan bool)
		go func() {
			for {
				typ, _, _, err := l.in.next()
				if err != nil {
					close(alive)
					return
				}
				if typ == ring.TypePing {
					l.writeNow(ring.TypePong, make([]byte, 8))
				}
			}
		}()
		_, typ, body := w.greet(t, a, 2, nil)
		if r, err := parseRefusal(body); typ != ring.TypeRefuse || err != nil || r.reason != reasonBusy {
			t.Errorf("frame %d, %v, %v, want a refusal: the session is alive", typ, r, err)
		}
		a.want(t)
		w.net.cut(host(2), host(1)) // its answers are lost
		l.conn.Close()
		<-alive
		w.net.heal()
		w.handshake(t, a, 2, nil)
		a.want(t, "down 2/1", "up 2/1")
	})
}

func TestConflict_OneInstanceHasOneBoot(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.start(1, 1)
		w.handshake(t, a, 2, nil)
		_, typ, _ := w.greet(t, a, 2, func(h *hello) { h.nk.Boot = 2 })
		if typ != ring.TypeRefuse {
			t.Errorf("frame %d, want a refusal", typ)
		}
		a.want(t, "up 2/1")
	})
}

// What is known of nodes is bounded, and what is in use is kept.
func TestConflict_ManyNumbers(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.start(1, 1)
		a.SetTargets(targets(3))
		l := w.handshake(t, a, 2, nil)
		for id := uint32(10); id < 10+2*maxNodes; id++ {
			a.Manager.mu.Lock()
			a.node(id)
			if n := len(a.nodes); n > maxNodes {
				t.Fatalf("%d nodes", n)
			}
			a.Manager.mu.Unlock()
		}
		if err := l.writeNow(ring.TypeInfo, []byte("x")); err != nil {
			t.Fatal(err)
		}
		settle()
		a.want(t, "up 2/1", "frame 2/1 16 0 x")
		w.start(3, 1)
		time.Sleep(time.Second)
		got := a.take()
		slices.Sort(got)
		if want := []string{"down 2/1", "up 3/1"}; !slices.Equal(got, want) { // the first was silent
			t.Errorf("told %q, want %q", got, want)
		}
	})
}
