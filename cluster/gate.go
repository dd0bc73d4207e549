package cluster

import (
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/hashicorp/serf/serf"
)

// maxBootAhead is how far another's boot counter may be above ours. No daemon
// is started so often; who claims more wants the counters to end.
const maxBootAhead = 1 << 32

// gate decides which members serf may let in. Serf calls it for each merge and
// for each message that says a node is alive, under memberlist's lock: so it is
// fast, takes no lock and makes no call into serf.
type gate struct {
	self    netip.AddrPort // where we are reached
	name    string
	boot    uint64
	cluster string // hash of the cluster's name
	view    *atomic.Pointer[view]

	refused atomic.Pointer[refusal] // the last one
}

// refusal is why members were not let in.
type refusal struct {
	err   error
	addrs []netip.AddrPort // of the members of that merge
}

var _ serf.MergeDelegate = (*gate)(nil)

// NotifyMerge looks at the members that another node brings, ourselves among
// them as it knows us; an error keeps all of them out.
func (g *gate) NotifyMerge(members []*serf.Member) error {
	addrs := make([]netip.AddrPort, 0, len(members))
	var first error
	for _, sm := range members {
		if sm.Status == serf.StatusLeft {
			continue // it is gone, and may have been of another time
		}
		m, err := memberOf(sm)
		if err == nil {
			addrs = append(addrs, m.Addr)
			err = g.check(m, sm.Tags)
		}
		if err != nil && first == nil {
			first = err
		}
	}
	if first != nil {
		g.refused.Store(&refusal{err: first, addrs: addrs})
	}
	return first
}

// why gives the reason when the node at addr was in the last merge that was
// refused, else nil.
func (g *gate) why(addr netip.AddrPort) error {
	if r := g.refused.Load(); r != nil {
		for _, a := range r.addrs {
			if a == addr {
				return r.err
			}
		}
	}
	return nil
}

func (g *gate) check(m Member, tags map[string]string) error {
	switch {
	case tags[tagCluster] != g.cluster:
		return fmt.Errorf("member %s: %w", m.Name, ErrForeign)
	case !speaks(tags[tagProtocol]):
		return fmt.Errorf("member %s: protocol %q, we speak %d-%d: %w", m.Name, tags[tagProtocol], protocolMin, protocolMax, ErrForeign)
	case m.Boot > maxBootAhead && m.Boot-maxBootAhead > g.boot:
		return fmt.Errorf("member %s: boot %d: %w", m.Name, m.Boot, ErrInvalid)
	case m.Name == g.name && m.Addr != g.self:
		return fmt.Errorf("%w: %s is the node at %s", ErrNameTaken, m.Name, m.Addr)
	}
	// Two living nodes of one name: memberlist keeps the one that it knows.
	if known, ok := g.view.Load().byName[m.Name]; ok && known.State.In() && known.Addr.Port() != 0 && known.Addr != m.Addr {
		return fmt.Errorf("%w: %s is the node at %s, not %s", ErrNameTaken, m.Name, known.Addr, m.Addr)
	}
	return nil
}

// speaks tells whether a range of protocol versions, MIN-MAX, meets ours.
func speaks(versions string) bool {
	low, high, ok := strings.Cut(versions, "-")
	if !ok {
		return false
	}
	from, err1 := strconv.ParseUint(low, 10, 16)
	to, err2 := strconv.ParseUint(high, 10, 16)
	return err1 == nil && err2 == nil && from <= to && to <= math.MaxUint16 &&
		from <= protocolMax && to >= protocolMin
}
