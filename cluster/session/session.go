package session

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/convoke-fs/convoke/cluster/ring"
)

// Config is what a Manager is made with.
type Config struct {
	Self     ring.NK                                                          // required
	Name     string                                                           // required: of this node
	Cluster  string                                                           // required: the cluster's name
	TLS      *tls.Config                                                      // nil: plain, each frame with a CRC32C; only for --insecure
	Listener net.Listener                                                     // required; closed by Close
	Dial     func(ctx context.Context, addr netip.AddrPort) (net.Conn, error) // optional: TCP
	Hello    func() (ring.ID, uint64)                                         // required: the ring and the highest sequence number, as HELLO tells them
	Handler  Handler                                                          // required
	Log      *slog.Logger                                                     // required

	Instance  [16]byte      // optional: tells this life of the node from others that have its number; drawn
	Heartbeat time.Duration // optional: T_hb, 100 ms, or a fifth of Dead if that is less
	Dead      time.Duration // optional: T_dead, 500 ms; at least 3 T_hb
}

// Handler is told what happens. For one node the calls are Up, any number of
// Frame, Down, one after the other, and Dead between a Down and an Up; calls for
// different nodes come at the same time from different goroutines. All must
// return soon; Frame may take as long as the ring's work does, since it is the
// peer that waits then. None may wait for Manager.Close, which waits for them.
type Handler interface {
	Up(p *Peer)
	// Frame has a frame of the ring's protocol. body belongs to the handler.
	Frame(p *Peer, typ ring.Type, flags uint8, body []byte)
	// Down: cause is for people. dead: the peer said BYE, or another boot of it is
	// there.
	Down(p *Peer, cause error, dead bool)
	// Dead: nobody is there any more, after a Down that could not tell: a redial
	// was refused, or another boot of the node is about to be Up.
	Dead(nk ring.NK)
	// Paused: this process did not run for d. It is told before frames that come
	// afterwards.
	Paused(d time.Duration)
	// BootKnown: a peer knows a later start of this node, whose state folder must
	// have been lost or be a copy. It is told once for each higher boot.
	BootKnown(boot uint64)
}

// Target is a node to have a session with.
type Target struct {
	Name   string
	ID     uint32
	Addr   netip.AddrPort // of its session port
	Failed bool           // gossip does not hear it: T_dead is halved
}

// Stats are counts since the start.
type Stats struct {
	Up                       int // sessions now
	Dials, Refused, Breaks   uint64
	BytesIn, BytesOut        uint64
	FramesIn, FramesOut      uint64
	Pauses, Probes, Extended uint64
}
