package session

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/convoke-fs/convoke/cluster/ring"
)

func TestMeet_OneSessionForEachPair(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a, b := w.start(1, 3), w.start(2, 4)
		b.SetTargets(targets(1, 2))
		a.SetTargets(targets(1, 2))
		time.Sleep(10 * time.Second)
		a.want(t, "up 2/4")
		b.want(t, "up 1/3")
		p := a.peer(2)
		if r, seq := p.Ring(); p.NK() != nk(2, 4) || p.Name() != "node2" || r != (ring.ID{Seq: 5, Rep: 2}) || seq != 102 {
			t.Errorf("peer %v %q with ring %v and %d", p.NK(), p.Name(), r, seq)
		}
		if p.Addr() != at(2) {
			t.Errorf("the session with %v was not dialled by the node with the lower number", p.Addr())
		}
		if n := len(w.net.dialsTo(host(2), host(1))); n != 0 {
			t.Errorf("the node with the higher number dialled %d times, too", n)
		}
		if d, ok := a.Heard(nk(2, 4)); !ok || d > 200*time.Millisecond {
			t.Errorf("heard %v ago, %v", d, ok)
		}
		for _, other := range []ring.NK{nk(2, 3), nk(1, 3), nk(9, 9)} {
			if _, ok := a.Heard(other); ok {
				t.Errorf("%v has a session", other)
			}
		}
	})
}

func TestMeet_EitherMayDial(t *testing.T) {
	for _, dialler := range []uint32{1, 2} {
		inWorld(t, func(t *testing.T, w *world) {
			s := map[uint32]*side{1: w.start(1, 1), 2: w.start(2, 1)}
			s[dialler].SetTargets(targets(1, 2))
			time.Sleep(time.Second)
			s[1].want(t, "up 2/1")
			s[2].want(t, "up 1/1")
		})
	}
}

func TestMeet_FramesKeepTheirOrder(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s := w.meet(1, 2)
		var want []string
		p := s[0].peer(2)
		for i := range 500 {
			f := frame(ring.TypeInfo+ring.Type(i%11), fmt.Sprint("message ", i))
			f[5] = byte(i % 2)
			want = append(want, fmt.Sprintf("frame 1/1 %d %d message %d", ring.TypeInfo+ring.Type(i%11), i%2, i))
			p.Send(f)
			if i%7 == 0 {
				p.Flush()
			}
		}
		p.Flush()
		settle()
		s[1].want(t, want...)
		if n := p.Backlog(); n != 0 {
			t.Errorf("%d bytes still wait", n)
		}
	})
}

// lockedSource is for several goroutines. Which of them gets what, a seed does not
// say.
type lockedSource struct {
	mu  sync.Mutex
	src rand.Source // mu
}

func (l *lockedSource) Uint64() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.src.Uint64()
}

// Whatever crosses whatever on a network with delays, there is one session in
// the end, and both think that it is the same one.
func TestMeet_DialsThatCross(t *testing.T) {
	for seed := range uint64(60) {
		inWorld(t, func(t *testing.T, w *world) {
			rnd := rand.New(&lockedSource{src: rand.NewPCG(seed, 1)})
			w.net.delay = func() time.Duration {
				if rnd.IntN(4) == 0 {
					return time.Duration(rnd.IntN(60)) * time.Millisecond
				}
				return time.Duration(rnd.IntN(2000)) * time.Microsecond
			}
			ids := []uint32{1, 2, 3}
			var sides []*side
			for _, id := range ids {
				sides = append(sides, w.start(id, 1))
			}
			for _, i := range rnd.Perm(3) {
				sides[i].SetTargets(targets(ids...))
				time.Sleep(time.Duration(rnd.IntN(40)) * time.Millisecond)
			}
			for range rnd.IntN(4) {
				time.Sleep(time.Duration(rnd.IntN(1500)) * time.Millisecond)
				w.net.reset(host(1+rnd.Uint32N(3)), host(1+rnd.Uint32N(3)))
			}
			time.Sleep(12 * time.Second)
			for i, s := range sides {
				for j, o := range sides {
					if i == j {
						continue
					}
					p, q := s.peer(ids[j]), o.peer(ids[i])
					if p == nil || q == nil {
						t.Fatalf("seed %d: node %d has no session with node %d: %q", seed, ids[i], ids[j], s.events())
					}
					if p.conn.(*memConn).peer != q.conn {
						t.Errorf("seed %d: nodes %d and %d have two sessions", seed, ids[i], ids[j])
					}
				}
			}
		})
	}
}

func TestMeet_ResetIsRedialledAtOnce(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s := w.meet(1, 2)
		time.Sleep(5 * time.Second)
		w.net.reset(host(1), host(2))
		settle()
		s[0].want(t, "down 2/1", "up 2/1")
		s[1].want(t, "down 1/1", "up 1/1")
	})
}

