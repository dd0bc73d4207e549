package sim

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/convoke-fs/convoke/cluster/ring"
)

// decode takes the frames of one packet, which make one frame of the protocol.
func (e *end) decode(wire []byte, from ring.NK) (ring.Frame, error) {
	v := e.life.core.View()
	for rest := wire; ; {
		if len(rest) < ring.HeaderSize {
			return nil, errors.New("shorter than a header")
		}
		n := int(binary.LittleEndian.Uint32(rest))
		typ, flags := ring.Type(rest[4]), rest[5]
		if rest = rest[ring.HeaderSize:]; n > len(rest) {
			return nil, errors.New("shorter than it says")
		}
		f, err := e.in.Frame(typ, flags, rest[:n:n], from, v.Members)
		if err != nil {
			return nil, err
		}
		if rest = rest[n:]; f == nil {
			continue
		}
		if len(rest) > 0 {
			return nil, errors.New("longer than it says")
		}
		// Now and then, since it costs: what was understood is what was said.
		if e.recoded++; e.recoded&31 == 1 {
			if o, ok := f.(*ring.Ord); (!ok || o.Ring == v.Ring) && !bytes.Equal(ring.AppendFrame(nil, f), wire) {
				return nil, errors.New("another one when it is encoded again")
			}
		}
		return f, nil
	}
}

// typeOf gives a frame's type.
func typeOf(f ring.Frame) ring.Type {
	switch f.(type) {
	case *ring.Info:
		return ring.TypeInfo
	case *ring.SubmitFrame:
		return ring.TypeSubmit
	case *ring.Ord:
		return ring.TypeOrd
	case *ring.Ack:
		return ring.TypeAck
	case *ring.Propose:
		return ring.TypePropose
	case *ring.Report:
		return ring.TypeReport
	case *ring.Nack:
		return ring.TypeNack
	case *ring.Prepare:
		return ring.TypePrepare
	case *ring.Recover:
		return ring.TypeRecover
	case *ring.Ready:
		return ring.TypeReady
	case *ring.InstallFrame:
		return ring.TypeInstall
	}
	return 0
}

// describe tells people what a frame says.
func describe(f ring.Frame) string {
	switch f := f.(type) {
	case *ring.Info:
		return fmt.Sprintf("INFO ring %v acting %d max %d reach %v", f.Ring, f.Acting, f.MaxSeq, f.Reach)
	case *ring.SubmitFrame:
		return fmt.Sprintf("SUBMIT ring %v pos %d%s", f.Ring, f.Pos, entries(f.Entries))
	case *ring.Ord:
		return fmt.Sprintf("ORD ring %v first %d stable %d credit %d%s", f.Ring, f.First, f.Stable, f.Credit, entries(f.Entries))
	case *ring.Ack:
		return fmt.Sprintf("ACK ring %v pos %d", f.Ring, f.Pos)
	case *ring.Propose:
		return fmt.Sprintf("PROPOSE %v set %v", f.Ballot, f.Set)
	case *ring.Report:
		return fmt.Sprintf("REPORT %v ring %v have %d base %d prepared %v last %v pend%s reach %v", f.Ballot, f.Ring, f.Have, f.Base, f.Prepared, f.Last, entries(f.Pend), f.Reach)
	case *ring.Nack:
		return fmt.Sprintf("NACK %v promised %d prefer %d", f.Ballot, f.Promised, f.Prefer)
	case *ring.Prepare:
		s := fmt.Sprintf("PREPARE %v members %v", f.Ballot, f.Members)
		for _, g := range f.Groups {
			s += fmt.Sprintf("; from %v parts %v have %v base %d end %d holder %v late %v tail%s", g.Ring, g.Parts, g.Have, g.Base, g.End, g.Holder, g.Late, entries(g.Tail))
		}
		return s
	case *ring.Recover:
		return fmt.Sprintf("RECOVER %v ring %v target %v first %d late %v%s", f.Ballot, f.Ring, f.Target, f.First, f.Late != nil, entries(f.Entries))
	case *ring.Ready:
		return fmt.Sprintf("READY %v %d bytes", f.Ballot, len(f.Data))
	case *ring.InstallFrame:
		return fmt.Sprintf("INSTALL %v %d states", f.Ballot, len(f.States))
	}
	return fmt.Sprintf("%T", f)
}

func entries(es []ring.Entry) string {
	s := ""
	for _, e := range es {
		s += fmt.Sprintf(" %d:%d(%d", e.Origin.ID, e.OSeq, len(e.Data))
		if e.Flags != 0 {
			s += fmt.Sprintf(",%d", e.Flags)
		}
		s += ")"
	}
	return s
}
