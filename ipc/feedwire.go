package ipc

import (
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"
)

// The stream of a membership
//
// JOIN and SENDER hand over one end of a pair of connected sockets, AF_UNIX and SOCK_STREAM. Both directions carry
// records, one behind the other. All numbers are little-endian and unsigned. No descriptors go over it: those that a
// client sends are closed by the kernel.
//
// # Record
//
//	offset size
//	     0    4  size   bytes of the record, this header included, without what is behind it to fill up
//	     4    2  kind
//	     6    2  zero; to be ignored
//	     8       body
//
// Behind a record there are 0 to 7 zero bytes, so that the next one begins at a multiple of 8 bytes of the stream. A
// body may be longer than what is described here: a later version adds at the end, and what is not known is to be
// ignored; but not in MESSAGE and MSG, whose end is the payload's. A client ignores records whose kind it does not know.
//
// # From the client
//
// MESSAGE (1) is one message to the group, of 0 to 1,048,576 bytes:
//
//	payload
//
// LEAVE (2) ends the membership, with the reason LEAVE, behind all messages before it. It has no body. The daemon answers
// with END. Nothing may follow.
//
// Where the stream ends without LEAVE, since the client has closed its last descriptor of it or has ended, the
// membership ends with the reason PROCDOWN. In both cases all messages before the end are sent: a write(2) that has
// succeeded is a message to all members, unless this one is put out or the daemon ends.
//
// While the group takes no more messages the daemon does not read, so that the client's writes wait, or are EAGAIN. A
// SENDER's stream takes the same records; its LEAVE tells by the END that all messages were taken.
//
// # From the daemon
//
// A member gets CONF, MSG and RING, in the one order of the group, and END as the last record. A sender gets END only.
// The first three begin alike:
//
//	offset size
//	     8    8  position in the ring's log; 0 where the ring itself is the cause
//	    16    8  seq, and
//	    24    4  rep of the ring in which it happened
//
// CONF (1): members have joined or left. The first record of a membership is the one of its own join.
//
//	28    4  number of members, from now on
//	32    4  number of those who have joined
//	36    4  number of those who have left
//	40      members, 12 bytes each: 4 node, 4 pid, 4 which of the process's memberships; sorted by these
//	        who has joined, 16 bytes each: the same, and 4 reason: 1 JOIN, 2 LEAVE, 3 NODEDOWN, 4 NODEUP, 5 PROCDOWN
//	        who has left, 16 bytes each
//
// MSG (2): a message.
//
//	28    4  node of the sender
//	32    4  its pid; 0 for a node's own daemon
//	36    4  which of its memberships; 0 for a sender that is no member
//	40      payload
//
// RING (3): the ring has changed; what changed in the group for that reason, if anything, is told by a CONF before it.
//
//	28    4  number of nodes
//	32      nodes, 4 bytes each, sorted
//
// END (4): the membership has ended, and so does the stream.
//
//	8    4  errno: 0: the client has left; EPIPE: the member was put out, since it did not read for too long or since
//	        root did so; ESHUTDOWN: the daemon ends; EMSGSIZE: a MESSAGE was too large, which was not sent;
//	        EPROTO: what the client sent was no record; others: as the group gave it
//
// A stream that ends without END is that of a daemon that has died, or that did not wait any longer for a client which
// does not read. A client that is put out since it does not read finds what the daemon could write, and then the end.
const (
	feedMessage = 1
	feedLeave   = 2

	feedConf = 1
	feedMsg  = 2
	feedRing = 3
	feedEnd  = 4

	feedHeader  = 8
	feedMsgHead = 40 // of CONF and MSG before what differs in length
	feedAlign   = 8

	// MaxMessage is the size of the largest message to a group.
	MaxMessage = 1 << 20
	// maxFeedRecord bounds what a client believes of the size of a record: all members of 64 nodes fit in by far.
	maxFeedRecord = 64 << 20

	processSize = 12
	changeSize  = 16
)

// padded returns the size of a record of n bytes with what is behind it.
func padded(n int) int { return (n + feedAlign - 1) &^ (feedAlign - 1) }

var feedPadding [feedAlign]byte

// appendFeedHeader begins a record of size bytes.
func appendFeedHeader(b []byte, size int, kind uint16) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(size))
	return binary.LittleEndian.AppendUint32(b, uint32(kind))
}

// pad fills a record up whose size is n.
func pad(b []byte, n int) []byte { return append(b, feedPadding[:padded(n)-n]...) }

// appendMessage appends a MESSAGE.
func appendMessage(b, data []byte) []byte {
	n := feedHeader + len(data)
	return pad(append(appendFeedHeader(b, n, feedMessage), data...), n)
}

// feedFrame looks at the record at the beginning of b: its size, with which it is padded, and kind. It is not ok when
// not even the header is there.
func feedFrame(b []byte) (size int, kind uint16, ok bool) {
	if len(b) < feedHeader {
		return 0, 0, false
	}
	return int(binary.LittleEndian.Uint32(b)), binary.LittleEndian.Uint16(b[4:]), true
}

