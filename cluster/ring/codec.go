package ring

import (
	"encoding/binary"
	"fmt"
)

// Sizes of encoded parts, in bytes.
const (
	sizeNK      = 12
	sizeID      = 12
	sizeOrd     = sizeID + 8 + 8 + 4 + 4 // before its entries
	sizeSubmit  = sizeID + 8 + 8 + 4
	sizeOrdItem = 16 // of an entry, before its data
	sizeSubItem = 8
	sizeEntry   = sizeNK + 16 // of an entry in the frames of a change
)

// EncodedSize is how many bytes AppendFrame appends for a frame of the data
// path, and a guess for the others.
func EncodedSize(f Frame) int {
	n := HeaderSize
	switch f := f.(type) {
	case *Ord:
		n += sizeOrd + len(f.Entries)*sizeOrdItem + dataSize(f.Entries)
	case *SubmitFrame:
		n += sizeSubmit + len(f.Entries)*sizeSubItem + dataSize(f.Entries)
	case *Ack:
		n += sizeID + 8
	case *Recover:
		n += 64 + len(f.Entries)*sizeEntry + dataSize(f.Entries)
	case *Report:
		n += 64 + len(f.Pend)*sizeEntry + dataSize(f.Pend)
	default:
		n += 256
	}
	return n
}

func dataSize(entries []Entry) int {
	n := 0
	for i := range entries {
		n += len(entries[i].Data)
	}
	return n
}

// AppendFrame appends a frame as it travels: with its header, and cut into
// several, of which all but the last have FlagMore, if its body is longer than
// MaxBody. The bytes belong together: nothing else may come between them.
func AppendFrame(dst []byte, f Frame) []byte {
	dst = grow(dst, EncodedSize(f))
	start := len(dst)
	dst = append(dst, make([]byte, HeaderSize)...)
	w := writer{dst}
	w.body(f)
	body := len(w.b) - start - HeaderSize
	if body <= MaxBody {
		putHeader(w.b[start:], f.frameType(), 0, body)
		return w.b
	}
	return chain(w.b, start, f.frameType())
}

func grow(b []byte, n int) []byte {
	if cap(b)-len(b) >= n {
		return b
	}
	out := make([]byte, len(b), len(b)+n)
	copy(out, b)
	return out
}

func putHeader(b []byte, t Type, flags uint8, body int) {
	binary.LittleEndian.PutUint32(b, uint32(body))
	b[4], b[5], b[6], b[7] = byte(t), flags, 0, 0
}

// chain cuts the body that begins a header's size behind start.
func chain(b []byte, start int, t Type) []byte {
	body := len(b) - start - HeaderSize
	n := (body + MaxBody - 1) / MaxBody
	b = append(b, make([]byte, (n-1)*HeaderSize)...)
	for i := n - 1; i >= 0; i-- {
		lo, hi := i*MaxBody, min((i+1)*MaxBody, body)
		at := start + i*(MaxBody+HeaderSize)
		copy(b[at+HeaderSize:], b[start+HeaderSize+lo:start+HeaderSize+hi])
		flags := uint8(FlagMore)
		if i == n-1 {
			flags = 0
		}
		// The parts are moved from the last on, so this covers nothing that is still
		// to be moved: the part before ends here at the latest.
		putHeader(b[at:], t, flags, hi-lo)
	}
	return b
}

// writer appends in little-endian order.
type writer struct{ b []byte }

func (w *writer) u8(v uint8)   { w.b = append(w.b, v) }
func (w *writer) u16(v uint16) { w.b = binary.LittleEndian.AppendUint16(w.b, v) }
func (w *writer) u32(v uint32) { w.b = binary.LittleEndian.AppendUint32(w.b, v) }
func (w *writer) u64(v uint64) { w.b = binary.LittleEndian.AppendUint64(w.b, v) }
func (w *writer) id(r ID)      { w.u64(r.Seq); w.u32(r.Rep) }
func (w *writer) nk(n NK)      { w.u32(n.ID); w.u64(n.Boot) }
func (w *writer) count(n int)  { w.u32(uint32(n)) }

func (w *writer) data(d []byte) {
	w.count(len(d))
	w.b = append(w.b, d...)
}

func (w *writer) nks(ns []NK) {
	w.count(len(ns))
	for _, n := range ns {
		w.nk(n)
	}
}

