package session

import (
	"crypto/tls"
	"fmt"
	"testing"
	"time"

	"github.com/convoke-fs/convoke/cluster/ring"
)

// pingPong answers each frame from the goroutine that reads it, as the ring
// does.
type pingPong struct {
	up     chan *Peer
	answer func(p *Peer, body []byte)
}

func (h *pingPong) Up(p *Peer)                                       { h.up <- p }
func (h *pingPong) Frame(p *Peer, _ ring.Type, _ uint8, body []byte) { h.answer(p, body) }
func (h *pingPong) Down(*Peer, error, bool)                          {}
func (h *pingPong) Dead(ring.NK)                                     {}
func (h *pingPong) Paused(time.Duration)                             {}
func (h *pingPong) BootKnown(uint64)                                 {}

func benchPair(b *testing.B, encrypted bool, atA, atB func(p *Peer, body []byte)) *Peer {
	var ca, cb *tls.Config
	if encrypted {
		au := newAuthority(b)
		ca, cb = au.config(b, "node1"), au.config(b, "node2")
	}
	ha, hb := &pingPong{make(chan *Peer, 1), atA}, &pingPong{make(chan *Peer, 1), atB}
	ma, _, _ := startTCP(b, 1, ca, ha)
	_, tb, _ := startTCP(b, 2, cb, hb)
	ma.SetTargets([]Target{tb})
	p := <-ha.up
	<-hb.up
	return p
}

func benchBothWays(b *testing.B, f func(b *testing.B, encrypted bool, size int)) {
	for _, encrypted := range []bool{true, false} {
		name := "plain"
		if encrypted {
			name = "tls"
		}
		for _, size := range []int{64, 1 << 10, 64 << 10} {
			b.Run(fmt.Sprintf("%s/%d", name, size), func(b *testing.B) { f(b, encrypted, size) })
		}
	}
}

// BenchmarkRoundTrip is the way of a frame to another manager and of another one
// back, both handled where they are read.
func BenchmarkRoundTrip(b *testing.B) {
	benchBothWays(b, func(b *testing.B, encrypted bool, size int) {
		left := 0
		done := make(chan struct{})
		f := newFrame(ring.TypeOrd, make([]byte, size))
		echo := func(p *Peer, _ []byte) {
			p.Send(f)
			p.Flush()
		}
		p := benchPair(b, encrypted, func(p *Peer, body []byte) {
			if left--; left == 0 {
				close(done)
				return
			}
			echo(p, body)
		}, echo)
		left = b.N
		b.SetBytes(int64(2 * size))
		b.ResetTimer()
		echo(p, nil)
		<-done
	})
}

// BenchmarkStream is one direction, with as much on its way as fits.
func BenchmarkStream(b *testing.B) {
	benchBothWays(b, func(b *testing.B, encrypted bool, size int) {
		left := b.N
		done := make(chan struct{})
		p := benchPair(b, encrypted, nil, func(*Peer, []byte) {
			if left--; left == 0 {
				close(done)
			}
		})
		f := newFrame(ring.TypeOrd, make([]byte, size))
		b.SetBytes(int64(size))
		b.ResetTimer()
		for range b.N {
			for p.Backlog() > 4<<20 {
				time.Sleep(50 * time.Microsecond)
			}
			p.Send(f)
			p.Flush()
		}
		<-done
	})
}
