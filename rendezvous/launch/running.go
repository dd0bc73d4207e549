package launch

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/rendezvous"
)

// running is a server from its start to its end.
type running struct {
	l      *Launcher
	in     instance
	srv    string // path of the server
	owner  uint32
	charge charge
	acc    account
	ann    *rendezvous.Announcement
	proc   *process // nil in inetd style
	room   *room    // nil but in inetd style

	sockets sync.Mutex // held while the announcement's are used
	down    bool       // guarded by sockets: they may be closed

	ending  bool // guarded by Launcher.mu: its announcement goes or has gone
	failed  bool // guarded by Launcher.mu: its failure is counted
	excused bool // guarded by Launcher.mu: its end is no failure

	clients int       // guarded by Launcher.mu: in inetd style, those that have a process or wait for one
	used    bool      // guarded by Launcher.mu: it has had a client
	since   time.Time // guarded by Launcher.mu: when it was announced, or has last lost a client

	waiting  atomic.Int64  // callers of Accepted
	watched  sync.Once     // the accept queue
	taken    sync.Once     // closes accepted
	accepted chan struct{} // closed when clients were seen to be accepted
	stopping sync.Once     // closes over
	over     chan struct{} // closed when it serves nobody any more; ended follows when its process has ended
	reason   string        // valid once over is closed
	ended    chan struct{}
	maybe    atomic.Bool // it has ended, said that all was well, and left no client waiting
}

func newRunning(l *Launcher, c rendezvous.Caller, in instance, srv *server, acc account, ann *rendezvous.Announcement) *running {
	return &running{
		l: l, in: in, srv: srv.path, owner: srv.owner, charge: chargeFor(c, in, srv), acc: acc, ann: ann, since: time.Now(),
		accepted: make(chan struct{}), over: make(chan struct{}), ended: make(chan struct{}),
	}
}

func (l *Launcher) announce(as rendezvous.Caller, in instance, srv *server) (*rendezvous.Announcement, error) {
	// The start does not belong to one of those who wait for it, so that no ctx of theirs ends it.
	announce := func() (*rendezvous.Announcement, error) {
		return l.opts.Host.Announce(context.Background(), as, in.path, rendezvous.AnnounceOpts{Raw: !srv.inetd, Server: true})
	}
	ann, err := announce()
	for errors.Is(err, unix.ENOSPC) && l.makeRoom(as.UID) { // each round ends one
		ann, err = announce()
	}
	if err == nil {
		return ann, nil
	}
	if _, ok := l.opts.Host.Find(in.path); ok {
		return nil, nil
	}
	return nil, errors.New(err.Error()) // its errno is not the opener's
}

// spawn starts a process of the server. All descriptors stay the caller's.
func (r *running) spawn(srv *server, client int, listen []int, env []string) (*process, error) {
	if n := r.l.Stats().Running; n >= maxProcs {
		return nil, fmt.Errorf("%d processes of servers run already", n)
	}
	env = append(r.acc.environ(), env...)
	env = append(env, "CONVOKE_PATH="+r.in.path.String())
	if r.in.slave {
		env = append(env, "CONVOKE_SLAVE=1")
	}
	if n := len(listen); n > 0 {
		fdnames := strings.TrimSuffix(strings.Repeat(r.in.path.Service+":", n), ":")
		env = append(env, fmt.Sprintf("LISTEN_FDS=%d", n), "LISTEN_FDNAMES="+fdnames)
	}
	var p *process // set before the first line is read
	log := r.l.opts.Log.With("path", r.in.path.String())
	out, err := newOutput(
		func(text string) { log.Info("server says", "pid", p.pid, "text", text) },
		func(n int) { log.Info("lines of the server not told", "pid", p.pid, "count", n) })
	if err != nil {
		return nil, err
	}
	p, err = spawn{
		request: request{
			SetIDs: r.l.self == 0, UID: r.acc.uid, GID: r.acc.gid, Groups: r.acc.groups, Name: srv.path, Env: env,
		},
		program: srv.fd, client: client, output: out.w, listen: listen,
	}.run()
	out.started()
	if err != nil {
		out.discard()
		return nil, err
	}
	if !r.l.spawned(p) {
		p.signal(unix.SIGTERM)
	}
	r.l.work.Add(2)
	go func() {
		defer r.l.work.Done()
		out.follow()
	}()
	go func() {
		defer r.l.work.Done()
		<-p.ended
		r.l.gone(p)
		out.end()
	}()
	return p, nil
}

// tend waits for the end of the server, and makes it one: its name and ports are free afterwards.
func (r *running) tend() {
	defer r.l.work.Done()
	if r.proc == nil {
		r.serve()
	} else {
		<-r.proc.ended
		r.lastLook()
		r.stop(r.srv + " has ended: " + r.proc.outcome())
		r.l.opts.Log.Info("server ended", "path", r.in.path.String(), "pid", r.proc.pid, "outcome", r.proc.outcome())
	}
	r.l.mu.Lock()
	s := r.l.services[r.in.key]
	s.running, s.last = nil, r
	if r.proc != nil {
		r.judge(s, time.Since(r.proc.began))
	}
	r.l.mu.Unlock()
	close(r.ended)
}

// judge tells a failure from an end. Launcher.mu is held.
func (r *running) judge(s *service, life time.Duration) {
	if r.l.closed || r.failed {
		return
	}
	accepted := false
	select {
	case <-r.accepted:
		accepted = true
	default:
	}
	if life > maxDelay {
		s.failures = 0
	}
	if r.proc.exit.Exited() && r.proc.exit.ExitStatus() == 0 && (life > soon || accepted || r.excused) {
		s.failures = 0
		return
	}
	r.l.failed(s, r.reason)
}

// stop ends the announcement; the reason is for those who wait for the server. Its processes are not touched.
func (r *running) stop(reason string) {
	r.stopping.Do(func() {
		r.l.mu.Lock()
		r.ending = true
		waiting := r.l.dismissAll(r)
		r.l.mu.Unlock()
		for _, g := range waiting {
			g.client.Reject()
		}
		r.sockets.Lock()
		r.down = true
		for _, fd := range r.ann.Listeners() {
			hangUp(fd)
		}
		r.ann.Close()
		r.sockets.Unlock()
		r.reason = reason
		close(r.over)
	})
}

// hangUp ends a listening socket that processes of the server may hold: nobody can connect any more, and who has not been accepted is not
// left waiting. Closing it here would do that only if no other process had it.
func hangUp(fd int) {
	if unix.SetNonblock(fd, true) != nil || unix.Shutdown(fd, unix.SHUT_RDWR) != nil {
		return // UDP, which has no clients to let go
	}
	for { // TCP has reset them; the queue of AF_UNIX would last as long as the socket
		c, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC)
		switch err {
		case nil:
			unix.Close(c)
		case unix.EINTR, unix.ECONNABORTED:
		default:
			return
		}
	}
}

// hang ends a server that accepts nobody.
func (r *running) hang() {
	r.l.mu.Lock()
	if s := r.l.services[r.in.key]; s != nil && s.running == r && !r.ending {
		r.failed = true
		r.l.failed(s, "it accepted nobody")
	}
	r.l.mu.Unlock()
	r.stop(fmt.Sprintf("%s has accepted nobody for %v", r.srv, r.l.opts.AcceptTime))
	r.l.opts.Log.Warn("server accepts nobody", "path", r.in.path.String(), "pid", r.proc.pid)
	r.proc.signal(unix.SIGTERM)
	select {
	case <-r.proc.ended:
	case <-time.After(r.l.stopTime):
		r.proc.signal(unix.SIGKILL)
	}
}
