package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// How often garbage is collected. What the daemon holds at rest are small structs of open streams, a kilobyte each, and
// moving bytes makes no garbage: so at rest it is collected twice as often as Go would by itself. Messages of groups are
// garbage as soon as all have them, by hundreds of MiB a second, while little is held: to collect it as often would cost
// more than all that is done for them. So then it is collected seldom, as long as the daemon stays small.
const (
	restPercent = 50
	busyPercent = 400
	busyTraffic = 4 << 20 // of the ring in a gcInterval: messages flow
	smallDaemon = 112 << 20
	gcInterval  = 500 * time.Millisecond
)

// tuneGarbage adapts the collector until ctx ends. traffic tells what the ring has carried so far, in bytes. GOGC and GOMEMLIMIT in the environment go before it.
func tuneGarbage(ctx context.Context, traffic func() uint64) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	debug.SetGCPercent(restPercent)
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	go func() {
		tick := time.NewTicker(gcInterval)
		defer tick.Stop()
		percent, before := restPercent, traffic()
		limit := int64(0)
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			metrics.Read(samples)
			live, carried := int64(samples[0].Value.Uint64()), traffic()
			want := restPercent
			if carried-before > busyTraffic {
				want = busyPercent
			}
			before = carried
			// The limit holds the daemon back when members suddenly stop reading; a daemon that has more to hold than that
			// needs room.
			if l := max(smallDaemon, live+live/2); l > limit+limit/8 || l < limit-limit/8 {
				limit = l
				debug.SetMemoryLimit(limit)
			}
			if want != percent {
				percent = want
				debug.SetGCPercent(percent)
			}
		}
	}()
}
