package faults

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/test/daemon"
)

// counters are all packets and sockets that a namespace has seen.
func counters(h *daemon.Host) string {
	return h.Run("grep -E '^(Ip|Tcp|Udp):' /proc/net/snmp; cat /proc/net/sockstat /proc/net/sockstat6 | sed -nE 's/^((TCP|UDP|RAW)[^ ]* inuse [0-9]+).*/\\1/p'")
}

func TestLookups_HundredThousandNamesCostNothing(t *testing.T) {
	daemon.Need(t, "fuse", "netns")
	t.Parallel()
	w := daemon.NewNet(t, 1)
	h := w.Hosts[0]
	// Measured is the daemon's own memory; a resolver that is asked would be seen in the counters.
	n := daemon.Start(t, daemon.Opts{Host: h, Plain: true, Resolv: "nameserver 10.77.0.2\n"})
	stat := func(from, to int) {
		var wg sync.WaitGroup
		const workers = 4
		for k := range workers {
			wg.Go(func() {
				for i := from + k; i < to; i += workers {
					name := fmt.Sprintf("dev/tcp/local/s%d", i)
					if i%4 == 0 {
						name = fmt.Sprintf("dev/udp/host%d.example.com", i)
					}
					var st unix.Stat_t
					if err := unix.Stat(n.Path(name), &st); err != nil {
						t.Errorf("%s: %v", name, err)
						return
					}
				}
			})
		}
		daemon.Within(t, 6*daemon.Bound, "look-ups", wg.Wait)
	}
	before := counters(h)
	stat(0, 20000) // until caches and the Go heap have their size
	rss := n.RSS()
	stat(20000, 120000)
	if grown := n.RSS() - rss; grown > 10<<20 {
		t.Errorf("100,000 look-ups have cost the daemon %d KiB of memory, want less than 10 MiB", grown>>10)
	}
	daemon.Eventually(t, daemon.Bound, "few inodes", func() bool { return n.Metric("convoke_inodes") < 8192 })
	if r := n.Sh("find dev cluster conn -xdev | wc -l"); r.Code != 0 || strings.TrimSpace(r.Out) == "0" {
		t.Errorf("find: %+v", r)
	}
	if after := counters(h); after != before {
		t.Errorf("look-ups have touched the network: before\n%s\nafter\n%s", before, after)
	}
	if got := n.Metric("convoke_connections_total"); got != 0 {
		t.Errorf("look-ups have made %d connections", got)
	}
}
