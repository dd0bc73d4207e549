package group

import (
	"encoding/binary"

	"github.com/convoke-fs/convoke/cluster/ring"
)

// Entries are little-endian. A message has its data first, so that the data
// needs no copy at either end:
//
//	multicast  data, inc u32
//	send       data, header, length of the header u16
//	           header: pid u32, cred, name
//	join       inc u32, flags u8 (1: create), pid u32, time i64, cred, name
//	leave      inc u32, reason u8
//	group      verb u8, number u32, time i64, cred, name, then by verb
//	           change: set u8, uid u32, gid u32, mode u32, file u8
//	           mode: 1 to open, 0 to close, u8
//	           evict: node u32, pid u32, N u32
//	           quorum: 1 to need one, 0 not to, u8
//	cred       uid u32, gid u32, number of groups u16, groups u32 each
//	name       length u8, bytes
//
// Later versions append; what follows the known fields is skipped. A send's
// header is extended before its length.

// Overhead is the most that this package adds to the data of a message: the
// ring's longest message is at least MaxMessage + Overhead.
const Overhead = 512

const (
	multicastTrailer = 4
	maxSendGroups    = 64   // supplementary groups that a message carries
	maxJoinGroups    = 1024 // that any other entry carries
)

// A verb is what a KindGroup entry does.
type verb uint8

const (
	verbMkdir verb = iota + 1
	verbRmdir
	verbChange
	verbMode
	verbEvict
	verbQuorum
)

// What a change sets.
const (
	setUID = 1 << iota
	setGID
	setMode
)

const flagCreate = 1 // of a join

// op is an entry other than a message, decoded. Its slices alias the entry.
type op struct {
	verb   verb   // of KindGroup
	id     uint32 // incarnation of the process, or number of the call at its node
	pid    uint32
	when   int64 // milliseconds since 1970 at the origin
	cred   cred
	name   []byte
	create bool
	reason Reason

	set            uint8
	uid, gid, mode uint32
	file           File
	on             bool    // to open; to need a quorum
	target         Process // N 0: all memberships of the process
}

var le = binary.LittleEndian

func (o *op) append(k ring.Kind, b []byte) []byte {
	switch k {
	case KindLeave:
		return append(le.AppendUint32(b, o.id), byte(o.reason))
	case KindJoin:
		var flags byte
		if o.create {
			flags = flagCreate
		}
		b = append(le.AppendUint32(b, o.id), flags)
		b = le.AppendUint32(b, o.pid)
	case KindGroup:
		b = le.AppendUint32(append(b, byte(o.verb)), o.id)
	}
	b = le.AppendUint64(b, uint64(o.when))
	b = appendName(appendCred(b, o.cred), o.name)
	if k != KindGroup {
		return b
	}
	switch o.verb {
	case verbChange:
		b = le.AppendUint32(append(b, o.set), o.uid)
		b = le.AppendUint32(le.AppendUint32(b, o.gid), o.mode)
		b = append(b, byte(o.file))
	case verbMode, verbQuorum:
		var on byte
		if o.on {
			on = 1
		}
		b = append(b, on)
	case verbEvict:
		b = le.AppendUint32(b, o.target.Node)
		b = le.AppendUint32(le.AppendUint32(b, o.target.PID), o.target.N)
	}
	return b
}

// decodeOp takes an entry of kind k apart; false if it is none.
func decodeOp(k ring.Kind, data []byte) (o op, ok bool) {
	d := decoder{b: data}
	switch k {
	case KindLeave:
		o.id = d.u32()
		if o.reason = Reason(d.u8()); o.reason != Leave {
			o.reason = ProcDown
		}
		return o, !d.bad
	case KindJoin:
		o.id = d.u32()
		o.create = d.u8()&flagCreate != 0
		o.pid = d.u32()
	case KindGroup:
		o.verb = verb(d.u8())
		o.id = d.u32()
	default:
		return o, false
	}
	o.when = int64(d.u64())
	o.cred = d.cred()
	o.name = d.name()
	if k != KindGroup {
		return o, !d.bad
	}
	switch o.verb {
	case verbMkdir, verbRmdir:
	case verbChange:
		o.set = d.u8()
		o.uid, o.gid, o.mode = d.u32(), d.u32(), d.u32()
		if o.file = File(d.u8()); o.file >= files {
			return o, false
		}
	case verbMode, verbQuorum:
		o.on = d.u8() != 0
	case verbEvict:
		o.target = Process{Node: d.u32(), PID: d.u32(), N: d.u32()}
	default:
		return o, false
	}
	return o, !d.bad
}

// sendHeader is what a message of somebody who is no member carries.
type sendHeader struct {
	pid  uint32
	cred cred
	name []byte
}

// appendSend appends the trailer of a send.
func appendSend(b []byte, h sendHeader) []byte {
	n := len(b)
	b = appendName(appendCred(le.AppendUint32(b, h.pid), h.cred), h.name)
	return le.AppendUint16(b, uint16(len(b)-n))
}

// decodeSend takes a send apart.
func decodeSend(payload []byte) (data []byte, h sendHeader, ok bool) {
	n := len(payload) - 2
	if n < 0 {
		return nil, h, false
	}
	start := n - int(le.Uint16(payload[n:]))
	if start < 0 {
		return nil, h, false
	}
	d := decoder{b: payload[start:n]}
	h.pid = d.u32()
	h.cred = d.cred()
	h.name = d.name()
	return payload[:start:start], h, !d.bad
}

// decodeMulticast takes a message of a member apart.
func decodeMulticast(payload []byte) (data []byte, inc uint32, ok bool) {
	n := len(payload) - multicastTrailer
	if n < 0 {
		return nil, 0, false
	}
	return payload[:n:n], le.Uint32(payload[n:]), true
}

func appendCred(b []byte, c cred) []byte {
	b = le.AppendUint32(le.AppendUint32(b, c.uid), c.gid)
	return append(le.AppendUint16(b, uint16(len(c.groups)/4)), c.groups...)
}

func appendName(b, name []byte) []byte {
	return append(append(b, byte(len(name))), name...)
}

// credOf takes over a caller's identity with at most max groups. Of more, the
// one that matters now is among those that are left.
func credOf(c Caller, max int, matters uint32) cred {
	out := cred{uid: c.UID, gid: c.GID}
	n := min(len(c.Groups), max)
	out.groups = make([]byte, 0, 4*n)
	for i, gid := range c.Groups {
		if i < n || gid == matters {
			if i >= n {
				out.groups = out.groups[:4*(n-1)]
			}
			out.groups = le.AppendUint32(out.groups, gid)
			if i >= n {
				break
			}
		}
	}
	return out
}