// Both redial at the same moment, and their greetings cross: one session comes of
// it, and nobody is told of the other.
func TestMeet_RedialsThatCross(t *testing.T) {
	for _, delay := range []time.Duration{0, time.Microsecond, 5 * time.Millisecond, 60 * time.Millisecond} {
		inWorld(t, func(t *testing.T, w *world) {
			w.net.delay = func() time.Duration { return delay }
			s := []*side{w.start(1, 1), w.start(2, 1)}
			s[0].SetTargets(targets(2))
			s[1].SetTargets(targets(1))
			time.Sleep(5 * time.Second)
			s[0].take()
			s[1].take()
			w.net.reset(host(1), host(2))
			time.Sleep(time.Second)
			s[0].want(t, "down 2/1", "up 2/1")
			s[1].want(t, "down 1/1", "up 1/1")
		})
	}
}

func TestMeet_ProcessDies(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s := w.meet(1, 2, 3)
		w.net.crash(host(2))
		settle()
		for _, o := range []*side{s[0], s[2]} {
			o.want(t, "down 2/1", "dead 2/1")
		}
		time.Sleep(time.Minute)
		s[0].want(t) // it is told once
		s[2].want(t)
	})
}

func TestMeet_CloseSaysGoodbye(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s := w.meet(1, 2, 3)
		began := time.Now()
		s[1].Close()
		if d := time.Since(began); d > byeTime {
			t.Errorf("close took %v", d)
		}
		s[1].Close() // again is nothing
		settle()
		got := s[1].take()
		slices.Sort(got)
		if want := []string{"down 1/1", "down 3/1"}; !slices.Equal(got, want) {
			t.Errorf("it was told %q, want %q", got, want)
		}
		s[0].want(t, "down 2/1 dead")
		s[2].want(t, "down 2/1 dead")
		s[1].SetTargets(targets(1, 3)) // is nothing, too
		time.Sleep(time.Minute)
		s[0].want(t)
		s[1].want(t)
	})
}

func TestMeet_CloseDoesNotWaitForWhoDoesNotAnswer(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s := w.meet(1, 2)
		w.net.cutBoth(host(1), host(2))
		began := time.Now()
		s[0].Close()
		if d := time.Since(began); d > byeTime {
			t.Errorf("close took %v", d)
		}
		s[0].want(t, "down 2/1")
	})
}

func TestMeet_ForgottenTargetStaysUntilItBreaks(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s := w.meet(1, 2)
		s[0].SetTargets(nil)
		s[1].SetTargets(nil)
		time.Sleep(10 * time.Second)
		s[0].want(t)
		w.net.reset(host(1), host(2))
		time.Sleep(time.Minute)
		s[0].want(t, "down 2/1")
		s[1].want(t, "down 1/1")
		s[0].SetTargets(targets(2))
		settle()
		s[0].want(t, "up 2/1")
	})
}

func TestMeet_CloseOfAPeerBreaksTheSession(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s := w.meet(1, 2)
		s[0].SetTargets(nil)
		s[1].SetTargets(nil)
		p := s[0].peer(2)
		p.Close(errProtocol)
		p.Close(errProtocol)
		p.Send(frame(ring.TypeInfo, "late")) // is dropped
		p.Flush()
		settle()
		s[0].want(t, "down 2/1")
		s[1].want(t, "down 1/1")
		if _, ok := s[0].Heard(nk(2, 1)); ok {
			t.Error("a session that is gone is heard")
		}
	})
}

// A session that breaks again and again is not redialled in a loop.
func TestMeet_SessionsThatBreakAtOnce(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.start(1, 1)
		b := w.start(2, 1)
		b.onFrame = func(p *Peer, _ ring.Type, _ uint8, _ []byte) { p.Close(errProtocol) }
		a.SetTargets(targets(2))
		for range 60_000 / 5 {
			if p := a.peer(2); p != nil {
				p.Send(frame(ring.TypeInfo, ""))
				p.Flush()
			}
			time.Sleep(5 * time.Millisecond)
		}
		if n := len(w.net.dialsTo(host(1), host(2))); n < 12 || n > 150 {
			t.Errorf("%d dials in a minute", n)
		}
	})
}

func TestMeet_WrongNodeAtAnAddress(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.start(1, 1)
		w.start(2, 1)
		a.SetTargets([]Target{{Name: "node3", ID: 3, Addr: at(2)}})
		time.Sleep(time.Minute)
		if p := a.peer(2); p != nil {
			t.Error("a node that is no target was taken for one")
		}
		if n := a.log.lines("level=WARN", "node 2 answers at the address of node 3"); n != 1 {
			t.Errorf("%d lines about it in the log, want 1", n)
		}
	})
}

func TestMeet_TargetMoves(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.start(1, 1)
		a.SetTargets(targets(2))
		time.Sleep(30 * time.Second) // nobody is there: the pauses have grown
		w.startAt(at(7), 2, 1)
		a.SetTargets([]Target{{Name: "node2", ID: 2, Addr: at(7)}})
		settle()
		a.want(t, "up 2/1")
	})
}

func TestMeet_OneselfIsNobody(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.start(1, 1)
		a.SetTargets([]Target{target(1), {Name: "me again", ID: 5, Addr: at(1)}})
		time.Sleep(time.Minute)
		a.want(t)
		if n := a.log.lines("level=ERROR"); n != 0 {
			t.Errorf("%d errors in the log", n)
		}
	})
}
