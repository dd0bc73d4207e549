package ipc

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"
)

// joinOther joins a group whose daemon, with the order of the tests, is another process.
func joinOther(b *testing.B) *Group {
	c := startOther(b)
	g, err := c.Join(b.Context(), "bench", JoinOpts{Create: true})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { g.Close() })
	if r, err := g.Receive(b.Context()); err != nil || r.Kind != ConfRecord {
		b.Fatalf("got %+v, %v", r, err)
	}
	return g
}

// BenchmarkGroup sends as fast as it can by one membership, which receives its messages from the daemon's order.
func BenchmarkGroup(b *testing.B) {
	for _, size := range []int{64, 1 << 10, 16 << 10, 64 << 10, 1 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			g := joinOther(b)
			b.SetBytes(int64(size))
			data := make([]byte, size)
			ctx := context.Background()
			b.ResetTimer()
			go func() {
				for range b.N {
					if err := g.Send(ctx, data); err != nil {
						b.Error(err)
						return
					}
				}
			}()
			for range b.N {
				if r, err := g.Receive(ctx); err != nil || len(r.Data) != size {
					b.Fatalf("got %d bytes, %v", len(r.Data), err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
		})
	}
}

// BenchmarkGroupLone is one message at a time, from Send to Receive.
func BenchmarkGroupLone(b *testing.B) {
	for _, size := range []int{64, 16 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			g := joinOther(b)
			data := make([]byte, size)
			ctx := context.Background()
			times := make([]time.Duration, 0, b.N)
			for b.Loop() {
				begin := time.Now()
				if err := g.Send(ctx, data); err != nil {
					b.Fatal(err)
				}
				if _, err := g.Receive(ctx); err != nil {
					b.Fatal(err)
				}
				times = append(times, time.Since(begin))
			}
			slices.Sort(times)
			b.ReportMetric(float64(times[len(times)/2].Nanoseconds()), "ns/median")
			b.ReportMetric(float64(times[len(times)*99/100].Nanoseconds()), "ns/p99")
		})
	}
}
