package sim

import (
	"encoding/binary"
	"time"

	"github.com/convoke-fs/convoke/cluster/ring"
)

// work has the node send messages until the chaos ends.
func (l *life) work() {
	w := l.w
	wait := time.Duration(l.r.ExpFloat64() * float64(w.k.Rate))
	if l.flood > 0 {
		wait = between(w.r, 0, 10*ms)
	}
	w.after(wait, func() {
		if l.dead || w.healed {
			return
		}
		l.take(func() {
			n := 1
			if w.k.Bursts && chance(l.r, 10) || l.flood > 0 {
				n = 1 + l.r.IntN(10)
			}
			for range n {
				l.submit()
			}
		})
		l.work()
	})
}

// submit sends one message, with or without room for it.
func (l *life) submit() {
	size := 0
	switch l.r.IntN(8) {
	case 0:
	case 1:
		size = l.r.IntN(l.w.k.MaxSize + 1)
	case 2:
		size = l.w.k.MaxSize
	default:
		size = l.r.IntN(40)
	}
	room := l.core.Room()
	data := make([]byte, size)
	fill(data, uint64(l.nk.ID)<<40|l.nk.Boot<<32|l.sent)
	l.sent++
	if l.dead || l.w.over() {
		return
	}
	ev := ring.Submit{Kind: ring.Kind(1 + l.sent%5), Data: data, Urgent: chance(l.r, 5)}
	l.w.note(l, ev)
	outs := l.core.Step(l.w.now+l.clock, ev)
	taken := true
	for _, out := range outs {
		if _, no := out.(ring.Refused); no {
			taken = false
		}
	}
	switch {
	case taken:
		l.w.res.Accepted++
		l.w.trace.Accept(l.nk, hash(data))
		if size > room && !ev.Urgent {
			l.w.fail("room", l, "takes %d bytes with room for %d", size, room)
		}
	case size <= room && room > 0:
		l.w.fail("room", l, "does not take %d bytes with room for %d", size, room)
	default:
		l.w.res.Refused++
	}
	l.perform(outs)
	if !l.dead && !l.w.over() {
		l.tick()
	}
}

// fill makes data that is not that of any other message, as far as its length
// allows.
func fill(data []byte, seed uint64) {
	var b [8]byte
	for i := 0; i < len(data); i += 8 {
		binary.LittleEndian.PutUint64(b[:], seed)
		copy(data[i:], b[:])
		seed = mix(seed, uint64(i)+1)
	}
}
