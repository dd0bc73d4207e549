package group

import (
	"encoding/binary"
	"fmt"
	"io"
	"syscall"
	"testing"

	"github.com/convoke-fs/convoke/cluster/ring"
)

// nowhere is an order that forgets.
type nowhere struct{}

func (nowhere) Submit(ring.Kind, []byte) error { return nil }

// benchGroup gives groups with one group of n members of this node.
func benchGroup(b *testing.B, n int) (*Groups, []*Member) {
	b.Helper()
	g := New(Config{Self: nk1, Order: nowhere{}})
	id := ring.ID{Seq: 1, Rep: 1}
	g.Install(ring.Install{
		View: ring.View{Ring: id, Members: []ring.NK{nk1}}, Transitional: []ring.NK{nk1},
		States: []ring.NodeState{{Node: nk1, Lead: true, Data: newTable().appendState(nil, nk1, true)}},
	})
	var ms []*Member
	for range n {
		m, err := g.enter("g", user(1, 0))
		if err != nil {
			b.Fatal(err)
		}
		o := joinOp(m.inc, 1, "g", credFor(0))
		g.Deliver(id, []ring.Message{{Origin: nk1, Kind: KindJoin, Data: o.append(KindJoin, nil)}})
		ms = append(ms, m)
	}
	for _, m := range ms {
		for {
			if _, err := m.Next(); err == syscall.EAGAIN {
				break
			} else if err != nil {
				b.Fatal(err)
			}
		}
	}
	return g, ms
}

// BenchmarkDeliver takes messages from the order to members that read them, in
// batches as they come from the network.
func BenchmarkDeliver(b *testing.B) {
	for _, size := range []int{64, 1024, 16 << 10} {
		for _, members := range []int{1, 100} {
			b.Run(fmt.Sprintf("%dB/members=%d", size, members), func(b *testing.B) {
				g, ms := benchGroup(b, members)
				batch := make([]ring.Message, max(1, (32<<10)/size))
				for i := range batch {
					batch[i] = ring.Message{Origin: nk1, Kind: KindMulticast, Data: binary.LittleEndian.AppendUint32(make([]byte, size), ms[0].inc)}
				}
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for sent := 0; sent < b.N; sent += len(batch) {
					g.Deliver(ring.ID{Seq: 1, Rep: 1}, batch)
					g.Flush()
					for _, m := range ms {
						for range batch {
							if _, err := m.Next(); err != nil {
								b.Fatal(err)
							}
						}
					}
				}
			})
		}
	}
}

// BenchmarkDeliver_Reader is the same with a reader that runs beside.
func BenchmarkDeliver_Reader(b *testing.B) {
	g, ms := benchGroup(b, 1)
	m := ms[0]
	batch := make([]ring.Message, 512)
	for i := range batch {
		batch[i] = ring.Message{Origin: nk1, Kind: KindMulticast, Data: binary.LittleEndian.AppendUint32(make([]byte, 64), m.inc)}
	}
	ready := make(chan struct{}, 1)
	m.Notify(func() {
		select {
		case ready <- struct{}{}:
		default:
		}
	})
	read := make(chan int)
	window := make(chan struct{}, 16)
	b.SetBytes(64)
	b.ReportAllocs()
	b.ResetTimer()
	go func() {
		n := 0
		defer func() { read <- n }()
		for {
			switch _, err := m.Next(); err {
			case nil:
				if n++; n%len(batch) == 0 {
					<-window
				}
			case io.EOF:
				return
			default:
				<-ready
			}
		}
	}()
	sent := 0
	for ; sent < b.N; sent += len(batch) {
		window <- struct{}{}
		g.Deliver(ring.ID{Seq: 1, Rep: 1}, batch)
		g.Flush()
	}
	for range cap(window) { // all is read
		window <- struct{}{}
	}
	m.Leave(Leave)
	if n := <-read; n != sent {
		b.Fatalf("read %d messages of %d", n, sent)
	}
}

// BenchmarkJoin is a storm of joins into one group.
func BenchmarkJoin(b *testing.B) {
	for b.Loop() {
		benchGroup(b, 100)
	}
}
