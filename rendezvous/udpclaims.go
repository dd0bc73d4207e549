package rendezvous

import (
	"slices"
	"sync"
	"time"
)

// maxUDPClaims is how many sockets of one user a UDP service remembers.
const maxUDPClaims = 1024

// udpClaims tells whose the addresses are from which datagrams come. A datagram carries no more than its address, and a
// client's socket may be closed, and its address taken by another, at any time, without a word. But the kernel tells
// the cookie of the socket that has an address now, no two sockets ever have the same, and a socket that the Host has
// connected has its address from then until it is closed. So a datagram is the claimant's if the address is his when it
// is read, and it was sent after he had got it: each one is checked.
type udpClaims struct {
	cookieAt func(remote) (uint64, error) // the cookie of the socket that is connected so

	mu     sync.Mutex
	known  map[remote]*udpClaim   // guarded by mu
	byUser map[uint32][]*udpClaim // guarded by mu; the oldest first
}

// A udpClaim is a socket that the Host has connected for a client of its own.
type udpClaim struct {
	key    remote
	uid    uint32 // who has it, whether or not the server is told
	peer   Peer
	cookie uint64
	since  time.Time
	seen   bool // guarded by udpClaims.mu; a datagram of it has come, so that no older one is under way
}

func (s *udpClaims) init() {
	s.known, s.byUser = map[remote]*udpClaim{}, map[uint32][]*udpClaim{}
	s.cookieAt = func(key remote) (uint64, error) {
		info, err := lookupSocket(UDP, key.from, key.at)
		return info.cookie, err
	}
}

// holds tells whether the socket of a claim still has its address.
func (s *udpClaims) holds(c *udpClaim) bool {
	cookie, err := s.cookieAt(c.key)
	return err == nil && cookie == c.cookie
}

func (s *udpClaims) put(c *udpClaim) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.known[c.key]; old != nil {
		s.drop(old)
	}
	if of := s.byUser[c.uid]; len(of) >= maxUDPClaims {
		for _, old := range slices.Clone(of) {
			if !s.holds(old) {
				s.drop(old)
			}
		}
		if of = s.byUser[c.uid]; len(of) >= maxUDPClaims {
			s.drop(of[0])
		}
	}
	s.known[c.key] = c
	s.byUser[c.uid] = append(s.byUser[c.uid], c)
}

// drop is called with s.mu held.
func (s *udpClaims) drop(c *udpClaim) {
	delete(s.known, c.key)
	of := s.byUser[c.uid]
	if i := slices.Index(of, c); i >= 0 {
		of = slices.Delete(of, i, i+1)
	}
	if s.byUser[c.uid] = of; len(of) == 0 {
		delete(s.byUser, c.uid)
	}
}

// find returns whose a datagram is that was sent at a time; nil if nobody's that is known.
func (s *udpClaims) find(key remote, sent time.Time) *udpClaim {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.known[key]
	switch {
	case c == nil:
		return nil
	case !s.holds(c):
		s.drop(c)
		return nil
	case !c.seen && sent.Before(c.since):
		return nil
	}
	c.seen = true
	return c
}
