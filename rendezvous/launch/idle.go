package launch

import (
	"time"

	"github.com/convoke-fs/convoke/rendezvous"
)

// A charge says whom an instance counts for. What anybody can make any number of, by options, is his who had it started:
// else a few users could use up what the owner of a server may run. Root's openers have no limit of their own.
type charge struct {
	uid    uint32
	opener bool // else uid is the owner of the server
}

func chargeFor(c rendezvous.Caller, in instance, srv *server) charge {
	if c.UID != 0 && in.optional() {
		return charge{uid: c.UID, opener: true}
	}
	return charge{uid: srv.owner}
}

// count returns how many servers are charged so, those that are being started included. Launcher.mu is held.
func (l *Launcher) count(ch charge) (n int) {
	for _, s := range l.services {
		if s.attempt != nil && s.attempt.charge == ch || s.running != nil && s.running.charge == ch && s.running.counts() {
			n++
		}
	}
	return n
}

// counts tells whether r uses up a place of whom it is charged to. An announcement without a process costs the owner of the server nothing
// that he could run out of. Launcher.mu is held.
func (r *running) counts() bool {
	switch {
	case r.proc != nil:
		return true
	case r.charge.opener:
		return !r.ending
	}
	return r.clients > 0
}

// lose notes that r has a client less. Launcher.mu is held.
func (r *running) lose() {
	r.clients--
	r.since = time.Now()
}

// idle tells whether r, in inetd style, has no process and nobody who waits for one. Launcher.mu is held.
func (r *running) idle() bool {
	return r.proc == nil && !r.ending && r.clients == 0 && r.waiting.Load() == 0 && r.ann.Waiting() == 0
}

// retire makes r one that ends if it has been idle for the IdleTime, and then the caller has to stop it; else it returns
// when to ask again.
func (r *running) retire() (again time.Duration, ok bool) {
	r.l.mu.Lock()
	defer r.l.mu.Unlock()
	if !r.idle() {
		return r.l.opts.IdleTime, false
	}
	limit := r.l.opts.IdleTime
	if !r.used { // its first client is on its way
		limit = max(limit, r.l.opts.AcceptTime)
	}
	if left := time.Until(r.since.Add(limit)); left > 0 {
		return left, false
	}
	r.ending = true
	return 0, true
}

// evict makes the instance that has been idle for longest, of those with options that match, one that ends; the caller has to stop it. nil:
// there is none. One that was just started is left alone, for its first client is on its way. Launcher.mu is held.
func (l *Launcher) evict(match func(*running) bool) *running {
	var oldest *running
	for _, s := range l.services {
		r := s.running
		if r == nil || !r.in.optional() || !r.idle() || !match(r) {
			continue
		}
		if !r.used && time.Since(r.since) < l.opts.AcceptTime {
			continue
		}
		if oldest == nil || r.since.Before(oldest.since) {
			oldest = r
		}
	}
	if oldest != nil {
		oldest.ending = true
	}
	return oldest
}

// makeRoom ends an idle instance that is announced for uid, and tells whether there was one.
func (l *Launcher) makeRoom(uid uint32) bool {
	l.mu.Lock()
	r := l.evict(func(r *running) bool { return r.acc.uid == uid })
	l.mu.Unlock()
	if r == nil {
		return false
	}
	r.stop(evicted)
	return true
}

const evicted = "its place was needed for another instance"
