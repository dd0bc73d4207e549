// Package quota counts what each user holds and says no at the limit.
package quota

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
)

// A Resource is something of which a user may hold so much and no more.
type Resource uint8

const (
	Streams       Resource = iota // open connections
	Dials                         // connections being made
	Parked                        // requests that wait for their stream
	ParkedBytes                   // bytes that blocked writers have handed over
	Events                        // open event readers
	Announcements                 // announced services
	Sockets                       // connections of the daemon's socket
	Waiting                       // clients that wait for announced services
	Memberships                   // memberships of processes in groups
	nResources
)

var names = [nResources]string{"streams", "dials", "parked", "parked-bytes", "events", "announcements", "sockets", "waiting", "memberships"}

// Defaults are the limits per user where none is configured.
var Defaults = [nResources]int64{16384, 256, 16384, 32 << 20, 1024, 256, 1024, 4096, 1024}

// String returns the name by which the configuration knows r.
func (r Resource) String() string { return names[r] }

// A Table holds the limits and the counts of all users. Its methods may be called from any goroutine and never wait.
// Root has no limit of his own: who is root can stop the daemon anyway, and must be able to look when a user has used his
// share up.
type Table struct {
	mu     sync.Mutex
	all    [nResources]int64             // guarded by mu; the limit of users who have none of their own
	free   int64                         // guarded by mu; descriptors that are left for streams of anybody
	own    map[uint32][nResources]int64  // guarded by mu; -1: none of his own
	counts map[uint32]*[nResources]int64 // guarded by mu
}

// reserved is how many descriptors stay the daemon's own.
const reserved = 256

// descriptors are what each resource costs the daemon: a connection that is being made has, beside its socket, another
// one to an address of the other kind, and what waits for both; an announced service listens at two addresses.
var descriptors = [nResources]int64{Streams: 1, Dials: 2, Announcements: 2, Sockets: 1, Waiting: 1}

// New returns a table with the default limits, for a daemon that may have so many descriptors. Each stream costs it one:
// a user gets half of them at the most, and all users together, root among them, all but a few.
func New(maxFiles int64) *Table {
	t := &Table{all: Defaults, own: map[uint32][nResources]int64{}, counts: map[uint32]*[nResources]int64{}}
	t.all[Streams] = min(t.all[Streams], maxFiles/2)
	t.free = max(maxFiles-reserved, 0)
	return t
}

// Set takes one limit in the form of the configuration: "NAME UID N", or "NAME * N" for every user without one of his own.
func (t *Table) Set(text string) error {
	f := strings.Fields(text)
	if len(f) != 3 {
		return fmt.Errorf("limit %q: want NAME UID|* N", text)
	}
	r := Resource(0)
	for r < nResources && names[r] != f[0] {
		r++
	}
	if r == nResources {
		return fmt.Errorf("limit %q: no limit is called %q (%s)", text, f[0], strings.Join(names[:], ", "))
	}
	n, err := strconv.ParseInt(f[2], 10, 64)
	if err != nil || n < 0 {
		return fmt.Errorf("limit %q: %q is no count", text, f[2])
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if f[1] == "*" {
		t.all[r] = n
		return nil
	}
	uid, err := strconv.ParseUint(f[1], 10, 32)
	if err != nil {
		return fmt.Errorf("limit %q: %q is no uid", text, f[1])
	}
	own, ok := t.own[uint32(uid)]
	if !ok {
		for i := range own {
			own[i] = -1
		}
	}
	own[r] = n
	t.own[uint32(uid)] = own
	return nil
}

// Take counts n of r for uid, or reports false and counts nothing when that would be beyond the limit.
func (t *Table) Take(uid uint32, r Resource, n int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.counts[uid]
	if c == nil {
		c = new([nResources]int64)
	}
	limit := t.all[r]
	if own, ok := t.own[uid]; ok && own[r] >= 0 {
		limit = own[r]
	}
	cost := n * descriptors[r]
	if uid != 0 && c[r]+n > limit || cost > t.free && cost > 0 {
		return false
	}
	t.free -= cost
	c[r] += n
	t.counts[uid] = c
	return true
}

// Give takes back what Take counted.
func (t *Table) Give(uid uint32, r Resource, n int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.free += n * descriptors[r]
	c := t.counts[uid]
	c[r] -= n
	if *c == [nResources]int64{} {
		delete(t.counts, uid)
	}
}

// Held returns how much of r all users hold together.
func (t *Table) Held(r Resource) int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	var n int64
	for _, c := range t.counts {
		n += c[r]
	}
	return n
}
