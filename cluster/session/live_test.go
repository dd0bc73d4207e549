package session

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/convoke-fs/convoke/cluster/ring"
)

const (
	hb   = defaultHeartbeat
	dead = defaultDead
)

// within tells whether d is in [from, to].
func within(d, from, to time.Duration) bool { return d >= from && d <= to }

func TestLive_IdleSessionsStay(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s := w.meet(1, 2, 3)
		before := s[0].Stats()
		time.Sleep(time.Minute)
		for _, o := range s {
			o.want(t)
		}
		st := s[0].Stats()
		if st.Pauses != 0 || st.Probes != 0 || st.Breaks != 0 {
			t.Errorf("stats %+v", st)
		}
		// Two peers, both ask and are asked, some 600 times at most.
		if n := st.FramesOut - before.FramesOut; n < 2*500 || n > 2*2*700 {
			t.Errorf("%d frames in an idle minute", n)
		}
	})
}

func TestLive_SilenceBreaks(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s := w.meet(1, 2)
		began := time.Now()
		w.net.cutBoth(host(1), host(2))
		time.Sleep(2 * time.Second)
		for i, other := range []string{"down 2/1", "down 1/1"} {
			if d := s[i].whenTold(other).Sub(began); !within(d, dead-hb, dead+hb) {
				t.Errorf("%s after %v, want %v", other, d, dead)
			}
			s[i].want(t, other)
		}
		w.net.heal()
		time.Sleep(6 * time.Second)
		s[0].want(t, "up 2/1")
		s[1].want(t, "up 1/1")
	})
}

// Of a link that is cut in one direction the deaf side breaks the session, and
// the other one is told by its kernel.
func TestLive_OneWayHole(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s := w.meet(1, 2)
		began := time.Now()
		w.net.cut(host(2), host(1))
		time.Sleep(time.Second)
		for i, other := range []string{"down 2/1", "down 1/1"} {
			if d := s[i].whenTold(other).Sub(began); !within(d, dead-hb, dead+hb) {
				t.Errorf("%s after %v, want %v", other, d, dead)
			}
			s[i].want(t, other)
		}
	})
}

func TestLive_FailedIsJudgedSooner(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s := w.meet(1, 2)
		failed := target(2)
		failed.Failed = true
		s[0].SetTargets([]Target{failed})
		time.Sleep(10 * time.Second)
		s[0].want(t) // it is alive all the same
		began := time.Now()
		w.net.cutBoth(host(1), host(2))
		time.Sleep(time.Second)
		if d := s[0].whenTold("down 2/1").Sub(began); !within(d, dead/2-hb, dead/2+hb) {
			t.Errorf("down after %v, want %v", d, dead/2)
		}
	})
}

// Any bytes count: a peer that answers no PING, but sends, is alive.
func TestLive_AnyBytesCount(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.start(1, 1)
		l := w.handshake(t, a, 2, nil)
		for range 200 {
			if err := l.writeNow(ring.TypeInfo, nil); err != nil {
				t.Fatal(err)
			}
			time.Sleep(dead * 4 / 5)
		}
		if p := a.peer(2); p == nil {
			t.Errorf("it is taken for dead: %q", a.events())
		}
		began := time.Now()
		time.Sleep(2 * dead)
		if d := a.whenTold("down 2/1").Sub(began); !within(d, dead/5-hb/2, dead/5+hb) {
			t.Errorf("down %v after the last but one bytes, want %v", d, dead/5)
		}
	})
}

// Where only the link between two nodes fails, others vouch for the peer: once,
// and for half the time.
func TestLive_OthersVouch(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s := w.meet(1, 2, 3, 4, 5)
		time.Sleep(time.Second)
		began := time.Now()
		w.net.cutBoth(host(1), host(2))
		time.Sleep(dead + hb)
		s[0].want(t)
		time.Sleep(dead)
		if d := s[0].whenTold("down 2/1").Sub(began); !within(d, dead*3/2-hb, dead*3/2+hb) {
			t.Errorf("down after %v, want %v", d, dead*3/2)
		}
		if st := s[0].Stats(); st.Probes != 2 || st.Extended != 1 {
			t.Errorf("%d probes, %d times extended, want 2 and 1", st.Probes, st.Extended)
		}
		for _, o := range s[2:] {
			o.want(t)
		}
	})
}

func TestLive_NobodyVouchesForTheDead(t *testing.T) {
	for offset := time.Duration(0); offset < hb; offset += hb / 7 {
		for _, failed := range []bool{false, true} {
			inWorld(t, func(t *testing.T, w *world) {
				// Nodes that did not start together beat at different times.
				s := []*side{w.start(1, 1)}
				for id := uint32(2); id <= 4; id++ {
					time.Sleep(17 * time.Millisecond)
					s = append(s, w.start(id, 1))
				}
				for _, o := range s {
					o.SetTargets(targets(1, 2, 3, 4))
				}
				limit := dead
				if failed {
					limit /= 2
					ts := targets(2, 3, 4)
					ts[0].Failed = true
					s[0].SetTargets(ts)
				}
				time.Sleep(time.Second + offset)
				began := time.Now()
				for _, o := range []uint32{1, 3, 4} {
					w.net.cutBoth(host(2), host(o))
				}
				time.Sleep(2 * dead)
				if d := s[0].whenTold("down 2/1").Sub(began); !within(d, limit-hb*3/2, limit+hb) {
					t.Errorf("offset %v, failed %v: down after %v, want %v", offset, failed, d, limit)
				}
				if st := s[0].Stats(); st.Probes == 0 || st.Extended != 0 {
					t.Errorf("offset %v, failed %v: %d probes, %d times extended, want some and 0", offset, failed, st.Probes, st.Extended)
				}
			})
		}
	}
}

