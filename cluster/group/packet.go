package group

import (
	"errors"
)

// A packet is one record, little-endian:
//
//	 0  length of the packet u32, these 4 bytes included
//	 4  kind u8: 1 conf, 2 msg, 3 ring
//	 5  0, three bytes
//	 8  ring: seq u64
//	16  position u64
//	24  ring: rep u32
//	28  conf: number of members u32; ring: number of nodes u32; msg: 0
//	32  conf: number of joined u32, number of left u32,
//	          the members, joined and left: node u32, pid u32, N u32, reason u32 each
//	    msg:  node u32, pid u32, N u32, 0 u32, data up to the end
//	    ring: the nodes, u32 each
//
// The reason of a member is 0. Later versions append to conf and ring.
const packetHeader = 32

// maxPacket is the longest packet that ParsePacket takes.
const maxPacket = 64 << 20

// ErrPacket says that bytes are no packet.
var ErrPacket = errors.New("no packet")

// AppendPacket appends the record as packets has it; see packet.go.
func (r *Record) AppendPacket(b []byte) []byte {
	n := len(b)
	b = append(b, 0, 0, 0, 0, byte(r.Kind), 0, 0, 0)
	b = le.AppendUint64(b, r.Ring.Seq)
	b = le.AppendUint64(b, r.Pos)
	b = le.AppendUint32(b, r.Ring.Rep)
	switch r.Kind {
	case Conf:
		b = le.AppendUint32(b, uint32(len(r.Members)))
		b = le.AppendUint32(b, uint32(len(r.Joined)))
		b = le.AppendUint32(b, uint32(len(r.Left)))
		for _, p := range r.Members {
			b = appendPeer(b, p, 0)
		}
		for _, c := range r.Joined {
			b = appendPeer(b, c.Process, c.Reason)
		}
		for _, c := range r.Left {
			b = appendPeer(b, c.Process, c.Reason)
		}
	case Msg:
		b = appendPeer(le.AppendUint32(b, 0), r.From, 0)
		b = append(b, r.Data...)
	case Ring:
		b = le.AppendUint32(b, uint32(len(r.Nodes)))
		for _, id := range r.Nodes {
			b = le.AppendUint32(b, id)
		}
	}
	le.PutUint32(b[n:], uint32(len(b)-n))
	return b
}

func appendPeer(b []byte, p Process, why Reason) []byte {
	b = le.AppendUint32(le.AppendUint32(b, p.Node), p.PID)
	return le.AppendUint32(le.AppendUint32(b, p.N), uint32(why))
}

// ParsePacket takes the first packet of b and gives what follows it. The
// record's data aliases b. ErrPacket: b does not begin with a whole packet.
func ParsePacket(b []byte) (r *Record, rest []byte, err error) {
	if len(b) < packetHeader {
		return nil, b, ErrPacket
	}
	n := le.Uint32(b)
	if n < packetHeader || n > maxPacket || uint64(n) > uint64(len(b)) {
		return nil, b, ErrPacket
	}
	d := decoder{b: b[4:n]}
	r = &Record{Kind: RecordKind(d.u32() & 0xff)}
	r.Ring.Seq, r.Pos, r.Ring.Rep = d.u64(), d.u64(), d.u32()
	count := d.u32()
	switch r.Kind {
	case Conf:
		joined, left := d.u32(), d.u32()
		if uint64(len(d.b)) < 16*(uint64(count)+uint64(joined)+uint64(left)) {
			return nil, b, ErrPacket
		}
		for _, c := range d.peers(count) {
			r.Members = append(r.Members, c.Process)
		}
		r.Joined, r.Left = d.peers(joined), d.peers(left)
	case Msg:
		r.From = d.peer().Process
		r.Data = d.b[:len(d.b):len(d.b)]
	case Ring:
		if uint64(len(d.b)) < 4*uint64(count) {
			return nil, b, ErrPacket
		}
		for range count {
			r.Nodes = append(r.Nodes, d.u32())
		}
	default:
		return nil, b, ErrPacket
	}
	if d.bad {
		return nil, b, ErrPacket
	}
	return r, b[n:], nil
}

func (d *decoder) peer() Changed {
	c := Changed{Process: Process{Node: d.u32(), PID: d.u32(), N: d.u32()}}
	c.Reason = Reason(d.u32())
	return c
}

func (d *decoder) peers(n uint32) []Changed {
	var out []Changed
	for range n {
		out = append(out, d.peer())
	}
	return out
}
