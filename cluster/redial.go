package cluster

import (
	"context"
	"errors"
	"net/netip"
	"time"
)

const (
	redialFirst = 250 * time.Millisecond // from one try of a target to the next, doubled
	redialLast  = 5 * time.Second        // at most
	redialMany  = 8                      // tries at a time
)

// try is what the redialler knows of one target.
type try struct {
	delay time.Duration // before the next one
	next  time.Time
	busy  bool
	said  string // what was logged of it last
}

// redial asks for ever, with a pause that grows, those who ought to be members
// and are not: serf alone heals a partition in minutes, and does not look for
// anybody after a restart.
func (n *Node) redial() {
	tries := map[string]*try{}
	type outcome struct {
		target string
		err    error
	}
	results := make(chan outcome, redialMany)
	tick := time.NewTicker(redialFirst)
	defer tick.Stop()
	busy := 0
	for {
		select {
		case <-n.ctx.Done():
			for ; busy > 0; busy-- {
				<-results
			}
			return
		case r := <-results:
			busy--
			t := tries[r.target]
			t.busy = false
			t.next = time.Now().Add(t.delay)
			t.delay = min(2*t.delay, redialLast)
			n.tell(t, r.target, r.err)
			continue
		case <-tick.C:
		}
		inst := n.instance()
		targets := n.targets()
		for target, t := range tries {
			if _, wanted := targets[target]; !wanted && !t.busy {
				delete(tries, target)
			}
		}
		if inst == nil {
			continue
		}
		now := time.Now()
		for target, seed := range targets {
			t := tries[target]
			if t == nil {
				t = &try{delay: redialFirst}
				tries[target] = t
			}
			if t.busy || busy == redialMany || now.Before(t.next) {
				continue
			}
			t.busy = true
			busy++
			go func() {
				err := n.joinHost(n.ctx, inst, target)
				if err == nil && seed {
					n.seeded.Store(true)
				}
				results <- outcome{target, err}
			}()
		}
	}
}

// targets gives the addresses that are to be asked, and whether each is one of
// the configuration: of those it is enough when one has answered.
func (n *Node) targets() map[string]bool {
	targets := map[string]bool{}
	n.mu.Lock()
	defer n.mu.Unlock()
	here := map[netip.AddrPort]bool{n.addr: true}
	alone := true
	for name, m := range n.table {
		if m.State.In() {
			here[m.Addr] = true
			alone = alone && name == n.conf.Name
		}
	}
	for _, m := range n.table {
		if m.State == Failed && !here[m.Addr] {
			targets[m.Addr.String()] = false
		}
	}
	for _, p := range n.old {
		// Who had left may be back, but nobody waits for it: it is asked only
		// while there is nobody else.
		if !here[p.Addr] && (alone || !p.Left) {
			targets[p.Addr.String()] = false
		}
	}
	if !n.seeded.Load() {
		for _, seed := range n.conf.Join {
			targets[seed] = true
		}
	}
	return targets
}

// tell logs the outcome of a try when it is another one than before.
func (n *Node) tell(t *try, target string, err error) {
	said := "joined"
	if err != nil {
		said = err.Error()
	}
	if said == t.said || errors.Is(err, context.Canceled) || errors.Is(err, ErrClosed) || errors.Is(err, ErrInvalid) {
		return // nothing new; or this node goes, or is in its own list
	}
	t.said = said
	if err != nil {
		n.log.Warn("member does not let us in yet", "addr", target, "err", err)
	}
}