// checkFromClient says what is wrong with the header of a record of a client: an errno for END, or 0.
func checkFromClient(size int, kind uint16) unix.Errno {
	switch {
	case size < feedHeader || kind != feedMessage && kind != feedLeave:
		return unix.EPROTO
	case kind == feedMessage && size > feedHeader+MaxMessage:
		return unix.EMSGSIZE
	case kind == feedLeave && size > maxFrame:
		return unix.EPROTO
	}
	return 0
}

// msgSize returns the size of the MSG of r.
func msgSize(r *Record) int { return feedMsgHead + len(r.Data) }

// appendMsgHead appends the MSG of r up to its payload.
func appendMsgHead(b []byte, r *Record) []byte {
	b = appendRecordHead(b, msgSize(r), feedMsg, r)
	return appendProcess(b, r.From)
}

func appendRecordHead(b []byte, size int, kind uint16, r *Record) []byte {
	b = appendFeedHeader(b, size, kind)
	b = binary.LittleEndian.AppendUint64(b, r.Pos)
	b = binary.LittleEndian.AppendUint64(b, r.Ring.Seq)
	return binary.LittleEndian.AppendUint32(b, r.Ring.Rep)
}

func appendProcess(b []byte, p Process) []byte {
	b = binary.LittleEndian.AppendUint32(b, p.Node)
	b = binary.LittleEndian.AppendUint32(b, p.PID)
	return binary.LittleEndian.AppendUint32(b, p.N)
}

// appendRecord appends a CONF, MSG or RING, padded.
func appendRecord(b []byte, r *Record) []byte {
	var size int
	switch r.Kind {
	case MessageRecord:
		size = msgSize(r)
		b = append(appendMsgHead(b, r), r.Data...)
	case ConfRecord:
		size = feedMsgHead + len(r.Members)*processSize + (len(r.Joined)+len(r.Left))*changeSize
		b = appendRecordHead(b, size, feedConf, r)
		for _, n := range [...]int{len(r.Members), len(r.Joined), len(r.Left)} {
			b = binary.LittleEndian.AppendUint32(b, uint32(n))
		}
		for _, p := range r.Members {
			b = appendProcess(b, p)
		}
		for _, list := range [...][]Change{r.Joined, r.Left} {
			for _, c := range list {
				b = appendProcess(b, c.Process)
				b = binary.LittleEndian.AppendUint32(b, uint32(c.Reason))
			}
		}
	default:
		size = 32 + 4*len(r.Nodes)
		b = appendRecordHead(b, size, feedRing, r)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(r.Nodes)))
		for _, n := range r.Nodes {
			b = binary.LittleEndian.AppendUint32(b, n)
		}
	}
	return pad(b, size)
}

// appendEnd appends an END.
func appendEnd(b []byte, errno unix.Errno) []byte {
	const size = feedHeader + 4
	b = appendFeedHeader(b, size, feedEnd)
	return pad(binary.LittleEndian.AppendUint32(b, uint32(errno)), size)
}

var errFeedRecord = errors.New("malformed record of a group")

// decode makes r the record in b, which is one record without its padding. r.Data is then a part of b; the other slices
// are r's own, and used again. ended tells that it was an END, of which errno is. An unknown kind leaves r without one.
func (r *Record) decode(kind uint16, b []byte) (ended bool, errno unix.Errno, err error) {
	d := decoder{b: b[feedHeader:]}
	if kind == feedEnd {
		errno = unix.Errno(d.uint32())
		return true, errno, d.err
	}
	r.Pos = d.uint64()
	r.Ring = RingID{d.uint64(), d.uint32()}
	r.Members, r.Joined, r.Left, r.Nodes = r.Members[:0], r.Joined[:0], r.Left[:0], r.Nodes[:0]
	r.From, r.Data, r.Kind = Process{}, nil, 0
	switch kind {
	case feedMsg:
		r.Kind = MessageRecord
		r.From = d.process()
		r.Data = d.b
	case feedConf:
		r.Kind = ConfRecord
		members, joined, left := d.uint32(), d.uint32(), d.uint32()
		if (uint64(members)*processSize + (uint64(joined)+uint64(left))*changeSize) > uint64(len(d.b)) {
			return false, 0, errFeedRecord
		}
		for range members {
			r.Members = append(r.Members, d.process())
		}
		for range joined {
			r.Joined = append(r.Joined, d.change())
		}
		for range left {
			r.Left = append(r.Left, d.change())
		}
	case feedRing:
		r.Kind = RingRecord
		nodes := d.uint32()
		if uint64(nodes)*4 > uint64(len(d.b)) {
			return false, 0, errFeedRecord
		}
		for range nodes {
			r.Nodes = append(r.Nodes, d.uint32())
		}
	}
	if d.err != nil {
		return false, 0, errFeedRecord
	}
	return false, 0, nil
}

func (d *decoder) uint64() uint64 {
	if f := d.take(8); f != nil {
		return binary.LittleEndian.Uint64(f)
	}
	return 0
}

func (d *decoder) process() Process { return Process{d.uint32(), d.uint32(), d.uint32()} }

func (d *decoder) change() Change {
	p := d.process()
	reason := d.uint32()
	if reason > 255 {
		reason = 0
	}
	return Change{p, Reason(reason)}
}
