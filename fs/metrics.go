package fs

import (
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/convoke-fs/convoke/fs/quota"
	"github.com/convoke-fs/convoke/rendezvous"
)

// Metric is a number that others count, for cluster/metrics.
type Metric struct {
	Name  string // convoke_...
	Kind  string // "counter", "gauge" or "histogram"
	Help  string // one sentence
	Value int64

	// Of a histogram, in place of Value. The last bucket counts all.
	Buckets []Bucket
	Sum     float64
}

// Bucket counts what is not above its bound.
type Bucket struct {
	Bound string // a number, or +Inf
	Count int64
}

// metricsText is cluster/metrics in Prometheus' text format. It names no user, path or peer.
func (t *Tree) metricsText() string {
	states := map[string]int{"alive": 0, "leaving": 0, "left": 0, "failed": 0}
	for _, m := range t.opts.Cluster.Members() {
		states[m.State.String()]++
	}
	n := t.conns.count()
	announced := 0
	for _, p := range []rendezvous.Proto{rendezvous.TCP, rendezvous.UDP, rendezvous.FDP} {
		l := t.opts.Host.Announced(p)
		announced += len(l)
		for _, a := range l {
			n.waiting += a.Waiting()
		}
	}
	k := t.opts.Server.Stats()
	var b strings.Builder
	metric := func(name, kind, help string, value any) {
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n%s %v\n", name, help, name, kind, name, value)
	}
	fmt.Fprint(&b, "# HELP convoke_members Members by state.\n# TYPE convoke_members gauge\n")
	for _, s := range []string{"alive", "failed", "leaving", "left"} {
		fmt.Fprintf(&b, "convoke_members{state=%q} %d\n", s, states[s])
	}
	metric("convoke_connections", "gauge", "Open connections.", n.open)
	metric("convoke_connections_total", "counter", "Connections made since the start.", t.conns.total.Load())
	metric("convoke_dials", "gauge", "Connections being made.", t.opts.Quota.Held(quota.Dials))
	metric("convoke_received_bytes_total", "counter", "Bytes from the peers of connections.", n.in)
	metric("convoke_sent_bytes_total", "counter", "Bytes to the peers of connections.", n.out)
	metric("convoke_announcements", "gauge", "Services announced on this node.", announced)
	metric("convoke_waiting_clients", "gauge", "Clients of announced services that wait for their server.", n.waiting)
	metric("convoke_rendezvous_total", "counter", "Clients that became a connection of their server.", t.conns.completed.Load())
	metric("convoke_rendezvous_refused_total", "counter", "Clients that were told of, and went or were rejected.", t.conns.refused.Load())
	metric("convoke_sockets", "gauge", "Sockets that servers have bound.", t.sockets.count())
	metric("convoke_event_readers", "gauge", "Open event files.", t.opts.Quota.Held(quota.Events))
	metric("convoke_requests_total", "counter", "Requests of the kernel.", k.Requests)
	metric("convoke_parked_requests", "gauge", "Reads and writes that wait for their stream.", k.Parked)
	metric("convoke_open_files", "gauge", "Open files of the tree.", k.Files)
	metric("convoke_inodes", "gauge", "Files that the kernel knows.", t.inodes.count())
	metric("convoke_refused_total", "counter", "Opens and commands that failed.", t.log.Refused())
	metric("convoke_goroutines", "gauge", "Goroutines of the daemon.", runtime.NumGoroutine())
	metric("convoke_uptime_seconds", "gauge", "Time since the start.", fmt.Sprintf("%.1f", time.Since(t.start).Seconds()))
	if t.opts.Metrics != nil {
		for _, m := range t.opts.Metrics() {
			if len(m.Buckets) == 0 {
				metric(m.Name, m.Kind, m.Help, m.Value)
				continue
			}
			fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n", m.Name, m.Help, m.Name, m.Kind)
			for _, u := range m.Buckets {
				fmt.Fprintf(&b, "%s_bucket{le=%q} %d\n", m.Name, u.Bound, u.Count)
			}
			fmt.Fprintf(&b, "%s_sum %g\n%s_count %d\n", m.Name, m.Sum, m.Name, m.Buckets[len(m.Buckets)-1].Count)
		}
	}
	return b.String()
}
