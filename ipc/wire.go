package ipc

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"
)

// The protocol of the daemon's socket
//
// # Socket
//
// The daemon listens on AF_UNIX sockets of the type SOCK_SEQPACKET: at MOUNT/dev/fdp/local/convoke, and at RUN/socket
// in its run folder. One message of the socket is one frame, of 12 to 4,096 bytes, in both directions. All numbers are
// little-endian and unsigned; the layout has no gaps and no alignment but what is written here.
//
// Who the client is the daemon asks the kernel, once, when the connection is made: SO_PEERCRED, SO_PEERGROUPS, and the
// namespaces and capabilities of that process. So the connection keeps that identity when the process changes its
// own, and whoever inherits the connection or is given it acts as the process that made it.
//
// Descriptors go from the daemon to the client only, by SCM_RIGHTS. The daemon gives the kernel no room for any, so
// those that a client sends are closed by the kernel and never reach the daemon.
//
// # Frame
//
//	offset size
//	     0    2  op     what the frame is; an answer has the op of its request with bit 15 set
//	     2    2  count  descriptors that come with this frame; 0 in requests
//	     4    4  tag    chosen by the client; an answer has the tag of its request
//	     8    4  errno  in an answer: 0, or an errno of Linux; 0 in requests
//	    12       body
//
// In bodies there are
//
//	string   2 bytes: length; then so many bytes, without a final NUL
//	address  24 bytes: 2 family (0: none, AF_INET, AF_INET6), 2 port, 16 address in network order (IPv4: the first 4
//	         bytes, then zeros), 4 number of the interface for link-local addresses, else 0
//
// A body may be longer than what is described here: a later version adds at the end, and what is not known is to be
// ignored. An answer with an errno has one string as its body, a sentence that says why (it may be empty, and is for
// people only), but for HELLO.
//
// Every request but CANCEL gets exactly one answer. Answers come in any order. A tag may be used again when the answer
// has come. Errno ENOSYS: the daemon does not know the request. EINVAL: the body is malformed. EAGAIN: too many
// requests are in progress. ECANCELED: cancelled. These, and all other errnos, leave the connection as it is.
//
// The daemon ends a connection, without a frame that says so, when the first frame is no HELLO or does not come within
// 3 s, when a frame is shorter or longer than allowed, when a tag is used whose request is in progress, and when the
// client leaves so many answers unread that the socket's buffer stays full for 5 s. A client that awaits at most 64
// answers at any time does not get there. Requests in progress are cancelled then and announcements end.
//
// # Requests
//
// HELLO (1) is the first frame and says which versions of this protocol the client speaks:
//
//	request  4 magic 0x6b766e63 ("cnvk")
//	         2 lowest version
//	         2 highest version
//	answer   4 magic
//	         2 the version that is spoken from now on: the highest that both know; with EPROTONOSUPPORT the daemon's highest
//	         2 the daemon's lowest version
//	         4 how many OPEN, ANNOUNCE, JOIN and SENDER may be in progress on this connection; further ones are EAGAIN
//	         4 how many ACCEPT may wait on one announcement; further ones are EAGAIN
//
// Errnos: EPROTONOSUPPORT: no version in common; EMFILE: the user has too many connections to the daemon (limit
// `sockets`). After an errno the daemon ends the connection. There is one version, 1.
//
// OPEN (2) makes a connection and hands it over:
//
//	request  string path: dev/tcp/HOST/SERVICE and so on, as convokefs(4) has it, in either form
//	answer   one descriptor: the connected socket, O_NONBLOCK (that flag belongs to the socket, not to the descriptor)
//	         address own, address of the other side (none for fdp)
//	         string the member that was dialled, empty if it is not known
//
// Errnos are those of open(2) of that path.
//
// ANNOUNCE (3) announces a service until WITHDRAW or the end of the connection:
//
//	request  string path: dev/tcp/local/SERVICE and so on; the option create may be left out
//	answer   4 number of the announcement on this connection
//	         2 number of addresses
//	         addresses at which it listens
//	         string the canonical path that is announced, its ids as numbers
//
// For udp the answer carries as many descriptors as there are addresses, in the same order: the bound sockets,
// O_NONBLOCK. The client reads and sends datagrams itself and there is no ACCEPT (EOPNOTSUPP). Errnos are those of
// open(2) of the path with create.
//
// ACCEPT (4) waits for the next client of an announcement. Several may wait; they are answered in their order:
//
//	request  4 number of the announcement
//	answer   one descriptor: the client's connection, O_NONBLOCK
//	         4 pid, 0 if it is not proved
//	         4 uid, 0xffffffff if it is not proved
//	         4 gid, 0xffffffff if it is not proved
//	         address own, address of the client (none for fdp)
//	         string host: the client's address, or "local"
//	         string node: the member it is on, empty if it is not known
//
// Errnos: EBADF: no such announcement here; ESHUTDOWN: it has ended, or was withdrawn meanwhile.
//
// WITHDRAW (5) ends an announcement: its name and port are free when the answer comes, clients that still wait are
// reset, and what was accepted stays.
//
//	request  4 number of the announcement
//	answer   nothing
//
// Errno: EBADF: no such announcement here.
//
// CANCEL (6) asks for the early end of a request. It has no answer itself, and its own tag means nothing. The request
// gets its answer as ever: mostly ECANCELED, or its result if that was quicker. For a tag that is not in use it does
// nothing.
//
//	request  4 tag of the request
//
// JOIN (7) makes the client's process a member of a process group and hands over the stream of the membership, which
// is described in feedwire.go:
//
//	request  string name of the group: 0 to 128 bytes, which may be any
//	         4 flags: 1: make the group if it is missing; others must not be set
//	answer   one descriptor: the stream, O_NONBLOCK
//	         4 node: the number of the daemon's node
//	         4 pid: the process, as all members see it
//	         4 which of the process's memberships in this group it is, from 1
//
// The answer comes when the join is ordered. The membership lasts as long as the stream, also when the connection on
// which it was asked for has ended. Errnos: ENOENT: there is no such group, and it was not to be made; EACCES: its
// owner or its mode does not let this user; EINVAL: a flag is not known; ENAMETOOLONG: the name has more than 128 bytes;
// ENOSPC: the user has too many memberships; ETIMEDOUT: the cluster has not agreed within 30 s; ENOSYS: the daemon has no groups.
//
// SENDER (8) hands over a stream by which the client sends to a group without being its member; nothing of what the
// members get comes back on it:
//
//	request  string name of the group
//	         4 flags: none is known
//	answer   one descriptor: the stream, O_NONBLOCK
//
// Errnos: those of JOIN.
const (
	opHello    = 1
	opOpen     = 2
	opAnnounce = 3
	opAccept   = 4
	opWithdraw = 5
	opCancel   = 6
	opJoin     = 7
	opSender   = 8
	opAnswer   = 1 << 15 // set in answers

	magic   = 0x6b766e63
	version = 1

	headerSize = 12
	addrSize   = 24
	maxFrame   = 4096

	maxRequests = 64  // OPEN, ANNOUNCE, JOIN and SENDER in progress on one connection
	maxAccepts  = 16  // ACCEPT that wait on one announcement
	maxText     = 512 // the sentence of an error
)

