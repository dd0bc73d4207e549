package ring

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkCore_Alone is a message of a ring of one, from Submit to Deliver.
func BenchmarkCore_Alone(b *testing.B) {
	c := New(Config{Self: NK{1, 1}, Rand: rnd(1)})
	data := make([]byte, 64)
	b.ReportAllocs()
	for b.Loop() {
		outs := c.Step(0, Submit{Kind: 1, Data: data})
		if len(outs) == 0 {
			b.Fatal("nothing was delivered")
		}
	}
}

// pipe is a ring of n nodes in which frames go through the codec.
type pipe struct {
	cores  []*Core
	dec    []Decoder
	now    time.Duration
	way    deque[onWay]
	got    []int
	frames int
}

type onWay struct {
	from, to int
	raw      []byte
}

func newPipe(n int) *pipe {
	p := &pipe{got: make([]int, n), dec: make([]Decoder, n)}
	for i := range n {
		p.cores = append(p.cores, New(Config{Self: NK{uint32(i + 1), 1}, Rand: rnd(uint64(i))}))
		p.step(i, Tick{})
	}
	for i := range n {
		for j := range n {
			if i != j {
				p.step(i, Up{Peer: NK{uint32(j + 1), 1}, Ring: ID{1, uint32(j + 1)}, MaxSeq: 1})
			}
		}
	}
	p.move()
	for p.cores[n-1].View().Members[0].ID != 1 || len(p.cores[n-1].View().Members) != n {
		p.tick()
	}
	clear(p.got)
	return p
}

func (p *pipe) tick() {
	next := never
	for _, c := range p.cores {
		if at, ok := c.Next(); ok {
			next = min(next, at)
		}
	}
	p.now = max(p.now, next)
	for i, c := range p.cores {
		if at, ok := c.Next(); ok && at <= p.now {
			p.step(i, Tick{})
		}
	}
	p.move()
}

func (p *pipe) step(i int, ev Event) {
	later := []Event{ev}
	for len(later) > 0 {
		outs := p.cores[i].Step(p.now, later[0])
		later = later[1:]
		for _, o := range outs {
			switch o := o.(type) {
			case Send:
				p.frames++
				raw := AppendFrame(nil, o.Frame)
				for _, to := range o.To {
					p.way.push(onWay{i, int(to.ID) - 1, raw})
				}
			case Persist:
				later = append(later, Durable{o.Ceiling})
			case AskState:
				later = append(later, State{Ballot: o.Ballot})
			case Deliver:
				p.got[i] += len(o.Messages)
			case Break:
				panic(o.Reason)
			}
		}
	}
}

// move moves all frames.
func (p *pipe) move() {
	for p.way.len() > 0 {
		w := *p.way.at(0)
		p.way.pop()
		from := p.cores[w.from].self
		f, err := p.dec[w.to].Frame(Type(w.raw[4]), w.raw[5], w.raw[HeaderSize:], from, p.cores[w.to].View().Members)
		if err != nil {
			panic(err)
		}
		p.step(w.to, Received{from, f})
	}
}

// BenchmarkCore_Ring is messages of one member, or of all, until every member
// has delivered them; sequencer and members in one goroutine, with the codec.
func BenchmarkCore_Ring(b *testing.B) {
	for _, n := range []int{3} {
		for _, size := range []int{64, 16 << 10, 64 << 10, 1 << 20} {
			for _, who := range []string{"sequencer", "member", "all"} {
				b.Run(fmt.Sprintf("nodes=%d/size=%d/%s", n, size, who), func(b *testing.B) {
					benchRing(b, n, size, who)
				})
			}
		}
	}
}

func benchRing(b *testing.B, n, size int, who string) {
	p := newPipe(n)
	data := make([]byte, size)
	from, to := 0, n
	switch who {
	case "sequencer":
		to = 1
	case "member":
		from, to = 1, 2
	}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	b.ResetTimer()
	sent := 0
	for sent < b.N {
		before := sent
		for i := from; i < to && sent < b.N; i++ {
			// A client that writes as long as there is room.
			for k := 0; k < 256 && sent < b.N && p.cores[i].Room() >= size; k++ {
				p.step(i, Submit{Kind: 1, Data: data})
				sent++
			}
		}
		p.move()
		if sent == before {
			p.tick()
		}
	}
	for i := range p.got {
		for p.got[i] < b.N {
			p.tick()
		}
	}
	b.ReportMetric(float64(p.frames)/float64(b.N), "frames/op")
}
