package sim

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/convoke-fs/convoke/cluster/ring"
)

const ms = time.Millisecond

// Chaos is how long faults happen.
const Chaos = 4 * time.Second

// A Kind is a kind of fault.
type Kind uint8

// The kinds of faults.
const (
	Crash    Kind = iota // a daemon dies, its host tells the peers
	Power                // a host dies without a word
	Wipe                 // a daemon dies, and what it had on its disk is lost
	Bye                  // a daemon ends as it should
	Reset                // a session breaks
	Hole                 // one direction of a link loses everything
	Cut                  // both do
	Split                // the nodes are parted into two or three sides
	Island               // a node is parted from some of the others
	Flap                 // a link is cut again and again
	Sever                // sessions of two nodes break, and they get no new one
	Churn                // the nodes are parted anew again and again, by such breaks
	Pause                // a node does not run
	Stuck                // a node's core does not, but its sessions do
	Slow                 // a node and its links take their time
	SlowDisk             // writes take up to 300 ms
	FullDisk             // writes are not done until all is healed
	Trap                 // a node dies in the middle of sending a frame of some type
	Snip                 // as Trap, but some of the sessions break there
	Flood                // a node sends as much as it can
	Everyone             // all die at once
	kinds
)

var kindNames = [kinds]string{"crash", "power", "wipe", "bye", "reset", "hole", "cut", "split", "island", "flap", "sever", "churn", "pause",
	"stuck", "slow", "slowdisk", "fulldisk", "trap", "snip", "flood", "everyone"}

func (k Kind) String() string { return kindNames[k] }

// A Fault is one action of a plan. It has all chance in it that it needs, so
// that the others stay what they are when it is dropped.
type Fault struct {
	At   time.Duration
	For  time.Duration // how long it lasts, or until a node starts again
	Kind Kind
	A, B int // nodes, from 1
	Bits uint64
}

func (f Fault) String() string {
	return fmt.Sprintf("%v %v node %d, %d for %v, %#x", f.At, f.Kind, f.A, f.B, f.For, f.Bits)
}

// Knobs are what differs from run to run besides the faults.
type Knobs struct {
	Nodes     int
	Kinds     []Kind
	Conf      ring.Config // without Self, MaxSeq and Rand
	Dead      time.Duration
	Rate      time.Duration // mean time between two messages of a node
	Bursts    bool          // several messages at once
	MaxSize   int           // of messages
	Codec     bool          // frames are encoded and decoded
	StateLate time.Duration // longest time that the application takes to state its tables
	BigState  int           // bytes to fill up what it states
	Reserve   bool          // a node raises its ceiling before its core starts
	Disk      time.Duration // longest time of a write
	Redial    time.Duration // longest time between two dials
	Hasty     bool          // a link is dialled as soon as that can succeed
	Calm      bool          // delays are 1 to 6 ms without exception
	Bound     time.Duration // for liveness, after the heal
	Scars     [][2]int      // links, by nodes, that are not healed
}

func (k Knobs) String() string {
	var kinds []string
	for _, kind := range k.Kinds {
		kinds = append(kinds, kind.String())
	}
	c := k.Conf
	return fmt.Sprintf("nodes=%d window=%d credit=%d fragment=%d maxmessage=%d queue=%d slow=%v gather=%v holddown=%v rate=%v maxsize=%d codec=%v scars=%v kinds=%s",
		k.Nodes, c.Window, c.MinCredit, c.Fragment, c.MaxMessage, c.Queue, c.Slow, c.Gather, c.MaxHoldDown, k.Rate, k.MaxSize, k.Codec, k.Scars, strings.Join(kinds, ","))
}

// A Plan is what a seed stands for.
type Plan struct {
	Seed   uint64
	Knobs  Knobs
	Faults []Fault
}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

func chance(r *rand.Rand, percent int) bool { return r.IntN(100) < percent }

func between(r *rand.Rand, lo, hi time.Duration) time.Duration {
	if hi <= lo {
		return lo
	}
	return lo + time.Duration(r.Int64N(int64(hi-lo)))
}

// breaking are the kinds that change the ring in any case, so they come more
// often.
var breaking = []Kind{Crash, Reset, Sever, Churn, Trap, Snip}

func (k *Knobs) kind(r *rand.Rand) Kind {
	kind := pick(r, k.Kinds...)
	if !slices.Contains(breaking, kind) && chance(r, 60) {
		kind = pick(r, k.Kinds...)
	}
	return kind
}

// scars draws links that stay cut, so that the others still connect all nodes.
func scars(r *rand.Rand, nodes int) (cut [][2]int) {
	for range 1 + r.IntN(nodes/2+1) {
		pair := [2]int{1 + r.IntN(nodes), 1 + r.IntN(nodes)}
		if pair[0] < pair[1] && !slices.Contains(cut, pair) && connected(nodes, append(cut, pair)) {
			cut = append(cut, pair)
		}
	}
	return cut
}

