package session

import (
	"net/netip"
	"sync"
	"time"
)

// What strangers may take of a node before they have shown the key and said who
// they are.
const (
	maxStrangers        = 64 // connections at a time
	maxStrangersAddress = 8  // of them from one address
	greetingTime        = 3 * time.Second
)

// doors counts connections of those who are not known yet.
type doors struct {
	mu    sync.Mutex
	all   int                // mu
	addrs map[netip.Addr]int // mu
}

// enter counts a connection from an address until leave is called; nil when
// there are too many.
func (d *doors) enter(from netip.Addr) (leave func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.all >= maxStrangers || d.addrs[from] >= maxStrangersAddress {
		return nil
	}
	if d.addrs == nil {
		d.addrs = map[netip.Addr]int{}
	}
	d.all++
	d.addrs[from]++
	return sync.OnceFunc(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.all--
		if d.addrs[from]--; d.addrs[from] == 0 {
			delete(d.addrs, from)
		}
	})
}

const (
	saidAgain  = 10 * time.Minute // after which the same is said again
	saidMany   = 1024             // different things that are remembered
	saidSecond = 10               // new things said in one second
)

// topic is what is said once: about whom, and what.
type topic struct{ who, what string }

// said keeps the log short, whatever strangers and lost members do.
type said struct {
	mu     sync.Mutex
	at     map[topic]time.Time // mu
	second time.Time           // mu
	lines  int                 // mu; in that second
}

// once tells whether a line about who and what is to be written at now.
func (s *said) once(who, what string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := topic{who, what}
	if at, ok := s.at[t]; ok && now.Sub(at) < saidAgain {
		return false
	}
	if now.Sub(s.second) >= time.Second {
		s.second, s.lines = now, 0
	}
	if s.lines >= saidSecond {
		return false
	}
	if s.at == nil {
		s.at = map[topic]time.Time{}
	}
	if len(s.at) >= saidMany {
		for t, at := range s.at {
			if now.Sub(at) >= saidAgain {
				delete(s.at, t)
			}
		}
		if len(s.at) >= saidMany {
			return false
		}
	}
	s.lines++
	s.at[t] = now
	return true
}

// forget lets everything about who be said again.
func (s *said) forget(who string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for t := range s.at {
		if t.who == who {
			delete(s.at, t)
		}
	}
}
