package rendezvous

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// MaxWaiting is how many clients of one announcement may wait.
	MaxWaiting = 1024

	// sweepEvery is how often a full queue is searched for clients that have gone.
	sweepEvery = 100 * time.Millisecond
)

// queue holds the clients that wait for an announcement.
type queue struct {
	host *Host
	uid  uint32

	mu      sync.Mutex
	clients []*Client // guarded by mu
	held    int       // guarded by mu; places for clients that are connecting
	notify  func()    // guarded by mu
	swept   time.Time // guarded by mu
	ended   bool      // guarded by mu
}

func (q *queue) init(h *Host, uid uint32) { q.host, q.uid = h, uid }

// hold keeps a place for a client that is about to connect; give or put uses it up. It is false where there is none.
func (q *queue) hold() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ended {
		return false
	}
	if len(q.clients)+q.held >= MaxWaiting && !q.sweep() {
		return false
	}
	if !q.take() && !(q.sweep() && q.take()) {
		return false
	}
	q.held++
	return true
}

// take counts one client more.
func (q *queue) take() bool {
	if !q.host.waiting.take(q.uid, 1) {
		return false
	}
	if !q.host.take(q.uid, WaitLimit) {
		q.host.waiting.give(q.uid, 1)
		return false
	}
	return true
}

// release takes back what take has counted.
func (q *queue) release() {
	q.host.give(q.uid, WaitLimit)
	q.host.waiting.give(q.uid, 1)
}

// give gives a place back.
func (q *queue) give() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.held--
	q.release()
}

// put adds a client for which a place is held. It is false where the announcement has ended.
func (q *queue) put(c *Client) bool {
	q.mu.Lock()
	q.held--
	if q.ended {
		q.release()
		q.mu.Unlock()
		return false
	}
	q.clients = append(q.clients, c)
	f := q.notify
	q.mu.Unlock()
	if f != nil {
		f()
	}
	return true
}

// sweep makes room by forgetting clients that have gone, and reports whether it has. It is called with q.mu held.
func (q *queue) sweep() bool {
	if now := time.Now(); now.Sub(q.swept) < sweepEvery {
		return false
	} else {
		q.swept = now
	}
	kept := q.clients[:0]
	for _, c := range q.clients {
		if c.Gone() {
			c.Reject()
			q.release()
		} else {
			kept = append(kept, c)
		}
	}
	gone := len(kept) < len(q.clients)
	clear(q.clients[len(kept):])
	q.clients = kept
	return gone
}

func (q *queue) end() {
	q.mu.Lock()
	clients := q.clients
	q.clients, q.ended = nil, true
	f := q.notify
	for range clients {
		q.release()
	}
	q.mu.Unlock()
	for _, c := range clients {
		c.Reject()
	}
	if f != nil {
		f()
	}
}

// Notify asks for f to be called whenever Next may have another result than at its last call; it replaces the one
// before. f may be called from several goroutines at once, and at once if Next has a result already. It must not wait
// nor call methods of a.
func (a *Announcement) Notify(f func()) {
	q := &a.queue
	q.mu.Lock()
	q.notify = f
	now := q.ended || len(q.clients) > 0
	q.mu.Unlock()
	if now && f != nil {
		f()
	}
}

// Next returns the client that waits for longest, which is the caller's from now on. err: EAGAIN: none waits now;
// another, ESHUTDOWN: the announcement has ended.
func (a *Announcement) Next() (*Client, error) {
	q := &a.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.ended:
		return nil, announceError(a.path, Unavailable, fmt.Errorf("%w: %w", errEndedAnnouncement, unix.ESHUTDOWN))
	case len(q.clients) == 0:
		return nil, unix.EAGAIN
	}
	c := q.clients[0]
	q.clients[0] = nil
	q.clients = q.clients[1:]
	q.release()
	return c, nil
}

// Ready tells whether Next would return something other than EAGAIN.
func (a *Announcement) Ready() bool {
	a.queue.mu.Lock()
	defer a.queue.mu.Unlock()
	return a.queue.ended || len(a.queue.clients) > 0
}

// Waiting returns how many clients wait.
func (a *Announcement) Waiting() int {
	a.queue.mu.Lock()
	defer a.queue.mu.Unlock()
	return len(a.queue.clients)
}
