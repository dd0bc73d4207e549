package ipc

import (
	"encoding/binary"
	"net/netip"

	"github.com/convoke-fs/convoke/rendezvous"
)

// What the bodies of frames hold, beyond those of a single field. The layouts are in wire.go.

// helloRequest is the body of a HELLO.
type helloRequest struct{ lowest, highest uint16 }

func (m helloRequest) append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, magic)
	b = binary.LittleEndian.AppendUint16(b, m.lowest)
	return binary.LittleEndian.AppendUint16(b, m.highest)
}

// decodeHelloRequest reports false for what is no HELLO of this protocol.
func decodeHelloRequest(body []byte) (helloRequest, bool) {
	d := decoder{b: body}
	known := d.uint32() == magic
	m := helloRequest{d.uint16(), d.uint16()}
	return m, known && d.err == nil && m.lowest <= m.highest
}

// helloAnswer is the body of the answer to HELLO.
type helloAnswer struct {
	version, lowest   uint16
	requests, accepts uint32
}

func (m helloAnswer) append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, magic)
	b = binary.LittleEndian.AppendUint16(b, m.version)
	b = binary.LittleEndian.AppendUint16(b, m.lowest)
	b = binary.LittleEndian.AppendUint32(b, m.requests)
	return binary.LittleEndian.AppendUint32(b, m.accepts)
}

func decodeHelloAnswer(body []byte) (helloAnswer, bool) {
	d := decoder{b: body}
	known := d.uint32() == magic
	m := helloAnswer{d.uint16(), d.uint16(), d.uint32(), d.uint32()}
	return m, known && d.err == nil
}

// opened is the body of the answer to OPEN.
type opened struct {
	local, remote netip.AddrPort
	node          string
}

func (m opened) append(b []byte) []byte {
	return appendString(appendAddr(appendAddr(b, m.local), m.remote), m.node)
}

func decodeOpened(body []byte) (opened, error) {
	d := decoder{b: body}
	m := opened{d.addr(), d.addr(), d.string()}
	return m, d.err
}

// announced is the body of the answer to ANNOUNCE.
type announced struct {
	number uint32
	addrs  []netip.AddrPort
	path   string
}

func (m announced) append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, m.number)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(m.addrs)))
	for _, a := range m.addrs {
		b = appendAddr(b, a)
	}
	return appendString(b, m.path)
}

func decodeAnnounced(body []byte) (announced, error) {
	d := decoder{b: body}
	m := announced{number: d.uint32()}
	for range d.uint16() {
		a := d.addr()
		if d.err != nil {
			break // what the number promises is bounded by what is there
		}
		m.addrs = append(m.addrs, a)
	}
	m.path = d.string()
	return m, d.err
}

// accepted is the body of the answer to ACCEPT.
type accepted struct {
	peer          rendezvous.Peer
	local, remote netip.AddrPort
}

func (m accepted) append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(m.peer.PID))
	b = binary.LittleEndian.AppendUint32(b, m.peer.UID)
	b = binary.LittleEndian.AppendUint32(b, m.peer.GID)
	b = appendAddr(appendAddr(b, m.local), m.remote)
	return appendString(appendString(b, m.peer.Host), m.peer.Node)
}

func decodeAccepted(body []byte) (accepted, error) {
	d := decoder{b: body}
	m := accepted{peer: rendezvous.Peer{PID: int(d.uint32()), UID: d.uint32(), GID: d.uint32()}}
	m.local, m.remote = d.addr(), d.addr()
	m.peer.Host, m.peer.Node = d.string(), d.string()
	return m, d.err
}

// joinRequest is the body of a JOIN or SENDER.
type joinRequest struct {
	name  string
	flags uint32
}

// joinCreate is the flag of a JOIN that makes what is missing.
const joinCreate = 1

func (m joinRequest) append(b []byte) []byte {
	return binary.LittleEndian.AppendUint32(appendString(b, m.name), m.flags)
}

func decodeJoinRequest(body []byte) (joinRequest, error) {
	d := decoder{b: body}
	m := joinRequest{d.string(), d.uint32()}
	return m, d.err
}

// joined is the body of the answer to JOIN.
type joined Process

func (m joined) append(b []byte) []byte { return appendProcess(b, Process(m)) }

func decodeJoined(body []byte) (joined, error) {
	d := decoder{b: body}
	m := joined(d.process())
	return m, d.err
}