func (w *writer) entries(es []Entry) {
	w.count(len(es))
	for i := range es {
		e := &es[i]
		w.nk(e.Origin)
		w.u64(e.OSeq)
		w.u8(uint8(e.Kind))
		w.u8(e.Flags)
		w.u16(0)
		w.data(e.Data)
	}
}

func (w *writer) install(f *InstallFrame) {
	w.id(f.Ballot)
	w.count(len(f.States))
	for i := range f.States {
		s := &f.States[i]
		w.nk(s.Node)
		w.id(s.From)
		w.flag(s.Lead)
		w.data(s.Data)
	}
}

func (w *writer) flag(v bool) {
	if v {
		w.u8(1)
	} else {
		w.u8(0)
	}
}

func (w *writer) body(f Frame) {
	switch f := f.(type) {
	case *Ord:
		w.ord(f)
	case *SubmitFrame:
		w.submit(f)
	case *Ack:
		w.id(f.Ring)
		w.u64(f.Pos)
	case *Info:
		w.id(f.Ring)
		w.u32(f.Size)
		w.u32(f.Acting)
		w.u64(f.MaxSeq)
		w.nks(f.Reach)
	case *Propose:
		w.id(f.Ballot)
		w.nks(f.Set)
	case *Report:
		w.id(f.Ballot)
		w.id(f.Ring)
		w.u64(f.Have)
		w.u64(f.Base)
		w.id(f.Prepared)
		w.count(len(f.Last))
		for _, l := range f.Last {
			w.nk(l.Origin)
			w.u64(l.OSeq)
		}
		w.entries(f.Pend)
		w.nks(f.Reach)
	case *Nack:
		w.id(f.Ballot)
		w.u64(f.Promised)
		w.u32(f.Prefer)
	case *Prepare:
		w.id(f.Ballot)
		w.nks(f.Members)
		w.count(len(f.Groups))
		for i := range f.Groups {
			w.group(&f.Groups[i])
		}
	case *Recover:
		w.id(f.Ballot)
		w.id(f.Ring)
		w.nk(f.Target)
		w.u64(f.First)
		w.entries(f.Entries)
		w.flag(f.Late != nil)
		if f.Late != nil {
			w.install(f.Late)
		}
	case *Ready:
		w.id(f.Ballot)
		w.data(f.Data)
	case *InstallFrame:
		w.install(f)
	default:
		assert(false, fmt.Sprintf("no code for a %T", f))
	}
}

func (w *writer) group(g *OldRing) {
	w.id(g.Ring)
	w.nks(g.Parts)
	w.count(len(g.Have))
	for _, h := range g.Have {
		w.u64(h)
	}
	w.u64(g.Base)
	w.u64(g.End)
	w.nk(g.Holder)
	w.nks(g.Late)
	w.entries(g.Tail)
}

// ord writes each entry's origin as its index in the member list.
func (w *writer) ord(f *Ord) {
	w.id(f.Ring)
	w.u64(f.First)
	w.u64(f.Stable)
	w.u32(f.Credit)
	w.count(len(f.Entries))
	idx := 0
	for i := range f.Entries {
		e := &f.Entries[i]
		if idx >= len(f.Members) || f.Members[idx] != e.Origin {
			idx = memberIndex(f.Members, e.Origin)
			assert(idx >= 0, "an entry of a node that is no member is encoded")
		}
		w.u16(uint16(idx))
		w.u8(uint8(e.Kind))
		w.u8(e.Flags)
		w.u32(uint32(len(e.Data)))
		w.u64(e.OSeq)
		w.b = append(w.b, e.Data...)
	}
}

// submit writes one oseq only: the entries of one node follow each other.
func (w *writer) submit(f *SubmitFrame) {
	w.id(f.Ring)
	w.u64(f.Pos)
	first := uint64(0)
	if len(f.Entries) > 0 {
		first = f.Entries[0].OSeq
	}
	w.u64(first)
	w.count(len(f.Entries))
	for i := range f.Entries {
		e := &f.Entries[i]
		w.u8(uint8(e.Kind))
		w.u8(e.Flags)
		w.u16(0)
		w.u32(uint32(len(e.Data)))
		w.b = append(w.b, e.Data...)
	}
}
