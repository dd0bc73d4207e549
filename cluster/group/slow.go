package group

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// A member is put out when it has read nothing for scanEvery*scanLimit. Scans
// are counted, not time: after a pause of the daemon, in which nobody could
// read, one scan is due and not thirty.
const (
	scanEvery = time.Second
	scanLimit = 30
)

// checkEvery is how many bytes may be put into feeds between two looks at the
// users' shares.
const checkEvery = 1 << 20

// armScan has a scan come if none is due. Without much that waits none is.
func (g *Groups) armScan() {
	if g.scan.CompareAndSwap(false, true) {
		time.AfterFunc(scanEvery, g.scanSlow)
	}
}

// scanSlow puts out who does not read.
func (g *Groups) scanSlow() {
	g.scan.Store(false) // before the look, so that what comes during it is not missed
	again := false
	for _, f := range g.allFeeds() {
		f.mu.Lock()
		for _, m := range slices.Clone(f.members) {
			n := f.waits(m)
			if n <= slowQueue || m.taken != m.seen {
				m.seen, m.stalled = m.taken, 0
			} else if m.stalled++; m.stalled >= scanLimit {
				f.putOut(m, fmt.Sprintf("it has not read for %v and %d KiB wait for it", scanLimit*scanEvery, n>>10))
				continue
			}
			again = again || n > slowQueue
		}
		f.mu.Unlock()
		f.drop()
	}
	if again {
		g.armScan()
	}
	g.Flush()
}

func (g *Groups) allFeeds() []*feed {
	g.lmu.Lock()
	defer g.lmu.Unlock()
	return slices.Collect(maps.Values(g.feeds))
}

// checkUsers puts out members of users for whom too much waits. It is the
// engine's.
func (g *Groups) checkUsers() {
	if g.queued.Load() <= maxQueue || g.pushed-g.checked < checkEvery {
		return
	}
	g.checked = g.pushed
	feeds := g.allFeeds()
	for {
		worst := make(map[uint32]userShare)
		for _, f := range feeds {
			f.addShares(worst)
		}
		done := true
		for uid, s := range worst {
			if uid == 0 || s.bytes <= maxQueue {
				continue
			}
			done = false
			s.feed.mu.Lock()
			if !s.member.gone {
				s.feed.putOut(s.member, fmt.Sprintf("%d MiB wait for the members of its user", s.bytes>>20))
			}
			s.feed.mu.Unlock()
			s.feed.drop()
		}
		if done {
			return
		}
	}
}

// userShare is what waits for the members of a user.
type userShare struct {
	bytes  int
	most   int // for member, for whom most waits
	member *Member
	feed   *feed
}

// addShares adds what f holds for users: what waits for several of their
// members waits once.
func (f *feed) addShares(all map[uint32]userShare) {
	f.mu.Lock()
	defer f.mu.Unlock()
	here := make(map[uint32]int)
	for _, m := range f.members {
		n, uid := f.waits(m), m.caller.UID
		here[uid] = max(here[uid], n)
		s := all[uid]
		if s.member == nil || n > s.most || n == s.most && m.inc < s.member.inc {
			s.most, s.member, s.feed = n, m, f
		}
		all[uid] = s
	}
	for uid, n := range here {
		s := all[uid]
		s.bytes += n
		all[uid] = s
	}
}
