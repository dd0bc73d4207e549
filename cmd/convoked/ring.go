package main

import (
	"fmt"

	"github.com/convoke-fs/convoke/cluster/engine"
	"github.com/convoke-fs/convoke/cluster/group"
	"github.com/convoke-fs/convoke/fs"
)

// ringMetrics are the lines of cluster/metrics about the ring, as convoke-ring(7) lists them.
func ringMetrics(s engine.Status, g group.Stats) []fs.Metric {
	quorate := int64(0)
	if s.Quorum.Quorate {
		quorate = 1
	}
	ms := []fs.Metric{
		{Name: "convoke_ring_changes_total", Kind: "counter", Help: "Rings that this node was in.", Value: int64(s.Changes)},
		{Name: "convoke_ring_members", Kind: "gauge", Help: "Members of the ring.", Value: int64(len(s.View.Members))},
		{Name: "convoke_ring_quorate", Kind: "gauge", Help: "Whether the ring is a quorum.", Value: quorate},
		{Name: "convoke_ring_position", Kind: "gauge", Help: "Length of the ring's log.", Value: int64(s.Core.Position)},
		{Name: "convoke_ring_unstable_bytes", Kind: "gauge", Help: "Bytes of the log that not all members have yet.", Value: int64(s.Core.Unstable)},
		{Name: "convoke_ring_queued_bytes", Kind: "gauge", Help: "Bytes of this node that wait to be sent.", Value: int64(s.Core.Queued)},
		{Name: "convoke_ring_delivered_total", Kind: "counter", Help: "Messages delivered, joins and leaves among them.", Value: int64(s.Delivered)},
		{Name: "convoke_sessions", Kind: "gauge", Help: "Sessions with other daemons.", Value: int64(s.Session.Up)},
		{Name: "convoke_session_breaks_total", Kind: "counter", Help: "Sessions that ended without a goodbye.", Value: int64(s.Session.Breaks)},
		{Name: "convoke_pauses_total", Kind: "counter", Help: "Times in which this process did not run.", Value: int64(s.Session.Pauses)},
		{Name: "convoke_groups", Kind: "gauge", Help: "Process groups.", Value: int64(g.Groups)},
		{Name: "convoke_group_members", Kind: "gauge", Help: "Memberships of processes of this node.", Value: int64(g.Local)},
		{Name: "convoke_group_queued_bytes", Kind: "gauge", Help: "Bytes that wait for members of this node.", Value: g.Queued},
		{Name: "convoke_group_put_out_total", Kind: "counter", Help: "Members of this node that were put out because they did not read.", Value: int64(g.PutOut)},
	}
	latency := fs.Metric{
		Name: "convoke_ring_latency_seconds", Kind: "histogram",
		Help: "Time from a message of this node to its delivery here.",
		Sum:  s.LatencySum.Seconds(),
	}
	count := uint64(0)
	for i, n := range s.Latency {
		count += n
		bound := "+Inf"
		if i < len(engine.LatencyBounds()) {
			bound = fmt.Sprint(engine.LatencyBounds()[i].Seconds())
		}
		latency.Buckets = append(latency.Buckets, fs.Bucket{Bound: bound, Count: int64(count)})
	}
	return append(ms, latency)
}