// header is how a frame begins.
type header struct {
	op, count  uint16
	tag, errno uint32
}

// appendHeader begins a frame.
func appendHeader(b []byte, h header) []byte {
	b = binary.LittleEndian.AppendUint16(b, h.op)
	b = binary.LittleEndian.AppendUint16(b, h.count)
	b = binary.LittleEndian.AppendUint32(b, h.tag)
	return binary.LittleEndian.AppendUint32(b, h.errno)
}

// appendString appends a string; of one that no length can stand for, the beginning.
func appendString(b []byte, s string) []byte {
	s = s[:min(len(s), maxFrame)]
	b = binary.LittleEndian.AppendUint16(b, uint16(len(s)))
	return append(b, s...)
}

// appendAddr appends an address. A zone must be a number, as rendezvous has it.
func appendAddr(b []byte, a netip.AddrPort) []byte {
	var family uint16
	var ip [16]byte
	var zone uint64
	switch addr := a.Addr().Unmap(); {
	case addr.Is4():
		family = unix.AF_INET
		four := addr.As4()
		copy(ip[:], four[:])
	case addr.Is6():
		family = unix.AF_INET6
		ip = addr.As16()
		zone, _ = strconv.ParseUint(addr.Zone(), 10, 32)
	}
	b = binary.LittleEndian.AppendUint16(b, family)
	b = binary.LittleEndian.AppendUint16(b, a.Port())
	b = append(b, ip[:]...)
	return binary.LittleEndian.AppendUint32(b, uint32(zone))
}

// errShort says that a frame ends too early.
var errShort = errors.New("the frame is too short")

// decoder takes a frame apart. After the first field that is not there, all are zero and err is set.
type decoder struct {
	b   []byte
	err error
}

// take returns the next n bytes.
func (d *decoder) take(n int) []byte {
	if d.err != nil || len(d.b) < n {
		d.err = errShort
		return nil
	}
	field := d.b[:n]
	d.b = d.b[n:]
	return field
}

func (d *decoder) uint16() uint16 {
	if f := d.take(2); f != nil {
		return binary.LittleEndian.Uint16(f)
	}
	return 0
}

func (d *decoder) uint32() uint32 {
	if f := d.take(4); f != nil {
		return binary.LittleEndian.Uint32(f)
	}
	return 0
}

func (d *decoder) string() string {
	return string(d.take(int(d.uint16())))
}

func (d *decoder) addr() netip.AddrPort {
	family, port := d.uint16(), d.uint16()
	ip, zone := d.take(16), d.uint32()
	switch {
	case d.err != nil:
	case family == unix.AF_INET:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(ip[:4])), port)
	case family == unix.AF_INET6:
		addr := netip.AddrFrom16([16]byte(ip)).Unmap()
		if zone != 0 && addr.Is6() {
			addr = addr.WithZone(strconv.FormatUint(uint64(zone), 10))
		}
		return netip.AddrPortFrom(addr, port)
	}
	return netip.AddrPort{}
}

func (d *decoder) header() header {
	return header{op: d.uint16(), count: d.uint16(), tag: d.uint32(), errno: d.uint32()}
}