// connected tells whether all nodes reach each other, over others if need be,
// without the links that are cut.
func connected(nodes int, cut [][2]int) bool {
	seen := []int{1}
	for i := 0; i < len(seen); i++ {
		for n := 1; n <= nodes; n++ {
			pair := [2]int{min(seen[i], n), max(seen[i], n)}
			if !slices.Contains(seen, n) && !slices.Contains(cut, pair) {
				seen = append(seen, n)
			}
		}
	}
	return len(seen) == nodes
}

// lasting is how long one of n faults lasts. Many that last would leave nothing
// alive that could go wrong.
func lasting(r *rand.Rand, n int) time.Duration {
	switch {
	case chance(r, 50):
		return between(r, ms, 60*ms)
	case chance(r, 70):
		return between(r, 50*ms, 500*ms)
	}
	return between(r, 400*ms, 2*time.Second*15/time.Duration(n))
}

// NewPlan draws the plan of a seed for a cluster of between lo and hi nodes.
func NewPlan(seed uint64, lo, hi int) Plan {
	r := rand.New(rand.NewPCG(seed, 0x706c616e))
	k := Knobs{
		Nodes:     lo + r.IntN(hi-lo+1),
		Dead:      500 * ms,
		Rate:      pick(r, 10*ms, 30*ms, 100*ms, 300*ms),
		Bursts:    chance(r, 30),
		Codec:     chance(r, 75),
		StateLate: pick(r, 0, 0, 3*ms, 30*ms),
		Reserve:   chance(r, 50),
		Disk:      pick(r, 0, ms, 5*ms, 20*ms),
		Redial:    pick(r, 60*ms, 300*ms, time.Second),
		Hasty:     chance(r, 50),
		Calm:      chance(r, 30),
		Bound:     10 * time.Second,
	}
	if k.Nodes > 5 {
		k.Rate *= time.Duration(k.Nodes / 3)
	}
	if chance(r, 5) {
		k.BigState = r.IntN(1 << 20 * 3 / 2 / k.Nodes)
	}
	c := &k.Conf
	c.Fragment = pick(r, 0, 0, 24, 64, 256, 1000)
	c.MaxMessage = 4000
	c.Window = pick(r, 0, 0, 1, 500, 4000, 30000)
	c.MinCredit = pick(r, 0, 1, 200, 2000)
	c.Queue = pick(r, 0, 8000, 20000)
	c.Gather = pick(r, 0, 0, -1, 5*ms)
	c.Slow = pick(r, 0, 300*ms, time.Second)
	c.Ack = pick(r, 0, 0, ms, 30*ms)
	c.MaxHoldDown = pick(r, ms, 100*ms, 500*ms, 2*time.Second)
	if chance(r, 5) {
		c.MaxHoldDown, k.Bound = 0, 70*time.Second
	}
	k.MaxSize = pick(r, 40, 40, 400, 4000)
	if tiny := max(cmp.Or(c.Window, 4<<20)/k.Nodes, cmp.Or(c.MinCredit, 64<<10)) < 4000; tiny {
		// One entry at a time takes a while, and what waits at the heal has to go too.
		c.Queue = pick(r, 1000, 3000)
		k.MaxSize = min(k.MaxSize, 400)
	} else if c.Window > 0 && c.Queue == 0 {
		c.Queue = 50000
	} else if c.Window == 0 && chance(r, 10) { // logs that need several frames
		k.MaxSize, c.MaxMessage, c.Queue = 150_000, 150_000, 2<<20
		k.Rate = max(k.Rate, 100*ms)
		c.Fragment = pick(r, 0, 30_000)
	}
	if k.Nodes > 2 && chance(r, 10) {
		k.Scars = scars(r, k.Nodes)
	}
	for len(k.Kinds) == 0 {
		for kind := range kinds {
			if chance(r, 40) {
				k.Kinds = append(k.Kinds, kind)
			}
		}
	}
	p := Plan{Seed: seed, Knobs: k}
	n := pick(r, 15, 30, 30, 50, 80)
	for range n {
		f := Fault{
			At:   between(r, 100*ms, Chaos),
			For:  lasting(r, n),
			Kind: k.kind(r),
			A:    1 + r.IntN(k.Nodes),
			B:    1 + r.IntN(k.Nodes),
			Bits: r.Uint64(),
		}
		if f.B == f.A {
			f.B = 1 + f.A%k.Nodes
		}
		p.Faults = append(p.Faults, f)
	}
	slices.SortStableFunc(p.Faults, func(a, b Fault) int { return int(a.At - b.At) })
	return p
}
