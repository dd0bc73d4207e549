package session

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/convoke-fs/convoke/cluster/ring"
)

// The versions of the protocol that this daemon speaks.
const (
	protoMin = 1
	protoMax = 1
)

// maxAhead is how far the boot counter of a peer may be above ours. It grows by
// single steps; a wild one would use up what is left of it.
const maxAhead = 1 << 32

const maxName = 127

var magic = [4]byte{'O', 'S', 'P', '1'}

var (
	errHello  = errors.New("malformed greeting")
	errNumber = errors.New("number far above ours")
)

// hello is the body of HELLO and HELLO_ACK.
type hello struct {
	protoMin, protoMax uint16
	cluster            [16]byte // hash of the name
	nk                 ring.NK
	instance           [16]byte
	name               string
	maxSeq             uint64
	ring               ring.ID
	features           uint64
}

// clusterHash stands for a cluster's name, so that a stranger is not told it.
func clusterHash(name string) (h [16]byte) {
	sum := sha256.Sum256([]byte("convoke cluster " + name))
	copy(h[:], sum[:])
	return h
}

func (h *hello) append(b []byte) []byte {
	le := binary.LittleEndian
	b = append(b, magic[:]...)
	b = le.AppendUint16(b, h.protoMin)
	b = le.AppendUint16(b, h.protoMax)
	b = append(b, h.cluster[:]...)
	b = appendNK(b, h.nk)
	b = append(b, h.instance[:]...)
	b = append(b, byte(len(h.name)))
	b = append(b, h.name...)
	b = le.AppendUint64(b, h.maxSeq)
	b = le.AppendUint64(b, h.ring.Seq)
	b = le.AppendUint32(b, h.ring.Rep)
	return le.AppendUint64(b, h.features)
}

// parseHello reads a greeting. Of one in a version that this daemon does not
// speak the versions are read only; what follows the known fields is left to
// later versions.
func parseHello(b []byte) (h hello, err error) {
	p := parser{b: b}
	if [4]byte(p.take(4)) != magic {
		return h, errHello
	}
	h.protoMin, h.protoMax = p.u16(), p.u16()
	if p.short || h.protoMin > h.protoMax {
		return h, errHello
	}
	if !h.understood() {
		return h, nil
	}
	h.cluster = [16]byte(p.take(16))
	h.nk = p.nk()
	h.instance = [16]byte(p.take(16))
	h.name = string(p.take(int(p.take(1)[0])))
	h.maxSeq = p.u64()
	h.ring = ring.ID{Seq: p.u64(), Rep: p.u32()}
	h.features = p.u64()
	if p.short || h.nk.ID == 0 || h.nk.Boot == 0 || !validName(h.name) {
		return h, errHello
	}
	return h, nil
}

// understood tells whether a version is common to both.
func (h *hello) understood() bool { return h.protoMin <= protoMax && h.protoMax >= protoMin }

// bounded tells whether the boot counter of h may be true at a node whose own is
// that of ours. Ring numbers are the handler's to judge: it moves up by the bound
// when it refuses one, so that a node which is far behind is let in at last.
func (h *hello) bounded(ours *hello) error {
	if h.nk.Boot > ours.nk.Boot && h.nk.Boot-ours.nk.Boot > maxAhead {
		return fmt.Errorf("%w: boot counter %d", errNumber, h.nk.Boot)
	}
	return nil
}

// validName tells whether s has the form of a node's name, which is safe as a
// file name and as a field of a line.
func validName(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		alnum := '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z'
		if !alnum && (i == 0 || c != '.' && c != '_' && c != '-') {
			return false
		}
	}
	return s != "" && len(s) <= maxName
}

// reason says why a daemon is refused.
type reason uint8

const (
	reasonConflict reason = iota + 1 // another daemon has its number
	reasonBoot                       // a later start of it is known
	reasonVersion
	reasonCluster
	reasonKey     // its certificate is not that of its name
	reasonBusy    // another session with it is up or on its way
	reasonInvalid // its greeting can not be true
)

// refusal is the body of REFUSE, and the error that it means to who gets it.
type refusal struct {
	reason reason
	boot   uint64 // reasonBoot: the highest that is known
	detail string // for our own log
}

func (r *refusal) append(b []byte) []byte {
	return binary.LittleEndian.AppendUint64(append(b, byte(r.reason)), r.boot)
}

func parseRefusal(b []byte) (*refusal, error) {
	p := parser{b: b}
	r := &refusal{reason: reason(p.take(1)[0]), boot: p.u64()}
	if p.short || r.reason == 0 {
		return nil, errFrame
	}
	return r, nil
}

func (r *refusal) Error() string {
	text := ""
	switch r.reason {
	case reasonConflict:
		text = "two daemons have one number"
	case reasonBoot:
		text = fmt.Sprintf("start %d of the number is known", r.boot)
	case reasonVersion:
		text = "no common version of the protocol"
	case reasonCluster:
		text = "another cluster"
	case reasonKey:
		text = "the certificate is not that of the node's name"
	case reasonBusy:
		text = "another session is there"
	case reasonInvalid:
		text = "the greeting can not be true"
	default:
		text = fmt.Sprintf("reason %d", r.reason)
	}
	if r.detail != "" {
		text += ": " + r.detail
	}
	return text
}

func appendNK(b []byte, nk ring.NK) []byte {
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint32(b, nk.ID), nk.Boot)
}

// parser takes fields from the front of b. What is not there reads as 0, and
// short is set.
type parser struct {
	b     []byte
	short bool
}

func (p *parser) take(n int) []byte {
	if len(p.b) < n {
		p.b, p.short = nil, true
		return make([]byte, n)
	}
	b := p.b[:n]
	p.b = p.b[n:]
	return b
}

func (p *parser) u16() uint16 { return binary.LittleEndian.Uint16(p.take(2)) }
func (p *parser) u32() uint32 { return binary.LittleEndian.Uint32(p.take(4)) }
func (p *parser) u64() uint64 { return binary.LittleEndian.Uint64(p.take(8)) }
func (p *parser) nk() ring.NK { return ring.NK{ID: p.u32(), Boot: p.u64()} }
