package rendezvous

import (
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"
)

// claims tells whose the connections are that one listening socket accepts.
//
// The Host makes the connections of local clients itself, for callers whom it knows. It cannot tell a server "this
// client comes from port N" beforehand, since it is connect(2) that chooses the port, and connect(2) to this host is
// over when it returns: the connection may have been accepted by then. So a dial begins with a number, tells its
// address when it has one, and says when it is connected. A connection that is accepted meanwhile waits until all dials
// that began before have told their addresses, some microseconds; if none has told its own, it is an outsider's.
//
// The address alone proves nothing: an outsider may have used the same port a moment before, and his connection may be
// accepted late. But at one moment there is one connection from one address to another. So a connection is the claim's
// only if it is established while the claim's own socket, which the Host still holds, is so too. Each claim is good for
// one connection, and none outlives the dial.
type claims struct {
	established func(fd int) bool // whether a connection is there and neither side has ended it

	mu    sync.Mutex
	begun uint64                    // guarded by mu; dials that have begun
	low   uint64                    // guarded by mu; those up to here have told their address
	told  map[uint64]bool           // guarded by mu; those above low that have
	known map[netip.AddrPort]*claim // guarded by mu; by the client's address
	early []arrival                 // guarded by mu; accepted and undecided
	ended bool                      // guarded by mu
}

// A claim is a connection that the Host makes for a client of its own.
type claim struct {
	number    uint64
	peer      Peer
	from      netip.AddrPort // guarded by claims.mu; invalid until it is told
	connected bool           // guarded by claims.mu
	fd        int            // guarded by claims.mu; the client's socket, once it is connected
	used      bool           // guarded by claims.mu; the connection was found
	done      chan bool      // one value: whether the server has the connection
}

// An arrival is a connection that was accepted.
type arrival struct {
	fd    int
	from  netip.AddrPort
	begun uint64 // the dials that had begun by then
}

// A verdict says what an arrival is.
type verdict struct {
	arrival
	claim *claim // whose it is; nil: an outsider's
	dead  bool   // its address is somebody else's by now: nobody is there
}

func newClaims() *claims {
	return &claims{established: established, told: map[uint64]bool{}, known: map[netip.AddrPort]*claim{}}
}

// begin is called before connect(2).
func (s *claims) begin(peer Peer) *claim {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begun++
	return &claim{number: s.begun, peer: peer, done: make(chan bool, 1)}
}

// tell is called as soon as the client's address is known, after connect(2).
func (s *claims) tell(c *claim, from netip.AddrPort) []verdict {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.from = unmap(from)
	if s.ended {
		c.done <- false
		return nil
	}
	s.known[c.from] = c
	s.numberTold(c.number)
	return s.decide()
}

// connected is called when the client's socket, fd, is connected. fd stays open until the result is there, or end has
// returned.
func (s *claims) connected(c *claim, fd int) []verdict {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.connected, c.fd = true, fd
	return s.decide()
}

// end takes a claim back. It reports whether it was unused; else its connection has been handed to a verdict.
func (s *claims) end(c *claim) (verdicts []verdict, unused bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.from.IsValid() && s.known[c.from] == c {
		delete(s.known, c.from)
	}
	if !s.ended {
		s.numberTold(c.number)
		verdicts = s.decide()
	}
	return verdicts, !c.used
}

// arrive is called with what was accepted, which belongs to the verdict about it.
func (s *claims) arrive(fd int, from netip.AddrPort) []verdict {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := arrival{fd: fd, from: unmap(from), begun: s.begun}
	if s.ended {
		return []verdict{{arrival: x, dead: true}}
	}
	s.early = append(s.early, x)
	return s.decide()
}

// close ends all claims and gives back what is undecided.
func (s *claims) close() []verdict {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	for _, c := range s.known {
		c.done <- false
	}
	var verdicts []verdict
	for _, x := range s.early {
		verdicts = append(verdicts, verdict{arrival: x, dead: true})
	}
	s.known, s.early = nil, nil
	return verdicts
}

// numberTold is called with s.mu held.
func (s *claims) numberTold(n uint64) {
	if n <= s.low {
		return
	}
	s.told[n] = true
	for s.told[s.low+1] {
		s.low++
		delete(s.told, s.low)
	}
}

// decide is called with s.mu held.
func (s *claims) decide() (verdicts []verdict) {
	kept := s.early[:0]
	for _, x := range s.early {
		v := verdict{arrival: x}
		c := s.known[x.from]
		switch {
		case c == nil:
		case !c.connected:
			kept = append(kept, x)
			continue
		case !s.established(x.fd):
			v.dead = true
		case !s.established(c.fd): // after the other: it has been so since it was connected, or is so no more
			delete(s.known, x.from)
			c.done <- false
			c = nil
		default:
			delete(s.known, x.from)
			c.used = true
			v.claim = c
		}
		if c == nil && x.begun > s.low {
			kept = append(kept, x)
			continue
		}
		verdicts = append(verdicts, v)
	}
	s.early = kept
	return verdicts
}

func established(fd int) bool {
	const tcpEstablished = 1 // net/tcp_states.h
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	return err == nil && info.State == tcpEstablished
}
