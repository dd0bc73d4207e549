package ring

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrFrame is what every error of a Decoder wraps.
var ErrFrame = errors.New("ring: malformed frame")

func malformed(what string) error { return fmt.Errorf("%w: %s", ErrFrame, what) }

// Decoder decodes the frames of one peer, in order; chains are put together. The
// zero value is ready. It is not usable after an error.
type Decoder struct {
	chain []byte
	typ   Type // of the chain; 0: none is open
}

// Frame decodes a frame that has come from a node. It gives nil while the frame
// is a part of a chain that has not ended. members is the list of the ring that
// the receiver has installed once all earlier frames of the peer were stepped;
// an ORD is meant for it, or does not fit and is left without entries. The frame
// refers to body, which must not change any more. What follows behind the known
// parts of a body is ignored, for later versions.
func (d *Decoder) Frame(typ Type, flags uint8, body []byte, from NK, members []NK) (Frame, error) {
	if len(body) > MaxBody {
		return nil, malformed("too long")
	}
	more := flags&FlagMore != 0
	if d.typ != 0 || more {
		if d.typ == 0 {
			d.typ = typ
		}
		switch {
		case typ != d.typ:
			return nil, malformed("a chain is interrupted")
		case typ == TypeSubmit || typ == TypeOrd || typ == TypeAck:
			return nil, malformed("a chain of a type that has none")
		case len(d.chain)+len(body) > MaxChain:
			return nil, malformed("a chain is too long")
		}
		d.chain = append(d.chain, body...)
		if more {
			return nil, nil
		}
		body = d.chain
		d.chain, d.typ = nil, 0
	}
	r := reader{b: body}
	f := r.frame(typ, from, members)
	if r.err != nil {
		return nil, r.err
	}
	return f, nil
}

// reader takes little-endian values off the front of b. After an error all are
// zero.
type reader struct {
	b   []byte
	err error
}

