package kernel

import (
	"sync"
	"syscall"

	"github.com/convoke-fs/convoke/fs/quota"
)

// A parked request waits in a queue of its endpoint until its stream is ready.
type parked struct {
	unique uint64
	uid    uint32
	e      *Endpoint
	write  bool
	queued bool // guarded by the queue's lock (Endpoint.rmu or wmu)

	size int // READ: how much was asked for

	data []byte  // WRITE: what is still to be written
	buf  *[]byte // WRITE: the input buffer in which data lies, if it was kept
	done int     // WRITE: what has been written of it
	held int     // WRITE: what was counted against the user's parked bytes

	prev, next *parked
}

// queue is a list of parked requests, oldest first. It is guarded by the lock of its direction.
type queue struct {
	head, tail *parked
}

func (q *queue) push(p *parked) {
	p.queued = true
	p.prev = q.tail
	if q.tail != nil {
		q.tail.next = p
	} else {
		q.head = p
	}
	q.tail = p
}

func (q *queue) remove(p *parked) {
	if p.prev != nil {
		p.prev.next = p.next
	} else {
		q.head = p.next
	}
	if p.next != nil {
		p.next.prev = p.prev
	} else {
		q.tail = p.prev
	}
	p.prev, p.next, p.queued = nil, nil, false
}

// waits knows, by the number of the request, everything that an INTERRUPT can end: parked requests, and the cancel
// functions of those with which a reader waits.
type waits struct {
	mu      sync.Mutex
	parked  map[uint64]*parked // guarded by mu
	cancels map[uint64]func()  // guarded by mu
	ended   bool               // guarded by mu: whatever comes is to end at once
}

func newWaits() *waits {
	return &waits{parked: map[uint64]*parked{}, cancels: map[uint64]func(){}}
}

func (w *waits) park(p *parked) {
	w.mu.Lock()
	w.parked[p.unique] = p
	w.mu.Unlock()
}

func (w *waits) unpark(p *parked) {
	w.mu.Lock()
	delete(w.parked, p.unique)
	w.mu.Unlock()
}

func (w *waits) add(unique uint64, cancel func()) {
	w.mu.Lock()
	w.cancels[unique] = cancel
	ended := w.ended
	w.mu.Unlock()
	if ended {
		cancel()
	}
}

func (w *waits) remove(unique uint64) {
	w.mu.Lock()
	delete(w.cancels, unique)
	w.mu.Unlock()
}

func (w *waits) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.parked)
}

// interrupt ends the request with that number. It reports false when there is none: it has been answered already,
// or another reader holds it and has not come to wait with it yet.
func (w *waits) interrupt(unique uint64) bool {
	w.mu.Lock()
	p, cancel := w.parked[unique], w.cancels[unique]
	w.mu.Unlock()
	if cancel != nil {
		cancel()
	}
	if p != nil {
		p.e.interrupt(p)
	}
	return p != nil || cancel != nil
}

// end ends everything that waits, now and later; the connection to the kernel is gone.
func (w *waits) end() {
	w.mu.Lock()
	w.ended = true
	all := make([]*parked, 0, len(w.parked))
	for _, p := range w.parked {
		all = append(all, p)
	}
	cancels := make([]func(), 0, len(w.cancels))
	for _, c := range w.cancels {
		cancels = append(cancels, c)
	}
	w.mu.Unlock()
	for _, c := range cancels {
		c()
	}
	for _, p := range all {
		p.e.interrupt(p)
	}
}

// take counts a request, and the bytes it brings, against its user before it is parked.
func (s *Server) take(uid uint32, bytes int) bool {
	if !s.opts.Quota.Take(uid, quota.Parked, 1) {
		return false
	}
	if bytes > 0 && !s.opts.Quota.Take(uid, quota.ParkedBytes, int64(bytes)) {
		s.opts.Quota.Give(uid, quota.Parked, 1)
		return false
	}
	return true
}

// settle answers a request that was parked and gives back what it held. The caller has removed it from its queue.
func (s *Server) settle(p *parked) {
	s.waits.unpark(p)
	s.opts.Quota.Give(p.uid, quota.Parked, 1)
	if p.held > 0 {
		s.opts.Quota.Give(p.uid, quota.ParkedBytes, int64(p.held))
	}
	if p.buf != nil {
		s.inputs.Put(p.buf)
	}
	p.data, p.buf = nil, nil
}

// errAgain is what a Stream returns when it is not ready; the loop then parks the caller or, with O_NONBLOCK, hands
// it on.
const errAgain = syscall.EAGAIN
