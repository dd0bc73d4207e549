package launch

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/rendezvous"
)

const (
	firstDelay   = 100 * time.Millisecond // of the back-off; doubled at each failure
	maxDelay     = 30 * time.Second
	soon         = time.Second // a server that has ended by then has failed, unless it has accepted and says that all is well
	maxServices  = 4096        // how many instances are kept in mind
	maxInstances = 16          // how many instances with options a user may have started
)

// A service is what is known of one instance. It is guarded by Launcher.mu.
type service struct {
	attempt *attempt // the start that is going on
	running *running
	last    *running // the one before
	starts  []time.Time
	option  bool // it is an instance with options

	failures int // in a row
	until    time.Time
	reason   string // of the last failure
}

// An attempt is one start, for which any number of callers wait.
type attempt struct {
	done   chan struct{}
	again  bool  // done means that Start has to look once more
	err    error // valid once done is closed
	charge charge
	evict  *running // to be stopped before, if not nil
}

// join returns the attempt that the caller has to wait for: the one that goes on, or a new one. nil: the error, or none, is known at once.
func (l *Launcher) join(c rendezvous.Caller, in instance) (*attempt, error) {
	srv, err := l.find(in.path)
	if err != nil {
		return nil, refuse(in.path, unix.ECONNREFUSED, err.Error())
	}
	if srv == nil {
		return nil, refuse(in.path, unix.ENOENT, "there is no server for it")
	}
	a, own, err := l.admit(c, in, srv)
	if !own {
		srv.close()
		return a, err
	}
	go l.launch(c, in, srv, a)
	return a, nil
}