func (r *reader) take(n int) []byte {
	if r.err != nil || len(r.b) < n {
		r.fail("it ends early")
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) fail(what string) {
	if r.err == nil {
		r.err = malformed(what)
	}
	r.b = nil
}

func (r *reader) u8() uint8 {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) u16() uint16 {
	if b := r.take(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if b := r.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if b := r.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (r *reader) id() ID { return ID{Seq: r.u64(), Rep: r.u32()} }
func (r *reader) nk() NK { return NK{ID: r.u32(), Boot: r.u64()} }

func (r *reader) flag() bool {
	switch r.u8() {
	case 0:
		return false
	case 1:
		return true
	}
	r.fail("a flag that is neither 0 nor 1")
	return false
}

// count reads how many things of at least size bytes follow. More than can be
// there is an error, so that nothing is allocated on the word of a peer.
func (r *reader) count(size int) int {
	n := r.u32()
	if uint64(n)*uint64(size) > uint64(len(r.b)) {
		r.fail("a count that is too high")
		return 0
	}
	return int(n)
}

func (r *reader) data() []byte { return r.take(int(r.count(1))) }

func (r *reader) nks() []NK {
	n := r.count(sizeNK)
	if n == 0 {
		return nil
	}
	out := make([]NK, n)
	for i := range out {
		out[i] = r.nk()
	}
	return out
}

func (r *reader) entries() []Entry {
	n := r.count(sizeEntry)
	if n == 0 {
		return nil
	}
	out := make([]Entry, n)
	for i := range out {
		e := &out[i]
		e.Origin = r.nk()
		e.OSeq = r.u64()
		e.Kind = Kind(r.u8())
		e.Flags = r.u8()
		r.u16()
		e.Data = r.data()
	}
	return out
}

func (r *reader) install() *InstallFrame {
	f := &InstallFrame{Ballot: r.id()}
	n := r.count(sizeNK + sizeID + 1 + 4)
	f.States = make([]NodeState, n)
	for i := range f.States {
		f.States[i] = NodeState{Node: r.nk(), From: r.id(), Lead: r.flag(), Data: r.data()}
	}
	return f
}

func (r *reader) frame(typ Type, from NK, members []NK) Frame {
	switch typ {
	case TypeOrd:
		return r.ord(members)
	case TypeSubmit:
		return r.submit(from)
	case TypeAck:
		return &Ack{Ring: r.id(), Pos: r.u64()}
	case TypeInfo:
		return &Info{Ring: r.id(), Size: r.u32(), Acting: r.u32(), MaxSeq: r.u64(), Reach: r.nks()}
	case TypePropose:
		return &Propose{Ballot: r.id(), Set: r.nks()}
	case TypeReport:
		return r.report()
	case TypeNack:
		return &Nack{Ballot: r.id(), Promised: r.u64(), Prefer: r.u32()}
	case TypePrepare:
		f := &Prepare{Ballot: r.id(), Members: r.nks()}
		f.Groups = make([]OldRing, r.count(sizeID+4+4+8+8+sizeNK+4+4))
		for i := range f.Groups {
			r.group(&f.Groups[i])
		}
		return f
	case TypeRecover:
		f := &Recover{Ballot: r.id(), Ring: r.id(), Target: r.nk(), First: r.u64(), Entries: r.entries()}
		if r.flag() {
			f.Late = r.install()
		}
		return f
	case TypeReady:
		return &Ready{Ballot: r.id(), Data: r.data()}
	case TypeInstall:
		return r.install()
	}
	r.fail(fmt.Sprintf("type %d", typ))
	return nil
}

func (r *reader) report() *Report {
	f := &Report{Ballot: r.id(), Ring: r.id(), Have: r.u64(), Base: r.u64(), Prepared: r.id()}
	if n := r.count(sizeNK + 8); n > 0 {
		f.Last = make([]Last, n)
		for i := range f.Last {
			f.Last[i] = Last{Origin: r.nk(), OSeq: r.u64()}
		}
	}
	f.Pend = r.entries()
	f.Reach = r.nks()
	return f
}

func (r *reader) group(g *OldRing) {
	g.Ring = r.id()
	g.Parts = r.nks()
	if n := r.count(8); n > 0 {
		g.Have = make([]uint64, n)
		for i := range g.Have {
			g.Have[i] = r.u64()
		}
	}
	g.Base = r.u64()
	g.End = r.u64()
	g.Holder = r.nk()
	g.Late = r.nks()
	g.Tail = r.entries()
}

// ord resolves the entries' origins in the member list. The frame may be of a
// ring with more members, which is ignored then.
func (r *reader) ord(members []NK) *Ord {
	f := &Ord{Ring: r.id(), First: r.u64(), Stable: r.u64(), Credit: r.u32(), Members: members}
	n := r.count(sizeOrdItem)
	if n == 0 {
		return f
	}
	entries := make([]Entry, n)
	strange := false
	for i := range entries {
		h := r.take(sizeOrdItem)
		if h == nil {
			return f
		}
		idx := int(binary.LittleEndian.Uint16(h))
		size := int(binary.LittleEndian.Uint32(h[4:]))
		e := &entries[i]
		if idx < len(members) {
			e.Origin = members[idx]
		} else {
			strange = true
		}
		e.Kind, e.Flags = Kind(h[2]), h[3]
		e.OSeq = binary.LittleEndian.Uint64(h[8:])
		e.Data = r.take(size)
	}
	if !strange {
		f.Entries = entries
	}
	return f
}

func (r *reader) submit(from NK) *SubmitFrame {
	f := &SubmitFrame{Ring: r.id(), Pos: r.u64()}
	first := r.u64()
	n := r.count(sizeSubItem)
	if n == 0 {
		return f
	}
	f.Entries = make([]Entry, n)
	for i := range f.Entries {
		h := r.take(sizeSubItem)
		if h == nil {
			return f
		}
		e := &f.Entries[i]
		e.Origin, e.OSeq = from, first+uint64(i)
		e.Kind, e.Flags = Kind(h[0]), h[1]
		e.Data = r.take(int(binary.LittleEndian.Uint32(h[4:])))
	}
	return f
}
