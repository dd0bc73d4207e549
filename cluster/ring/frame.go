package ring

// Type is the type of a frame between two daemons.
type Type uint8

// The types of frames. HELLO to HEARD and BYE belong to the session, which
// gives only the others to the core.
const (
	TypeHello Type = iota + 1
	TypeHelloAck
	TypeRefuse
	TypePing
	TypePong
	TypeProbe
	TypeHeard
	TypeBye
	TypeInfo Type = iota + 8
	TypeSubmit
	TypeOrd
	TypeAck
	TypePropose
	TypeReport
	TypeNack
	TypePrepare
	TypeRecover
	TypeReady
	TypeInstall
)

// A frame begins, little-endian, with its length (u32, of what follows the
// first 8 bytes, without a checksum), its type, its flags, and two bytes that
// are 0.
const (
	HeaderSize = 8
	MaxBody    = 1 << 20 // of one frame
	MaxChain   = 64 << 20

	FlagMore = 1 << 0 // more frames of the same type belong to this one
)

// A Frame is a decoded frame of the ring's protocol: one of the pointer types
// below. What it holds is not to be changed: the core, the codec and, in a
// simulation, several nodes share it.
type Frame interface{ frameType() Type }

// An Entry is one place in the log.
type Entry struct {
	Origin NK
	OSeq   uint64 // counts per origin, from 1 with each boot
	Kind   Kind
	Flags  uint8
	Data   []byte
}

// Flags of an entry: which part of a message it is. Parts of one message follow
// each other among the entries of their origin. A whole message in one entry is
// its first part, and has no more.
const (
	EntryFirst = 1 << 0 // the first part
	EntryMore  = 1 << 1 // another part follows
)

type (
	// Info says where the sender stands: when a session comes up, at an install to
	// those who are not in the ring, and to the acting coordinator while the sender
	// wants a change.
	Info struct {
		Ring   ID
		Size   uint32 // members of Ring
		Acting uint32 // whom the sender takes for its coordinator
		MaxSeq uint64
		Reach  []NK // whom it would have in a ring
	}

	// SubmitFrame brings entries of the sender to the sequencer. Pos is an ACK.
	SubmitFrame struct {
		Ring    ID
		Pos     uint64
		Entries []Entry // Origin is the sender and does not travel
	}

	// Ord brings entries of the log, in order, from position First on.
	// One without entries tells how far the log is stable.
	Ord struct {
		Ring    ID
		First   uint64 // position of the first entry; where the next will be, if there is none
		Stable  uint64 // up to where every member has the log
		Credit  uint32 // bytes of one origin that may be on their way
		Members []NK   // of the ring, to resolve indexes; does not travel
		Entries []Entry
	}

	// Ack tells up to which position the sender has the log.
	Ack struct {
		Ring ID
		Pos  uint64
	}

	// Propose asks for a promise of Ballot.
	Propose struct {
		Ballot ID
		Set    []NK
	}

	// Report is the promise, and tells where the sender stands.
	Report struct {
		Ballot   ID
		Ring     ID
		Have     uint64 // length of its log
		Base     uint64 // entries at the beginning that it has discarded
		Prepared ID     // ballot for which it was READY and that it has not installed
		Last     []Last
		Pend     []Entry
		Reach    []NK
	}

	// Nack refuses a proposal, or (Prefer not 0) asks to leave it to another node.
	Nack struct {
		Ballot   ID
		Promised uint64
		Prefer   uint32
	}

	// Prepare fixes the next view and how each old ring's log is closed.
	Prepare struct {
		Ballot  ID
		Members []NK
		Groups  []OldRing
	}

	// Recover brings missing entries of an old log to Target. Install is set, and
	// position 0 covered, for a node that installs that ring late.
	Recover struct {
		Ballot  ID
		Ring    ID
		Target  NK
		First   uint64
		Entries []Entry
		Late    *InstallFrame
	}

	// Ready tells that the sender's log is complete, and states its part of the
	// tables.
	Ready struct {
		Ballot ID
		Data   []byte
	}

	// InstallFrame ends the change.
	InstallFrame struct {
		Ballot ID
		States []NodeState
	}
)

// Last is the highest OSeq of Origin that a node has delivered.
type Last struct {
	Origin NK
	OSeq   uint64
}

// OldRing is one of the rings from which the members of a new one come.
type OldRing struct {
	Ring   ID
	Parts  []NK     // who comes from it, in set order
	Have   []uint64 // how much of the log each of Parts has
	Base   uint64   // least position that somebody may still need
	End    uint64   // where the log ends
	Holder NK       // who has it up to there
	Late   []NK     // of Parts: those that install it first
	Tail   []Entry  // what is delivered after End
}

func (*Info) frameType() Type         { return TypeInfo }
func (*SubmitFrame) frameType() Type  { return TypeSubmit }
func (*Ord) frameType() Type          { return TypeOrd }
func (*Ack) frameType() Type          { return TypeAck }
func (*Propose) frameType() Type      { return TypePropose }
func (*Report) frameType() Type       { return TypeReport }
func (*Nack) frameType() Type         { return TypeNack }
func (*Prepare) frameType() Type      { return TypePrepare }
func (*Recover) frameType() Type      { return TypeRecover }
func (*Ready) frameType() Type        { return TypeReady }
func (*InstallFrame) frameType() Type { return TypeInstall }
