package engine

import (
	"log/slog"
	"net"
	"net/netip"
	"testing"

	"github.com/convoke-fs/convoke/cluster/quorum"
	"github.com/convoke-fs/convoke/cluster/ring"
	"github.com/convoke-fs/convoke/cluster/session"
)

// A node whose ring numbers are far behind those of the others, which a lie may
// have driven up while it was away, comes in after some refusals (S13).
func TestEngine_FarBehindComesIn(t *testing.T) {
	a := startAt(t, 1, 3<<32)
	b := startAt(t, 2, 5)
	meet(t, a, b)
}

// startAt is startOne for a node whose disk has a ceiling.
func startAt(t *testing.T, id uint32, floor uint64) *node {
	t.Helper()
	n := &node{id: id}
	name := "n" + string(rune('0'+id))
	n.Engine = New(Config{
		Self: ring.NK{ID: id, Boot: 1}, Name: name, Floor: floor, Ceiling: floor + 1024, Save: func(uint64) error { return nil },
		Quorum: quorum.New(quorum.Options{}, 0, nil), Log: slog.New(slog.NewTextHandler(t.Output(), nil)).With("at", name), Dead: limit / 6,
	})
	t.Cleanup(n.Close)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n.target = session.Target{Name: name, ID: id, Addr: netip.MustParseAddrPort(l.Addr().String())}
	if err := n.Attach(Network{Cluster: "test", Listener: l}); err != nil {
		t.Fatal(err)
	}
	return n
}
