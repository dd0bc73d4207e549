package ring

import "time"

// Config is what a core is made with. The zero value of what is optional is
// the default of the specification.
type Config struct {
	Self   NK            // required
	MaxSeq uint64        // required: the durable ceiling that the last start of this node left; Fresh for a node without history
	Rand   func() uint64 // required: the only source of chance

	// Ceiling is what is durable now, when the node has raised its ceiling at this
	// start already. Optional: MaxSeq. Without it the number of the ring that a
	// node starts in may come again at its next start, should it die before its
	// first Persist is done; nobody else can have been in that ring.
	Ceiling uint64

	Window      int           // optional: unstable bytes of the whole ring; 4 MiB
	MinCredit   int           // optional: least window of one origin; 64 KiB
	Fragment    int           // optional: longest entry; a longer message is cut; 65 KiB
	MaxMessage  int           // optional: longest message; 1 MiB
	Queue       int           // optional: bytes that may wait to be submitted; 4 MiB
	Join        time.Duration // optional: T_join; 50 ms
	Grace       time.Duration // optional: for a redial after a break; 100 ms
	Report      time.Duration // optional: T_report; 150 ms
	Slow        time.Duration // optional: T_slow; 5 s
	Ack         time.Duration // optional: 5 ms
	Idle        time.Duration // optional: between lone ORDs that tell what is stable; 50 ms
	Gather      time.Duration // optional: how long an entry may wait for company while earlier ones are on their way; 1 ms; negative: not at all
	MaxHoldDown time.Duration // optional: longest back-off of a member that was put out again and again; 30 s
}

// Fresh gives the MaxSeq of a node without history from a random number. Were it
// 0, two nodes that have lost their disks could form a ring of the number of one
// in which others still are, who knew them in an earlier life; and those would
// take the two for fellows, with another log. Numbers up to a million are easily
// read, and make that a chance of one in a million after such a loss.
func Fresh(random uint64) uint64 { return random % 1e6 }

// Bounds that are not configured.
const (
	maxFragment   = MaxBody / 2     // of Config.Fragment, so that a frame always has room for an entry
	hardMessage   = 16 << 20        // longest message that is taken from others, who may be configured otherwise
	batchBytes    = 64 << 10        // of entries in one SUBMIT or ORD, unless a single one has more
	gatherBytes   = 32 << 10        // that need not wait for company any more
	ackBytes      = 32 << 10        // after which an ACK is sent at once
	recoverBytes  = 512 << 10       // of entries in one RECOVER
	maxParked     = MaxChain        // bytes of RECOVERs that may wait for their PREPARE
	maxMembers    = 1024            // of a ring, so that no list has more
	maxSeqStep    = uint64(1) << 32 // a ring seq further above ours is a lie
	reserve       = 1024            // ring seqs covered by one Persist
	reserveAhead  = 256             // seqs left when the next Persist is asked for
	shunMin       = 250 * time.Millisecond
	shunMax       = 30 * time.Second
	holdMin       = time.Second      // first hold-down
	holdAfter     = 3                // exclusions
	holdWindow    = 60 * time.Second // in which they count
	handoverEvery = 5 * time.Second
	handoverMax   = 60 * time.Second
)

func orDefault[T int | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

// withDefaults fills in what is left open.
func (c Config) withDefaults() Config {
	assert(c.Self.ID != 0 && c.Self.Boot != 0, "Config.Self is not set")
	assert(c.Rand != nil, "Config.Rand is not set")
	c.Ceiling = max(c.Ceiling, c.MaxSeq)
	orDefault(&c.Window, 4<<20)
	orDefault(&c.MinCredit, 64<<10)
	orDefault(&c.Fragment, 65<<10)
	c.Fragment = min(c.Fragment, maxFragment)
	orDefault(&c.MaxMessage, 1<<20)
	c.MaxMessage = min(c.MaxMessage, hardMessage)
	orDefault(&c.Queue, 4<<20)
	orDefault(&c.Join, 50*time.Millisecond)
	orDefault(&c.Grace, 100*time.Millisecond)
	orDefault(&c.Report, 150*time.Millisecond)
	orDefault(&c.Slow, 5*time.Second)
	orDefault(&c.Ack, 5*time.Millisecond)
	orDefault(&c.Idle, 50*time.Millisecond)
	orDefault(&c.Gather, time.Millisecond)
	orDefault(&c.MaxHoldDown, 30*time.Second)
	return c
}
