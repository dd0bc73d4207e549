package cluster

import (
	"errors"
	"log"
	"net"
	"net/netip"
	"sync"
)

// What strangers may take of a node before they have shown the key. Streams of
// gossip last milliseconds, and streamTimeout at most, so members hardly meet
// these limits; who does is let in at the next try.
const (
	maxStreams        = 64      // open at a time
	maxStreamsAddress = 8       // of them from one address
	maxStreamBytes    = 2 << 20 // read from one: the tables of some 2,000 members
)

// errStreamTooLong ends a stream that brings more than maxStreamBytes.
var errStreamTooLong = errors.New("stream of gossip is too long")

// limiter counts the streams that others have opened.
type limiter struct {
	log *log.Logger

	mu    sync.Mutex
	all   int                // mu
	addrs map[netip.Addr]int // mu; by remote address
}

// admit gives the stream with its limits, or closes it and gives nil.
func (l *limiter) admit(c net.Conn) net.Conn {
	var from netip.Addr // all that have none count as one
	if ap, err := netip.ParseAddrPort(c.RemoteAddr().String()); err == nil {
		from = ap.Addr().Unmap()
	}
	l.mu.Lock()
	ok := l.all < maxStreams && l.addrs[from] < maxStreamsAddress
	if ok {
		l.all++
		l.addrs[from]++
	}
	l.mu.Unlock()
	if !ok {
		l.log.Printf("[WARN] too many streams at a time, one from %s is closed", from)
		c.Close()
		return nil
	}
	return &limitedConn{Conn: c, left: maxStreamBytes, release: sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.all--
		if l.addrs[from]--; l.addrs[from] == 0 {
			delete(l.addrs, from)
		}
	})}
}

// limitedConn is a stream that counts until it is closed. Memberlist reads it
// from one goroutine.
type limitedConn struct {
	net.Conn
	left    int
	release func()
}

func (c *limitedConn) Read(p []byte) (int, error) {
	if c.left == 0 && len(p) > 0 {
		return 0, errStreamTooLong
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

func (c *limitedConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}
