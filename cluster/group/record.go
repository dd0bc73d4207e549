package group

import (
	"github.com/convoke-fs/convoke/cluster/ring"
)

// A Reason is why somebody joined or left; the numbers are those of CPG.
type Reason uint8

// The reasons.
const (
	Join     Reason = 1
	Leave    Reason = 2
	NodeDown Reason = 3
	NodeUp   Reason = 4
	ProcDown Reason = 5
)

func (r Reason) String() string {
	switch r {
	case Join:
		return "JOIN"
	case Leave:
		return "LEAVE"
	case NodeDown:
		return "NODEDOWN"
	case NodeUp:
		return "NODEUP"
	case ProcDown:
		return "PROCDOWN"
	}
	return "UNDEFINED"
}

// A Process is a member of a group.
type Process struct {
	Node uint32
	PID  uint32
	N    uint32 // which of this process's memberships in the group it is, from 1; 0: it is no member
}

// A RecordKind is what a record tells.
type RecordKind uint8

// The kinds of records.
const (
	Conf RecordKind = iota + 1 // who is a member has changed
	Msg                        // a message
	Ring                       // the ring has changed
)

// A Record is what members read: one for all members of a node. It never
// changes.
type Record struct {
	Kind    RecordKind
	Members []Process // Conf: sorted by node, PID, N
	Joined  []Changed // Conf
	Left    []Changed // Conf
	From    Process   // Msg; N is 0 for one who is no member, PID too for a node's own daemon
	Data    []byte    // Msg
	Ring    ring.ID   // of the ring in which it happened
	Pos     uint64    // Conf, Msg: position in the ring's log; 0 where the ring itself is the cause
	Nodes   []uint32  // Ring: its members, sorted
}

// Changed is a process that joined or left.
type Changed struct {
	Process
	Reason Reason
}

// What things take in memory, on 64-bit machines.
const (
	recordBytes  = 168
	slotBytes    = 16
	processBytes = 12
	changedBytes = 16

	// recordOverhead is a record beside what its slices hold, its place in a
	// queue, and what the allocator adds.
	recordOverhead = recordBytes + slotBytes + 16
)

// size is what the record counts for in a queue.
func (r *Record) size() int {
	return recordOverhead + len(r.Data) + len(r.Members)*processBytes +
		(len(r.Joined)+len(r.Left))*changedBytes + len(r.Nodes)*4
}

// The data of a message is a part of the buffer in which it came, of up to
// 64 KiB, and would keep all of that for as long as a member does not read it.
// So small data goes into the record's own memory, and larger data is copied
// too once the queue is long: what waits then takes what it counts for, but for
// a few buffers.
const (
	lagCopy  = 16       // records that wait
	longCopy = 32 << 10 // of longer data the buffer holds little else
)

type (
	record64 struct {
		Record
		buf [64]byte
	}
	record256 struct {
		Record
		buf [256]byte
	}
)

// newMsg makes the record of a message for a queue in which lag records wait.
func newMsg(data []byte, lag uint64) *Record {
	switch n := len(data); {
	case n <= 64:
		r := &record64{}
		r.Kind = Msg
		r.Data = r.buf[:n:n]
		copy(r.Data, data)
		return &r.Record
	case n <= 256:
		r := &record256{}
		r.Kind = Msg
		r.Data = r.buf[:n:n]
		copy(r.Data, data)
		return &r.Record
	case n <= longCopy && lag > lagCopy:
		return &Record{Kind: Msg, Data: append([]byte(nil), data...)}
	}
	return &Record{Kind: Msg, Data: data}
}
