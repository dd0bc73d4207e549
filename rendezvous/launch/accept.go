package launch

import (
	"errors"
	"time"

	"github.com/convoke-fs/convoke/rendezvous"
)

const (
	firstLook = 2 * time.Millisecond // at the accept queue, in which the kernel may put a client shortly after its connect has returned
	maxLook   = 50 * time.Millisecond
)

// watch begins to look whether clients are accepted. The caller has connected before.
func (r *running) watch() {
	switch {
	case r.proc == nil: // the Host accepts, and serve tells when the first client has a process
	case r.in.path.Proto == rendezvous.UDP: // nothing is accepted
		r.taken.Do(func() { close(r.accepted) })
	default:
		r.watched.Do(func() {
			r.l.mu.Lock()
			defer r.l.mu.Unlock()
			if r.l.closed { // what Close waits for must not become more
				return
			}
			r.l.work.Add(1)
			go func() {
				defer r.l.work.Done()
				r.look()
			}()
		})
	}
}

// look looks at the accept queue until clients are taken off it. Nothing tells when that happens.
func (r *running) look() {
	limit := time.NewTimer(r.l.opts.AcceptTime)
	defer limit.Stop()
	most := 0 // that were in the queue at once
	for delay := firstLook; ; delay = min(delay*3/2, maxLook) {
		select {
		case <-r.over:
			return
		case <-limit.C:
			r.hang()
			return
		case <-time.After(delay):
		}
		switch n, err := r.queued(); {
		case err == errDown:
			return
		case err != nil || n < max(1, most, int(r.waiting.Load())): // what cannot be known is no reason to refuse anybody
			r.taken.Do(func() { close(r.accepted) })
			return
		default:
			most = n
		}
	}
}

// lastLook finds out whether a server that has ended had accepted.
func (r *running) lastLook() {
	n, err := r.queued()
	if err != nil {
		return
	}
	if waiting := int(r.waiting.Load()); waiting > 0 && n < waiting {
		r.taken.Do(func() { close(r.accepted) })
	}
	well := n == 0 && r.proc.exit.Exited() && r.proc.exit.ExitStatus() == 0
	r.maybe.Store(well)
}

// excuse is for a server that has ended before a client of it asks whether it was accepted. If it has left no client waiting and said
// that all was well, it is believed to have served this one: that is no failure.
func (r *running) excuse() bool {
	if !r.maybe.Load() {
		return false
	}
	r.l.mu.Lock()
	defer r.l.mu.Unlock()
	r.excused = true
	if s := r.l.services[r.in.key]; s != nil && s.last == r && s.running == nil && s.attempt == nil {
		s.failures, s.until = 0, time.Time{}
	}
	return true
}

var errDown = errors.New("the sockets are closed")

// queued returns how many clients wait to be accepted, at all addresses. Each caller of Accepted has been in the queue: when there are fewer
// in it than callers, or fewer than before, some were accepted. It need not be empty ever, for a server that serves one after the other.
func (r *running) queued() (int, error) {
	r.sockets.Lock()
	defer r.sockets.Unlock()
	if r.down {
		return 0, errDown
	}
	sum := 0
	for _, fd := range r.ann.Listeners() {
		n, err := queued(fd)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}
