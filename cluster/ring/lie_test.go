package ring

import (
	"fmt"
	"testing"
	"time"
)

// lies runs four nodes of which one, liar, sends frames that chance has changed,
// while rings come and go. Nothing that it says may make another panic, and the
// others go on once it is gone.
func lies(t *testing.T, seed uint64, liar uint32) {
	r := rnd(seed)
	b := newBus(t)
	for id := uint32(1); id <= 4; id++ {
		b.start(id, func(c *Config) { c.Fragment, c.Slow = 40, time.Second })
	}
	join := func() {
		for x := uint32(1); x <= 4; x++ {
			for y := x + 1; y <= 4; y++ {
				if !b.link(x, y).up {
					b.connect(x, y)
				}
			}
		}
	}
	join()
	b.wait(time.Second)
	often := 2 + r()%8
	b.lie = func(from NK, raw []byte) {
		if from.ID != liar || r()%often != 0 || len(raw) == 0 {
			return
		}
		for range 1 + r()%3 {
			i := r() % uint64(len(raw))
			switch r() % 3 {
			case 0:
				raw[i] ^= 1 << (r() % 8)
			case 1:
				raw[i]++
			default:
				raw[i] = byte(r())
			}
		}
	}
	for i := range 40 {
		for range r() % 4 {
			b.submit(uint32(r()%4)+1, fmt.Sprintf("%d %0*d", i, int(r()%100), i))
		}
		for range r() % 12 {
			b.moveOne(uint32(r()%4)+1, uint32(r()%4)+1)
		}
		switch r() % 8 {
		case 0:
			x, y := uint32(r()%4)+1, uint32(r()%4)+1
			if x != y && b.link(x, y).up {
				b.cut(x, y, r()%4 == 0)
			}
		case 1:
			join()
		default:
			b.wait(time.Duration(r()%200) * time.Millisecond)
		}
	}
	b.kill(liar)
	b.lie = nil
	for range 40 {
		for x := uint32(1); x <= 4; x++ {
			for y := x + 1; y <= 4; y++ {
				if x != liar && y != liar && !b.link(x, y).up {
					b.connect(x, y)
				}
			}
		}
		b.wait(2 * time.Second)
	}
	for id := uint32(1); id <= 4; id++ {
		n := b.nodes[id]
		if id == liar {
			continue
		}
		if s := n.core.Stats(); s.Members != 3 || s.State != "oper" {
			t.Errorf("seed %d, liar %d: node %d: got %+v, want a ring of the three\n%v", seed, liar, id, s, n.notes)
		}
	}
}

func TestLies_NeverPanicAndNeverLast(t *testing.T) {
	for seed := range uint64(300) {
		lies(t, seed, uint32(seed%4)+1)
		if t.Failed() {
			return
		}
	}
}
