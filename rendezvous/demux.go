package rendezvous

import (
	"net/netip"
	"slices"
	"sync"
	"time"
)

// maxRemotes is how many remote addresses of one UDP service are known at a time, those that wait included.
const maxRemotes = 4 * MaxWaiting

// demux parts the datagrams of an announced UDP service by where they come from. Everything is in memory: there is no
// socket for a client. Who sends is never proved: a datagram carries no more than an address, and IP_PKTINFO (ip(7)) lets
// a socket that is bound to any of this host's addresses send from any other one, under the port number of somebody else.
type demux struct {
	queue   *queue
	sockets []*udpSocket

	mu      sync.Mutex
	remotes map[remote]*Datagrams // guarded by mu
	order   Datagrams             // guarded by mu; a ring: next is the one unused for longest, previous the one used last
	timer   *time.Timer           // guarded by mu; nil: none is known
	ended   bool                  // guarded by mu
}

// remote is a client's address, at one of the service's own.
type remote struct {
	from, at netip.AddrPort
}

func newDemux(a *Announcement) *demux {
	x := &demux{queue: &a.queue, remotes: map[remote]*Datagrams{}}
	x.order.next, x.order.previous = &x.order, &x.order
	return x
}

// arrive takes one datagram, which it copies.
func (x *demux) arrive(sock *udpSocket, from netip.AddrPort, p []byte) {
	key := remote{from, sock.addr}
	x.mu.Lock()
	d := x.remotes[key]
	if d == nil {
		x.mu.Unlock()
		x.first(sock, key, p)
		return
	}
	x.use(d)
	f := x.push(d, p)
	x.mu.Unlock()
	call(f)
}

// first makes a client of an address, or drops the datagram. Only the one goroutine that reads the socket calls it.
func (x *demux) first(sock *udpSocket, key remote, p []byte) {
	if !x.queue.hold() {
		return
	}
	d := &Datagrams{x: x, sock: sock, to: key.from}
	x.mu.Lock()
	if x.ended {
		x.mu.Unlock()
		x.queue.give()
		return
	}
	var oldest func()
	if len(x.remotes) >= maxRemotes {
		oldest = x.forget(x.order.next)
	}
	x.remotes[key] = d
	d.previous, d.next = d, d
	x.use(d)
	x.push(d, p)
	x.mu.Unlock()
	call(oldest)
	if !x.queue.put(&Client{Peer: unproved(peerHost(key.from)), Local: sock.addr, Remote: key.from, FD: -1, Datagrams: d}) {
		d.Close()
	}
}

// push adds a datagram, if there is room, and returns whom to tell. It is called with x.mu held.
func (x *demux) push(d *Datagrams, p []byte) func() {
	if len(p) == 0 || len(d.queue) >= maxQueueDatagrams || d.bytes+len(p) > maxQueueBytes ||
		!x.queue.host.unread.take(x.queue.uid, len(p)+datagramCost) {
		return nil
	}
	d.queue = append(d.queue, slices.Clone(p))
	d.bytes += len(p)
	return d.notify
}

// use makes d the one that was used last. It is called with x.mu held.
func (x *demux) use(d *Datagrams) {
	d.used = time.Now()
	d.previous.next, d.next.previous = d.next, d.previous
	last := x.order.previous
	d.previous, d.next = last, &x.order
	last.next, x.order.previous = d, d
	if x.timer == nil {
		x.timer = time.AfterFunc(idleTime, x.expire)
	}
}

// forget ends d, and returns whom to tell. It is called with x.mu held.
func (x *demux) forget(d *Datagrams) func() {
	if d.closed {
		return nil
	}
	d.closed = true
	delete(x.remotes, remote{d.to, d.sock.addr})
	d.previous.next, d.next.previous = d.next, d.previous
	d.previous, d.next = nil, nil
	return d.notify
}

// expire ends those that were not used for idleTime, and asks to be called when the next one's time has come.
func (x *demux) expire() {
	x.mu.Lock()
	var fs []func()
	now := time.Now()
	for d := x.order.next; d != &x.order; d = x.order.next {
		if left := idleTime - now.Sub(d.used); left > 0 {
			x.timer.Reset(left)
			x.mu.Unlock()
			call(fs...)
			return
		}
		fs = append(fs, x.forget(d))
	}
	x.timer = nil
	x.mu.Unlock()
	call(fs...)
}

// roomAgain tells those whose Write was EAGAIN.
func (x *demux) roomAgain(sock *udpSocket) {
	x.mu.Lock()
	var fs []func()
	for d := x.order.next; d != &x.order; d = d.next {
		if d.blocked && d.sock == sock {
			d.blocked = false
			fs = append(fs, d.notify)
		}
	}
	x.mu.Unlock()
	call(fs...)
}

func (x *demux) add(fd int, addr netip.AddrPort) error {
	s, err := newUDPSocket(x, fd, addr)
	if err == nil {
		x.sockets = append(x.sockets, s)
	}
	return err
}

func (x *demux) start() {
	for _, s := range x.sockets {
		go s.serve()
	}
}

// close frees the port and ends all clients.
func (x *demux) close() {
	for _, s := range x.sockets {
		s.close()
	}
	x.mu.Lock()
	x.ended = true
	if x.timer != nil {
		x.timer.Stop()
		x.timer = nil
	}
	var fs []func()
	for d := x.order.next; d != &x.order; d = x.order.next {
		fs = append(fs, x.forget(d))
	}
	x.mu.Unlock()
	call(fs...)
}
