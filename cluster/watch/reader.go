package watch

import (
	"strconv"
	"sync"
	"time"
)

// DefaultLimit is how many records wait for a reader before its queue is dropped.
const DefaultLimit = 1024

// Reader is one registration. Its methods may be called from any goroutine and
// never block.
type Reader struct {
	hub    *Hub
	accept accept
	limit  int

	mu     sync.Mutex // taken after hub.mu where both are held
	seq    uint64     // mu; number of the last record that was begun
	rest   []byte     // mu; what has not been read of the record that was begun
	snap   snapshot   // mu; what has not been read of the snapshot
	queue  []*record  // mu; what was posted after the snapshot, at most limit
	lost   uint64     // mu; records dropped since the queue overflowed; not 0: queue and snap are empty
	told   uint64     // mu; what the LOST record at the head of snap says, 0 once it is read
	notify func()     // mu
	closed bool       // mu
}

// Open registers a reader. It is given the kinds in filter only; nil means all
// kinds. It begins with a snapshot of the table as it is now, unless a filter
// leaves SNAP out; SNAPEND comes and goes with SNAP. LOST is always told: a
// filter must not hide a loss. limit is the number of records that may wait
// after the snapshot, 0 means DefaultLimit. Close ends the registration.
func (h *Hub) Open(filter []Kind, limit int) *Reader {
	if limit <= 0 {
		limit = DefaultLimit
	}
	r := &Reader{hub: h, accept: acceptOf(filter), limit: limit}
	h.mu.Lock()
	defer h.mu.Unlock()
	if r.accept.has(Snap) {
		r.snap = h.snapshot()
	}
	h.readers[r] = struct{}{}
	return r
}

// Read puts records into p: as many whole ones as fit. A record that is larger
// than p is given in pieces, the rest by the next calls. ok is false when there
// is nothing to read; then n is 0. An empty p reads nothing, and ok tells
// whether there is something.
func (r *Reader) Read(p []byte) (n int, ok bool) {
	for {
		n, overflow := r.read(p)
		if !overflow {
			return n, n > 0 || len(p) == 0 && r.Ready()
		}
		r.resume()
	}
}

// read is Read of what is queued. When nothing is, because the queue has
// overflowed, overflow is true.
func (r *Reader) read(p []byte) (n int, overflow bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(p) == 0 {
		return 0, false
	}
	if len(r.rest) > 0 {
		n = copy(p, r.rest)
		if r.rest = r.rest[n:]; len(r.rest) > 0 {
			return n, false
		}
		r.rest = nil
	}
	for {
		rec := r.head()
		if rec == nil {
			return n, n == 0 && r.lost > 0
		}
		var num [24]byte
		line := strconv.AppendUint(num[:0], r.seq+1, 10)
		size := len(line) + len(rec.body)
		if n > 0 && size > len(p)-n {
			return n, false
		}
		r.seq++
		r.drop()
		if size <= len(p)-n {
			n += copy(p[n:], line)
			n += copy(p[n:], rec.body)
			continue
		}
		whole := append(append(make([]byte, 0, size), line...), rec.body...)
		n = copy(p, whole)
		r.rest = whole[n:]
		return n, false
	}
}

// Ready tells whether Read would give something.
func (r *Reader) Ready() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ready()
}

// Notify has f called each time something becomes readable, and in place of any
// f that was set before. f is called without any lock held, from the goroutine
// that posts, so it must not block; it may call the reader's methods. What was
// readable before Notify is not told: ask Ready after it. A call that is under
// way may still reach f shortly after Close.
func (r *Reader) Notify(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.notify = f
}

// Close ends the registration and drops what was not read. It may be called
// more than once.
func (r *Reader) Close() {
	r.hub.mu.Lock()
	delete(r.hub.readers, r)
	r.hub.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	r.rest, r.snap, r.queue, r.lost, r.told, r.notify = nil, nil, nil, 0, 0, nil
}

// post queues records and gives the function to call when there was one for
// this reader. The caller holds hub.mu.
func (r *Reader) post(recs []*record) func() {
	r.mu.Lock()
	defer r.mu.Unlock()
	mine := false
	for _, rec := range recs {
		if r.closed || !r.accept.has(rec.kind) {
			continue
		}
		mine = true
		switch {
		case r.lost > 0:
			r.lost++
		case len(r.queue) >= r.limit:
			// The snapshot goes too: a new one is taken when the reader is back,
			// and an old one would not fit to what follows.
			r.lost = r.told + uint64(len(r.queue)) + 1
			r.queue, r.snap, r.told = nil, nil, 0
		default:
			r.queue = append(r.queue, rec)
		}
	}
	if !mine {
		return nil
	}
	return r.notify
}

// resume ends an overflow: the next records are LOST and a snapshot of the
// table as it is now.
func (r *Reader) resume() {
	r.hub.mu.Lock()
	defer r.hub.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lost == 0 {
		return
	}
	s := snapshot{newRecord(time.Now(), Lost, strconv.FormatUint(r.lost, 10))}
	if r.accept.has(Snap) {
		s = append(s, r.hub.snapshot()...)
	}
	r.snap, r.told, r.lost = s, r.lost, 0
}

// ready is Ready for callers that hold r.mu.
func (r *Reader) ready() bool {
	return len(r.rest) > 0 || r.lost > 0 || r.head() != nil
}

// head is the next record, or nil. The caller holds r.mu.
func (r *Reader) head() *record {
	switch {
	case len(r.snap) > 0:
		return r.snap[0]
	case len(r.queue) > 0:
		return r.queue[0]
	}
	return nil
}

// drop takes the next record away. The caller holds r.mu.
func (r *Reader) drop() {
	if len(r.snap) > 0 {
		r.told = 0
		if r.snap = r.snap[1:]; len(r.snap) == 0 {
			r.snap = nil
		}
		return
	}
	r.queue[0] = nil
	if r.queue = r.queue[1:]; len(r.queue) == 0 {
		r.queue = nil
	}
}
