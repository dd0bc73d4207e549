package ring

// Kind says what an entry is to the application; the ring orders all kinds
// alike. The numbers are the application's, 0 is not used.
type Kind uint8

// A Message is one thing that was ordered: an entry of the log, or the parts of
// a long one, joined.
type Message struct {
	Origin NK
	OSeq   uint64 // of its (last) entry at the origin
	Pos    uint64 // of its (last) entry in the log of the ring in which it is delivered
	Kind   Kind
	Data   []byte // not to be changed; stays valid
}

// An Event is what happens to a node; Core.Step takes one at a time.
type Event interface{ event() }

type (
	// Up: a session with Peer is there. Ring and MaxSeq are what its HELLO said.
	// A peer that is up already with another boot is Down first.
	Up struct {
		Peer   NK
		Ring   ID
		MaxSeq uint64
	}

	// Down: the session with Peer is gone. Dead tells that Peer surely does not
	// run any more: it said BYE, its redial was refused, or another boot of it
	// is there. Dead may also follow in a second Down for the same peer.
	Down struct {
		Peer NK
		Dead bool
	}

	// Received: a frame has come from Peer, whose session is up.
	Received struct {
		From  NK
		Frame Frame
	}

	// Submit: the application of this node wants Data ordered, which is the core's
	// from then on. Core.Room must have room for it, else the core refuses it by a
	// Refused output. An Urgent one may also use as much again as Config.Queue has
	// beyond its bound: for what must not fail, and of which there is little.
	Submit struct {
		Kind   Kind
		Data   []byte
		Urgent bool
	}

	// Durable: what Persist asked for is on disk; ceilings grow.
	Durable struct{ Ceiling uint64 }

	// State answers AskState of the same ballot.
	State struct {
		Ballot ID
		Data   []byte
	}

	// Tick: a timer of Core.Next is due.
	Tick struct{}

	// Paused: this node did not run for longer than half of T_dead. It judges
	// nobody for a while.
	Paused struct{}
)

func (Up) event()       {}
func (Down) event()     {}
func (Received) event() {}
func (Submit) event()   {}
func (Durable) event()  {}
func (State) event()    {}
func (Tick) event()     {}
func (Paused) event()   {}

// An Output is what a node has to do, in the order in which Step gives them.
type Output interface{ output() }

type (
	// Send: Frame goes to each of To; it is the same for all of them, so it is
	// encoded once. Frames to one peer keep their order. One to a peer whose
	// session is gone is dropped.
	Send struct {
		To    []NK
		Frame Frame
	}

	// Persist: Ceiling is to be made durable, and Durable to be stepped then.
	// What depends on it the core holds back itself.
	Persist struct{ Ceiling uint64 }

	// Deliver: messages of the log of Ring, in order. Tail tells that they close
	// the log: the entries that were on their way when the ring ended.
	Deliver struct {
		Ring     ID
		Tail     bool
		Messages []Message
	}

	// AskState: the application states, by a State event, its part of the shared
	// tables as they will be when Tail, too, has been applied to what was
	// delivered so far. Tail itself is not to be applied: it is delivered again
	// before Install, if this ballot is installed, and may be another one if it
	// is not. Lead: of all nodes that come from the same ring this one speaks
	// also for what belongs to no single node.
	AskState struct {
		Ballot ID
		Tail   []Message
		Lead   bool
	}

	// Install: View begins. Nothing of an older ring is delivered after it.
	// Cause is a text for people.
	Install struct {
		View         View
		Old          ID   // the ring that this node comes from
		Transitional []NK // the members that come from it too, sorted by ID; this node is one
		States       []NodeState
		Cause        string
	}

	// Break: Peer has broken the protocol, its session is to be closed.
	Break struct {
		Peer   NK
		Reason string
	}

	// Refused: a Submit was not taken. Nothing of it was sent.
	Refused struct{ Err error }

	// Note is for the log: what the core did and why, mostly about attempts to
	// change the ring.
	Note struct{ Text string }
)

func (Send) output()     {}
func (Persist) output()  {}
func (Deliver) output()  {}
func (AskState) output() {}
func (Install) output()  {}
func (Break) output()    {}
func (Refused) output()  {}
func (Note) output()     {}
