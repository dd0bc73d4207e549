package ring

import (
	"cmp"
	"fmt"
)

// NK is the key of a node: one life of it.
type NK struct {
	ID   uint32 // the node's number, unique in the cluster, not 0
	Boot uint64 // which start of its daemon this is, from 1
}

func (n NK) String() string { return fmt.Sprintf("%d/%d", n.ID, n.Boot) }

// CompareNK orders by number, then by boot.
func CompareNK(a, b NK) int {
	return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Boot, b.Boot))
}

// ID names a ring: the coordinator Rep has formed it, with a sequence number
// that strictly increases at each of its members. As a ballot it names a ring
// that is being proposed. The zero ID is none.
type ID struct {
	Seq uint64
	Rep uint32
}

func (r ID) String() string { return fmt.Sprintf("%d.%d", r.Seq, r.Rep) }

// View is a ring and who is in it.
type View struct {
	Ring    ID
	Members []NK // the first is the coordinator and sequencer, the others follow by ID
}

// NodeState is what one member of a new ring stated of the application's
// tables, at the end of the ring from which it came.
type NodeState struct {
	Node NK
	From ID   // the ring that it came from
	Lead bool // it speaks also for what belongs to no single node
	Data []byte
}
