package ring

import "time"

// Core is the protocol of one node: events in, outputs out. It is not safe for
// use by several goroutines, and does nothing by itself.
type Core struct {
	conf Config
	self NK
	now  time.Duration
	out  []Output // of the Step that runs

	started bool
	dirty   bool // somebody's reach, ring or session has changed: reconsider
	timers  [nTimers]time.Duration

	// The ring that is installed.
	view      View
	members   []member // beside view.Members
	me        int      // index of this node
	lastIdx   int      // where index looked last
	log       entryLog
	stable    uint64        // every member is known to have the log up to here
	acked     uint64        // what this node has told of its log
	unacked   int           // bytes that came since
	credit    int           // bytes of one origin that may be on their way
	born      *InstallFrame // position 0 of the log, until it is stable
	installed time.Duration // when

	// At the sequencer.
	audience  []NK    // who gets ORDs
	unsent    []Entry // ordered and not yet told
	unsentLen int     // their bytes
	untold    int     // bytes that became stable since an ORD said so
	told      uint64  // what the last ORD said to be stable
	ownAt     time.Duration
	foreign   bool // an entry of another node was ordered since this node's last

	// What this node itself wants ordered.
	queue       deque[queued]
	queuedBytes int
	oseq        uint64 // last one given
	pend        deque[Entry]
	pendBytes   int
	pendSince   time.Duration // something was ordered, or there was nothing to order

	// A change of the ring.
	state      state
	maxSeq     uint64
	seqFrom    uint64 // maxSeq as it was at seqAt, a second ago at most
	seqAt      time.Duration
	durable    uint64 // ceiling on disk
	asked      uint64 // ceiling that was asked for
	promised   ID
	set        []NK     // of the promised proposal, sorted
	owed       bool     // the REPORT waits for the disk
	proposed   *Propose // one that waits for the disk, while the ring goes on; nil: none
	proposedBy NK
	prep       *Prepare // of the promised ballot, once it is here
	group      *OldRing // of prep, with this node in it
	parked     []parked // RECOVERs that came before prep
	parkedLen  int
	tail       []Message // of group, once the log is complete
	stating    bool      // AskState is out
	stated     *State    // the answer
	isReady    bool      // READY has left for the promised ballot
	ready      *Prepare  // of the last ballot with a READY that is not installed
	wasReady   ID        // the last ballot with a READY
	tries      int       // attempts that failed since the last ring
	try        *attempt  // this node's own

	// The others.
	peers       []*peer // sorted by ID
	acting      uint32
	yielded     bool
	yieldUntil  time.Duration
	wished      bool
	wishSince   time.Duration
	handoverAt  time.Duration
	handoverGap time.Duration

	changes uint64 // rings installed
}

// state is that of section 4.1 of the specification; PREPARED is flush with
// prep set.
type state uint8

const (
	oper state = iota
	flush
)

// member is what is known of a member of the installed ring.
type member struct {
	last     uint64 // its highest oseq in the log
	fresh    bool   // last is not known: nothing of it was seen, and it comes from another ring
	unstable int    // bytes of its entries that are not stable
	ack      uint64 // at the sequencer: it has the log up to here
	ackMoved time.Duration

	parts     [][]byte // of a message whose last part is not here
	partBytes int

	broken bool // its session broke since the ring was installed, or one of the next is true (S1)
	lostAt time.Duration
	dead   bool // it surely does not run any more
	moved  bool // it is in another ring
	slow   bool // it was put out for not acknowledging
}

// New gives the core of a node that has just started, in a ring of its own. The
// first outputs come with the first Step.
func New(conf Config) *Core {
	c := &Core{conf: conf.withDefaults()}
	c.self = c.conf.Self
	for i := range c.timers {
		c.timers[i] = never
	}
	c.durable, c.asked = c.conf.Ceiling, c.conf.Ceiling
	c.maxSeq = c.conf.MaxSeq + 1
	c.seqFrom = c.maxSeq
	c.handoverGap = handoverEvery
	c.promised = ID{c.maxSeq, c.self.ID}
	c.set = []NK{c.self}
	c.view = View{Ring: c.promised, Members: c.set}
	c.members = make([]member, 1)
	c.acting = c.self.ID
	c.born = &InstallFrame{Ballot: c.promised, States: []NodeState{}}
	return c
}

// Step takes what has happened at now, a clock that never goes back, and gives
// what is to be done, in order: all of it before anything that a later Step
// gives.
func (c *Core) Step(now time.Duration, ev Event) []Output {
	c.now = max(c.now, now)
	if !c.started {
		c.start()
	}
	switch ev := ev.(type) {
	case Submit:
		c.onSubmit(ev)
	case Received:
		c.onFrame(ev.From, ev.Frame)
	case Tick:
		c.tick()
	case Up:
		c.onUp(ev)
	case Down:
		c.onDown(ev)
	case Durable:
		c.onDurable(ev.Ceiling)
	case State:
		c.onState(ev)
	case Paused:
		c.onPaused()
	default:
		assert(false, "an event of unknown type")
	}
	for c.dirty {
		c.reconsider()
	}
	out := c.out
	c.out = nil
	return out
}

func (c *Core) start() {
	c.started = true
	c.changes = 1
	c.installed = c.now
	c.learn(c.maxSeq)
	c.emit(Install{
		View:         c.view,
		Transitional: []NK{c.self},
		States:       []NodeState{},
		Cause:        "start",
	})
}

// View gives the ring that is installed.
func (c *Core) View() View { return c.view }

func (c *Core) emit(o Output) { c.out = append(c.out, o) }

func (c *Core) note(text string) { c.emit(Note{text}) }

func (c *Core) send(to NK, f Frame) { c.emit(Send{To: []NK{to}, Frame: f}) }

// leads tells whether this node is the sequencer, and so the coordinator.
func (c *Core) leads() bool { return c.me == 0 }

// onFrame takes in a frame, if the session by which it came still counts.
func (c *Core) onFrame(from NK, f Frame) {
	if !c.isUp(from) {
		return
	}
	switch f := f.(type) {
	case *Ord:
		c.onOrd(from, f)
	case *SubmitFrame:
		c.onSubmitFrame(from, f)
	case *Ack:
		c.onAckFrame(from, f)
	case *Info:
		c.onInfo(from, f)
	case *Propose:
		c.onPropose(from, f)
	case *Report:
		c.onReport(from, f)
	case *Nack:
		c.onNack(from, f)
	case *Prepare:
		c.onPrepare(from, f)
	case *Recover:
		c.onRecover(from, f)
	case *Ready:
		c.onReady(from, f)
	case *InstallFrame:
		c.onInstall(from, f)
	default:
		c.punish(from, "a frame of unknown type")
	}
}

// punish ends the session with a peer that has broken the protocol.
func (c *Core) punish(nk NK, reason string) {
	if nk == c.self {
		assert(false, "this node breaks the protocol: "+reason)
	}
	c.emit(Break{Peer: nk, Reason: reason})
	c.down(nk, false)
}
