package session

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const (
	maxBacklog  = 64 << 20  // that wait to be sent to one peer
	sealBytes   = 128 << 10 // prepared for the socket at a time
	inlineBytes = 256 << 10 // that one Flush writes itself
	recordBytes = 16 << 10  // the longest record of TLS
	copyBytes   = 2 << 10   // a frame up to this is copied rather than written from where it is
	keepQueue   = 4 << 10   // places of a queue that is kept for later
	maxBuffers  = 64        // of one write
)

// outbox is what waits to be sent to a peer. Whoever sets busy has what is
// marked with it until the queue is empty: a Flush, or the session's writer
// after the socket was full.
type outbox struct {
	wake    chan struct{} // hands busy to the writer; has room for that one
	queued  atomic.Int64  // bytes of frames that are not sealed
	sealed  atomic.Int64  // bytes that are sealed and not written
	attempt func(fd uintptr)
	insist  func(fd uintptr) bool

	mu    sync.Mutex
	queue [][]byte // mu
	busy  bool     // mu
	over  bool     // mu; nothing is taken any more

	batch  [][]byte // busy; taken from queue
	first  int      // busy; of batch, the first that is not sealed
	offset int      // busy; how much of it is
	pend   [][]byte // busy; sealed
	next   int      // busy; of pend, the first that is not written
	stage  []byte   // busy; memory for what is sealed
	n      int      // busy; result of a write
	err    error    // busy; result of a write
}

// end drops what waits.
func (o *outbox) end() {
	o.mu.Lock()
	o.over, o.queue = true, nil
	o.mu.Unlock()
}

// Send queues a whole frame, its header included, and never waits. frame is not
// changed afterwards, and may be queued for several peers.
func (p *Peer) Send(frame []byte) {
	o := &p.out
	o.mu.Lock()
	if o.over {
		o.mu.Unlock()
		return
	}
	o.queue = append(o.queue, frame)
	waiting := o.queued.Add(int64(len(frame)))
	o.mu.Unlock()
	if waiting > maxBacklog {
		p.fail(errBacklog, false)
	}
}

// Backlog is how many bytes wait to be sent.
func (p *Peer) Backlog() int { return int(p.out.queued.Load() + p.out.sealed.Load()) }

// Flush writes what is queued, as far as the socket takes it without waiting;
// what is left goes out by itself. It is called without locks.
func (p *Peer) Flush() {
	o := &p.out
	o.mu.Lock()
	if o.busy || o.over || len(o.queue) == 0 {
		// Who is busy looks at the queue again before it ends.
		o.mu.Unlock()
		return
	}
	o.busy = true
	o.mu.Unlock()
	if p.raw == nil || !p.pump(false, inlineBytes) {
		o.wake <- struct{}{}
	}
}

// write is the session's writer: it takes over when a socket is full, or where
// there is none.
func (p *Peer) write() {
	for {
		select {
		case <-p.ended:
			return
		case <-p.out.wake:
			p.pump(true, maxBacklog)
		}
	}
}

// pump seals and writes until the queue is empty, and is not busy then. Without
// wait it ends when the socket is full or budget is written, and busy remains.
func (p *Peer) pump(wait bool, budget int) (empty bool) {
	o := &p.out
	for {
		if o.next == len(o.pend) {
			some, err := p.seal()
			if err != nil {
				p.fail(err, false)
				return true // busy for ever: nothing may be written any more
			}
			if !some {
				return true
			}
		}
		p.push(wait)
		o.advance()
		if o.n > 0 {
			p.m.counts.bytes.out.Add(uint64(o.n))
			p.sent.Store(p.m.now())
		}
		switch {
		case o.err == unix.EAGAIN:
			return false
		case o.err != nil:
			p.fail(o.err, false)
			return true
		}
		if budget -= o.n; budget <= 0 && !wait {
			return false
		}
	}
}

// push writes some of pend.
func (p *Peer) push(wait bool) {
	o := &p.out
	var err error
	switch {
	case p.raw == nil:
		o.n, o.err = p.conn.Write(o.pend[o.next])
		return
	case wait:
		err = p.raw.Write(o.insist)
	default:
		err = p.raw.Control(o.attempt)
	}
	if err != nil { // the socket is closed, and the function was not called or waited in vain
		o.n, o.err = 0, err
	}
}