// admit decides what is to be done; own is true if the caller has to launch the server for the attempt.
func (l *Launcher) admit(c rendezvous.Caller, in instance, srv *server) (a *attempt, own bool, err error) {
	no := func(errno unix.Errno, format string, args ...any) (*attempt, bool, error) {
		return nil, false, refuse(in.path, errno, fmt.Sprintf(format, args...))
	}
	proto, o := in.path.Proto, in.path.Options
	switch {
	case !in.local && !srv.here(l.opts.Self):
		return no(unix.ENOENT, "%s may not start on this member", srv.path)
	case srv.owner != 0 && o.User != nil && o.User.N != srv.owner:
		return no(unix.EACCES, "%s belongs to uid %d, and runs as nobody else", srv.path, srv.owner)
	case srv.inetd && proto == rendezvous.UDP:
		return no(unix.EOPNOTSUPP, "%s: udp has no connections to give to a process each", srv.path)
	case !srv.inetd && proto != rendezvous.FDP && in.restricted():
		return no(unix.EOPNOTSUPP, "%s accepts by itself, so that nobody proves who its clients are", srv.path)
	case !srv.inetd && o.User != nil && o.Group != nil:
		return no(unix.EOPNOTSUPP, "%s accepts by itself, and the kernel proves the user of its clients or the group, not both", srv.path)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	ch := chargeFor(c, in, srv)
	s := l.services[in.key]
	if s == nil {
		s = &service{option: in.optional()}
	}
	s.forget(now)
	switch {
	case l.closed:
		return no(unix.ECONNREFUSED, "the daemon ends")
	case s.attempt != nil:
		return s.attempt, false, nil
	case s.running != nil && !s.running.ending:
		return nil, false, nil
	case now.Before(s.until):
		return no(unix.ECONNREFUSED, "failed %d times, the next start is in %v at the earliest: %s", s.failures, s.until.Sub(now).Round(time.Millisecond), s.reason)
	case s.running != nil:
		return &attempt{done: s.running.ended, again: true}, false, nil
	case len(s.starts) >= l.opts.StartsPerMinute:
		return no(unix.ECONNREFUSED, "started %d times within a minute", len(s.starts))
	case !ch.opener && l.count(ch) >= l.opts.MaxRunning:
		return no(unix.ECONNREFUSED, "%d servers of uid %d run already", l.opts.MaxRunning, srv.owner)
	case !l.remember(now):
		return no(unix.ECONNREFUSED, "too many services were started")
	}
	var old *running
	if ch.opener && l.count(ch) >= maxInstances {
		if old = l.evict(func(r *running) bool { return r.charge == ch }); old == nil {
			return no(unix.ECONNREFUSED, "%d instances run that uid %d has started", maxInstances, c.UID)
		}
	}
	s.attempt = &attempt{done: make(chan struct{}), charge: ch, evict: old}
	s.starts = append(s.starts, now)
	l.services[in.key] = s
	l.work.Add(1) // for launch, which is called outside the lock
	return s.attempt, true, nil
}

// forget drops the starts that are longer ago than a minute.
func (s *service) forget(now time.Time) {
	for len(s.starts) > 0 && now.Sub(s.starts[0]) >= time.Minute {
		s.starts = s.starts[1:]
	}
}

// remember drops what need not be kept in mind any more, when it has become much, and tells whether there is room for another service. What
// has happened to instances with options is not worth a place: there is always another name for one more.
func (l *Launcher) remember(now time.Time) bool {
	if len(l.services) < maxServices/4 {
		return true
	}
	for key, s := range l.services {
		s.forget(now)
		past := len(s.starts) == 0 && !now.Before(s.until) || s.option
		if s.attempt == nil && s.running == nil && past {
			delete(l.services, key)
		}
	}
	return len(l.services) < maxServices
}

// launch makes the attempt and tells all who wait for it.
func (l *Launcher) launch(c rendezvous.Caller, in instance, srv *server, a *attempt) {
	defer l.work.Done()
	defer srv.close()
	if a.evict != nil {
		a.evict.stop(evicted)
	}
	l.starts.Add(1)
	r, err := l.begin(c, in, srv)
	l.mu.Lock()
	s := l.services[in.key]
	s.attempt = nil
	switch {
	case err != nil:
		l.failed(s, err.Error())
		l.opts.Log.Warn("server not started", "server", srv.path, "path", in.path.String(), "error", err.Error())
		if !errors.As(err, new(*rendezvous.Error)) {
			err = refuse(in.path, unix.ECONNREFUSED, err.Error())
		}
	case r != nil:
		s.running = r
		l.work.Add(1)
		go r.tend()
	}
	closed := l.closed
	l.mu.Unlock()
	if closed && r != nil {
		r.stop("the daemon ends")
	}
	a.err = err
	close(a.done)
}

// failed notes a failure: the next start has to wait. l.mu is held.
func (l *Launcher) failed(s *service, reason string) {
	l.failures.Add(1)
	delay := maxDelay
	if s.failures < 16 {
		delay = min(firstDelay<<s.failures, maxDelay)
	}
	s.failures++
	s.until, s.reason = time.Now().Add(delay), reason
}

// begin announces the service and starts its server. It returns nil and nil if somebody else has announced it meanwhile.
func (l *Launcher) begin(c rendezvous.Caller, in instance, srv *server) (*running, error) {
	acc, err := l.account(srv, in)
	if err != nil {
		return nil, err
	}
	as, err := announcer(acc)
	if err != nil {
		return nil, err
	}
	ann, err := l.announce(as, in, srv)
	if ann == nil {
		return nil, err
	}
	r := newRunning(l, c, in, srv, acc, ann)
	if srv.inetd {
		r.room = l.room(r.srv, acc.uid)
		l.opts.Log.Info("service announced", "server", srv.path, "path", in.path.String(), "uid", acc.uid)
		return r, nil
	}
	for _, fd := range ann.Listeners() {
		// As systemd passes them.
		if err := unix.SetNonblock(fd, false); err != nil {
			ann.Close()
			return nil, err
		}
	}
	if r.proc, err = r.spawn(srv, -1, ann.Listeners(), nil); err != nil {
		ann.Close()
		return nil, err
	}
	l.opts.Log.Info("server started", "server", srv.path, "path", in.path.String(), "uid", acc.uid, "pid", r.proc.pid)
	return r, nil
}

// announcer returns for whom the service is announced: who the server runs as, so that its sockets carry his ids.
func announcer(acc account) (rendezvous.Caller, error) {
	c, err := rendezvous.LookupCaller(os.Getpid(), acc.uid, acc.gid)
	if err != nil {
		return rendezvous.Caller{}, err
	}
	c.Groups = acc.groups
	if acc.uid != 0 {
		c.Caps = 0 // they are this process's
	}
	return c, nil
}