// Who hears nobody asks nobody: then it is the node itself that is cut off.
func TestLive_CutOffNodeAsksNobody(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s := w.meet(1, 2, 3)
		w.net.cutBoth(host(1), host(2))
		w.net.cutBoth(host(1), host(3))
		time.Sleep(2 * dead)
		got := s[0].take()
		slices.Sort(got)
		if want := []string{"down 2/1", "down 3/1"}; !slices.Equal(got, want) {
			t.Errorf("told %q, want %q", got, want)
		}
		if st := s[0].Stats(); st.Probes != 0 {
			t.Errorf("%d probes", st.Probes)
		}
	})
}

// After a pause of this process nobody is judged for a while, by what was heard
// before it.
func TestLive_PauseJudgesNobody(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s := w.meet(1, 2)
		w.net.cut(host(2), host(1))
		time.Sleep(dead - 2*hb)
		// The clock of the test cannot go on without beat. That it came long ago
		// is all that a pause is.
		began := time.Now()
		s[0].beaten.Store(s[0].now() - int64(3*time.Second))
		time.Sleep(hb)
		got := s[0].take()
		if len(got) != 1 || !strings.HasPrefix(got[0], "paused 3") {
			t.Fatalf("told %q, want a pause of 3 s", got)
		}
		time.Sleep(dead - 2*hb)
		s[0].want(t)
		time.Sleep(dead)
		if d := s[0].whenTold("down 2/1").Sub(began); !within(d, dead, dead+2*hb) {
			t.Errorf("down %v after the pause, want %v", d, dead)
		}
		if st := s[0].Stats(); st.Pauses != 1 {
			t.Errorf("%d pauses", st.Pauses)
		}
	})
}

// What comes after a pause is handed on only when the handler knows of it.
func TestLive_PauseIsToldFirst(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s := w.meet(1, 2)
		time.Sleep(hb / 8) // not when beat comes
		s[0].beaten.Store(s[0].now() - int64(time.Second))
		s[1].peer(1).Send(frame(ring.TypeInfo, "x"))
		s[1].peer(1).Flush()
		settle()
		got := s[0].take()
		if len(got) != 2 || got[0] != "paused 1s" || !strings.HasPrefix(got[1], "frame") {
			t.Errorf("told %q, want the pause and then the frame", got)
		}
		s[0].SetTargets(nil)
		s[1].SetTargets(nil)
		s[0].beaten.Store(s[0].now() - int64(time.Second))
		w.net.reset(host(1), host(2))
		settle()
		s[0].want(t, "paused 1s", "down 2/1")
	})
}

func TestLive_BackoffGrows(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s := w.meet(1, 2)
		w.net.cutBoth(host(1), host(2))
		time.Sleep(2 * time.Minute)
		s[0].want(t, "down 2/1")
		at := w.net.dialsTo(host(1), host(2))[1:]
		var gaps []time.Duration
		for i := range at[1:] {
			gaps = append(gaps, at[i+1].Sub(at[i]))
		}
		// Each gap is a dial that runs into its time, 0.3 to 3 s, and a pause, 0.25
		// to 5 s and an eighth more.
		timeout, pause := dialFirst, redialFirst
		for i, g := range gaps {
			if !within(g, timeout+pause, timeout+pause*9/8) {
				t.Errorf("gap %d is %v, want %v and %v", i, g, timeout, pause)
			}
			timeout, pause = min(2*timeout, dialLast), min(2*pause, redialLast)
		}
		if len(gaps) < 14 {
			t.Errorf("%d dials in 2 minutes", len(gaps)+1)
		}
		if n := s[0].log.lines("level=WARN", "no session with a member"); n != 1 {
			t.Errorf("%d lines in the log, want 1", n)
		}
		w.net.heal()
		time.Sleep(redialLast * 9 / 8)
		s[0].want(t, "up 2/1")
	})
}

// Gossip that hears a node again lets it be dialled at once.
func TestLive_GossipHearsItAgain(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s := w.meet(1, 2)
		s[1].SetTargets(nil)
		w.net.cutBoth(host(1), host(2))
		failed := target(2)
		failed.Failed = true
		s[0].SetTargets([]Target{failed})
		time.Sleep(time.Minute)
		w.net.heal()
		s[0].take()
		s[0].SetTargets(targets(2))
		// A dial that is under way may run into its time first.
		time.Sleep(dialLast + redialFirst)
		s[0].want(t, "up 2/1")
	})
}

// handshake makes a session with a by hand, as node id of boot 1, and gives its
// end. change may alter the greeting.
func (w *world) handshake(t *testing.T, a *side, id uint32, change func(*hello)) *link {
	t.Helper()
	l, typ, body := w.greet(t, a, id, change)
	if typ != ring.TypeHelloAck {
		t.Fatalf("the answer is a frame of type %d: %q", typ, body)
	}
	settle()
	return l
}

// greet sends a greeting by hand and gives the answer to it.
func (w *world) greet(t *testing.T, a *side, id uint32, change func(*hello)) (*link, ring.Type, []byte) {
	t.Helper()
	h := a.hello()
	h.nk, h.name = nk(id, 1), "node"+string(rune('0'+id))
	h.instance = [16]byte{byte(id), 1}
	if change != nil {
		change(&h)
	}
	l := a.newLink(w.call(id, a.conf.Self.ID), true)
	l.conn.SetDeadline(time.Now().Add(time.Hour))
	if err := l.writeNow(ring.TypeHello, h.append(nil)); err != nil {
		t.Fatal(err)
	}
	typ, _, body, err := l.in.next()
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	return l, typ, body
}
