package rendezvous

import (
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// idleTime is how long a remote address of a UDP service is known without a datagram to or from it.
	idleTime = 60 * time.Second

	maxQueueBytes     = 212992 // of one remote address; as net.core.rmem_default is
	maxQueueDatagrams = 1024   // likewise
	datagramCost      = 256    // what a datagram counts in the budget besides its bytes
)

// Datagrams are those to and from one remote address of an announced UDP service. The methods may be called from many
// goroutines; none waits. They end with Close, with the announcement, when no datagram has
// passed for 60 s, and when so many addresses are known that the one unused for longest must go.
//
// As a socket, they drop what comes when 212,992 bytes or 1,024 datagrams are unread.
type Datagrams struct {
	x    *demux
	sock *udpSocket
	to   netip.AddrPort

	// All guarded by x.mu.
	queue    [][]byte
	bytes    int
	used     time.Time
	closed   bool
	blocked  bool // a Write was EAGAIN
	notify   func()
	previous *Datagrams // in the order of use
	next     *Datagrams
}

// Read returns one datagram, or its rest, never two: EAGAIN: none is there; 0, nil: it has ended, and all is read. An
// empty datagram makes a client known, but is not read, for it would look like the end.
func (d *Datagrams) Read(p []byte) (int, error) {
	d.x.mu.Lock()
	defer d.x.mu.Unlock()
	switch {
	case len(d.queue) == 0 && d.closed:
		return 0, nil
	case len(d.queue) == 0:
		return 0, unix.EAGAIN
	case len(p) == 0:
		return 0, nil
	}
	n := copy(p, d.queue[0])
	if n < len(d.queue[0]) {
		d.queue[0] = d.queue[0][n:]
		d.read(n, 0)
		return n, nil
	}
	d.queue[0] = nil
	d.queue = d.queue[1:]
	d.read(n, 1)
	return n, nil
}

// read gives back what so many bytes and datagrams have cost. It is called with x.mu held.
func (d *Datagrams) read(bytes, datagrams int) {
	d.bytes -= bytes
	d.x.queue.host.unread.give(d.x.queue.uid, bytes+datagrams*datagramCost)
}

// Write sends one datagram, or nothing: EAGAIN; EPIPE when it has ended; EMSGSIZE and others as sendto(2) says.
func (d *Datagrams) Write(p []byte) (int, error) {
	d.x.mu.Lock()
	if d.closed {
		d.x.mu.Unlock()
		return 0, unix.EPIPE
	}
	d.x.use(d)
	d.x.mu.Unlock()
	err := d.sock.send(p, d.to)
	if err == unix.EAGAIN {
		d.x.mu.Lock()
		d.blocked = true
		d.x.mu.Unlock()
		d.sock.awaitRoom()
	}
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

// Readable tells whether Read would return something other than EAGAIN.
func (d *Datagrams) Readable() bool {
	d.x.mu.Lock()
	defer d.x.mu.Unlock()
	return len(d.queue) > 0 || d.closed
}

// Notify asks for f to be called when d becomes readable (or writable after EAGAIN); it replaces the one before. f may
// be called from several goroutines at once, and at once if d is readable already. It must not wait nor call methods of
// d.
func (d *Datagrams) Notify(f func()) {
	d.x.mu.Lock()
	d.notify = f
	now := len(d.queue) > 0 || d.closed
	d.x.mu.Unlock()
	if now && f != nil {
		f()
	}
}

// Close forgets the remote address and what of it is unread; its next datagram is a new client.
func (d *Datagrams) Close() {
	d.x.mu.Lock()
	f := d.x.forget(d)
	d.read(d.bytes, len(d.queue))
	d.queue = nil
	d.x.mu.Unlock()
	call(f)
}

// isClosed tells whether neither a datagram can come nor one is unread.
func (d *Datagrams) isClosed() bool {
	d.x.mu.Lock()
	defer d.x.mu.Unlock()
	return d.closed && len(d.queue) == 0
}

func call(fs ...func()) {
	for _, f := range fs {
		if f != nil {
			f()
		}
	}
}