func (o *outbox) try(fd uintptr) { o.n, o.err = writeSome(int(fd), o.pend[o.next:]) }

func (o *outbox) retry(fd uintptr) bool {
	o.try(fd)
	return o.err != unix.EAGAIN
}

// advance notes what was written.
func (o *outbox) advance() {
	left := o.n
	for o.next < len(o.pend) && left >= len(o.pend[o.next]) {
		left -= len(o.pend[o.next])
		o.pend[o.next] = nil
		o.next++
	}
	if left > 0 {
		o.pend[o.next] = o.pend[o.next][left:]
	}
	o.sealed.Add(-int64(o.n))
}

// seal makes the next part of the queue ready to be written. When there is
// nothing it gives busy back and false.
func (p *Peer) seal() (some bool, err error) {
	o := &p.out
	if o.first == len(o.batch) && !o.refill() {
		return false, nil
	}
	o.pend, o.next = o.pend[:0], 0
	if p.tls == nil {
		p.sealPlain()
	} else if err := p.sealTLS(); err != nil {
		return false, err
	}
	size := 0
	for _, b := range o.pend {
		size += len(b)
	}
	o.sealed.Store(int64(size))
	return true, nil
}

// refill takes the queue, or gives busy back when it is empty.
func (o *outbox) refill() bool {
	clear(o.batch)
	spare := o.batch[:0]
	if cap(spare) > keepQueue {
		spare = nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.first, o.offset = 0, 0
	if len(o.queue) == 0 {
		o.batch, o.busy = spare, false
		return false
	}
	o.batch, o.queue = o.queue, spare
	return true
}

// consume notes that the next n bytes of the batch are sealed.
func (p *Peer) consume(n int) {
	o := &p.out
	o.queued.Add(-int64(n))
	if o.offset += n; o.offset == len(o.batch[o.first]) {
		o.batch[o.first] = nil
		o.first++
		o.offset = 0
		p.m.counts.framesOut.Add(1)
	}
}

// sealTLS encrypts. Frames share records; long ones are encrypted from where
// they are.
func (p *Peer) sealTLS() error {
	o := &p.out
	stage := o.stage[:0]
	for room := sealBytes; o.first < len(o.batch) && room > 0; {
		f := o.batch[o.first][o.offset:]
		if len(stage) == 0 && len(f) >= recordBytes {
			n := min(len(f), room) / recordBytes * recordBytes
			if _, err := p.tls.Write(f[:n]); err != nil {
				return err
			}
			room -= n
			p.consume(n)
			continue
		}
		n := min(len(f), recordBytes-len(stage))
		stage = append(stage, f[:n]...)
		room -= n
		p.consume(n)
		if len(stage) == recordBytes {
			if _, err := p.tls.Write(stage); err != nil {
				return err
			}
			stage = stage[:0]
		}
	}
	o.stage = stage
	if len(stage) > 0 {
		if _, err := p.tls.Write(stage); err != nil {
			return err
		}
	}
	o.pend = append(o.pend, p.wire.take())
	return nil
}

// sealPlain puts a checksum behind each frame. Short frames are copied together.
func (p *Peer) sealPlain() {
	o := &p.out
	if o.stage == nil {
		o.stage = make([]byte, 0, recordBytes)
	}
	stage, from := o.stage[:0], 0
	closeStage := func() {
		if len(stage) > from {
			o.pend = append(o.pend, stage[from:len(stage):len(stage)])
			from = len(stage)
		}
	}
	for room := sealBytes; o.first < len(o.batch) && room > 0 && len(o.pend) < maxBuffers; {
		f := o.batch[o.first]
		if cap(stage)-len(stage) < copyBytes+sumSize {
			break
		}
		if len(f) <= copyBytes {
			stage = append(stage, f...)
		} else {
			closeStage()
			o.pend = append(o.pend, f)
		}
		stage = appendSum(stage, f)
		room -= len(f)
		p.consume(len(f))
	}
	closeStage()
}
