package ipc

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/rendezvous"
)

const (
	helloTime = 3 * time.Second // for the first frame of a connection
	stallTime = 5 * time.Second // for a client that does not read its answers

	// shutTime is how long Close waits for members that are to be told of it and do not read.
	shutTime = 250 * time.Millisecond

	// maxRefused is how many connections beyond the limits of their users may be there to be told so.
	maxRefused = 64

	// sendBuffer is the size of the socket's buffer for unread answers. The kernel doubles it and counts some 800 bytes
	// for a small answer: enough for maxRequests of them, and a bound for what a client can leave there with a
	// descriptor in each.
	sendBuffer = 64 << 10
)

// ServerOpts are what a Server is made of, beside its Host.
type ServerOpts struct {
	// Take counts one connection of a user, or says that he may have no more; Give gives it back. They are called from
	// many goroutines and must not wait. Optional: no limit.
	Take func(uid uint32) bool
	Give func(uid uint32)
	// Groups are the process groups that clients may join. Optional: there are none, and who asks gets ENOSYS.
	Groups Groups
	// Refused is told why a request of c failed. what is "open PATH", "announce PATH", "join GROUP" or "send to
	// GROUP", in which PATH and GROUP may be anything that the client likes to send. It is called from many goroutines and must not wait. Optional.
	Refused func(c rendezvous.Caller, what string, err error)
	// Log is told what an administrator should know: that no connections can be accepted. Optional.
	Log *slog.Logger
}

// Server is the daemon's end of its socket: clients ask it for connections and announcements, and get sockets by
// SCM_RIGHTS. What they may is for the Host to decide; the Server knows who they are.
//
// Each client costs one goroutine, and one more for each announcement and each request that takes longer than a moment.
// Nothing ever waits for a client but what belongs to that client.
type Server struct {
	host     host
	opts     ServerOpts
	identify func(fd int) (rendezvous.Caller, error)
	hello    time.Duration // helloTime, or less in tests
	stall    time.Duration // stallTime, or less in tests
	order    time.Duration // orderTime, or less in tests

	done    chan struct{}  // closed by Close
	refused chan struct{}  // holds a place for each connection beyond its user's limit
	running sync.WaitGroup // Serve and connections

	mu        sync.Mutex
	closed    bool                     // guarded by mu
	listeners map[*os.File]struct{}    // guarded by mu
	conns     map[*serverConn]struct{} // guarded by mu
	feeds     map[*feed]struct{}       // guarded by mu; the streams of memberships

	cork    feedCork
	budgets feedBudgets

	opens, announces, accepts, joins, messages, failures atomic.Uint64
}

// ServerStats are counts since the start, and the number of clients now.
type ServerStats struct {
	Connections int    // clients that are connected
	Opens       uint64 // connections handed over
	Announces   uint64 // announcements made
	Accepts     uint64 // waiting clients handed over
	Feeds       int    // memberships, and senders without one, now
	Joins       uint64 // of these, all that there have been
	Messages    uint64 // messages that they have sent
	Failures    uint64 // requests that were answered with an errno
}

// NewServer returns a server of h's connections and announcements. It serves nothing before Serve is called.
func NewServer(h *rendezvous.Host, o ServerOpts) *Server {
	return newServer(realHost{h}, o, rendezvous.SocketCaller)
}

func newServer(h host, o ServerOpts, identify func(int) (rendezvous.Caller, error)) *Server {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Server{
		host: h, opts: o, identify: identify, hello: helloTime, stall: stallTime, order: orderTime,
		done: make(chan struct{}), refused: make(chan struct{}, maxRefused),
		listeners: map[*os.File]struct{}{}, conns: map[*serverConn]struct{}{}, feeds: map[*feed]struct{}{},
	}
}

// Serve accepts clients on fd, a listening SOCK_SEQPACKET socket, which becomes the Server's. It returns nil after
// Close, or why it cannot go on. It may be called for several sockets at once.
func (s *Server) Serve(fd int) error {
	if err := unix.SetNonblock(fd, true); err != nil { // else Go's poller does not take it
		unix.Close(fd)
		return failed("serve", "the daemon's socket", err)
	}
	f := os.NewFile(uintptr(fd), "the daemon's socket")
	defer f.Close()
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.listeners[f] = struct{}{}
	s.running.Add(1)
	s.mu.Unlock()
	defer s.running.Done()
	defer func() {
		s.mu.Lock()
		delete(s.listeners, f)
		s.mu.Unlock()
	}()
	raw, err := f.SyscallConn()
	if err != nil {
		return failed("serve", f.Name(), err)
	}
	for {
		var client int
		var failure error
		err := raw.Read(func(fd uintptr) bool {
			client, _, failure = unix.Accept4(int(fd), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
			return failure != unix.EAGAIN
		})
		select {
		case <-s.done:
			if err == nil && failure == nil {
				unix.Close(client)
			}
			return nil
		default:
		}
		switch {
		case err != nil:
			return failed("serve", f.Name(), err)
		case failure == nil:
			s.admit(client)
		case failure == unix.EMFILE, failure == unix.ENFILE, failure == unix.ENOBUFS, failure == unix.ENOMEM:
			// The client stays in the backlog, and would be reported as ready without end.
			s.opts.Log.Warn("no client of the daemon's socket can be accepted", "err", failure)
			select {
			case <-time.After(100 * time.Millisecond):
			case <-s.done:
				return nil
			}
		case failure == unix.EINTR, failure == unix.ECONNABORTED:
		default:
			return failed("accept", f.Name(), failure)
		}
	}
}

// admit begins to serve a client, if it may be here at all.
func (s *Server) admit(fd int) {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		unix.Close(fd)
		return
	}
	counted := s.opts.Take == nil || s.opts.Take(cred.Uid)
	if !counted {
		select {
		case s.refused <- struct{}{}: // stays until it has been told
		default:
			unix.Close(fd)
			return
		}
	}
	release := func() {
		switch {
		case !counted:
			<-s.refused
		case s.opts.Give != nil:
			s.opts.Give(cred.Uid)
		}
	}
	c, err := newServerConn(s, fd, cred, release)
	if err != nil {
		release()
		return
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		c.file.Close()
		release()
		return
	}
	s.conns[c] = struct{}{}
	s.running.Add(1)
	s.mu.Unlock()
	go c.serve(counted)
}

// remove is called when the last goroutine of c has ended.
func (s *Server) remove(c *serverConn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	s.running.Done()
}

// Stats returns the counts.
func (s *Server) Stats() ServerStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return ServerStats{
		Connections: len(s.conns), Opens: s.opens.Load(), Announces: s.announces.Load(), Accepts: s.accepts.Load(),
		Feeds: len(s.feeds), Joins: s.joins.Load(), Messages: s.messages.Load(), Failures: s.failures.Load(),
	}
}

// Close ends all connections, what they have announced and what they wait for, and all memberships, and returns when
// that is done. Sockets that were handed over are not the daemon's any more and stay. The Host remains open.
func (s *Server) Close() {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.done)
	}
	for f := range s.listeners {
		f.Close()
	}
	conns := make([]*serverConn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	feeds := slices.Collect(maps.Keys(s.feeds))
	s.mu.Unlock()
	for _, c := range conns {
		c.end()
	}
	for _, f := range feeds {
		f.shut()
	}
	ctx, cancel := context.WithTimeout(context.Background(), shutTime)
	defer cancel()
	for _, f := range feeds {
		select {
		case <-f.done:
		case <-ctx.Done():
			f.end()
		}
	}
	s.running.Wait()
}

// A host makes connections and announcements for callers: a *rendezvous.Host. Both methods are called from many
// goroutines, may wait, and return soon when ctx ends.
type host interface {
	Open(ctx context.Context, c rendezvous.Caller, p rendezvous.Path) (rendezvous.Conn, error)
	Announce(ctx context.Context, c rendezvous.Caller, p rendezvous.Path, o rendezvous.AnnounceOpts) (announcement, error)
}

// An announcement is a *rendezvous.Announcement; see there.
type announcement interface {
	Path() rendezvous.Path
	Notify(func())
	Next() (*rendezvous.Client, error)
	Addrs() []netip.AddrPort
	Listeners() []int
	Close()
}

type realHost struct{ *rendezvous.Host }

func (h realHost) Announce(ctx context.Context, c rendezvous.Caller, p rendezvous.Path, o rendezvous.AnnounceOpts) (announcement, error) {
	a, err := h.Host.Announce(ctx, c, p, o)
	if err != nil {
		return nil, err // not a nil *Announcement in an interface
	}
	return a, nil
}

// errnos is what an error means that has no errno of its own; fs has the same table for files.
var errnos = map[rendezvous.Kind]unix.Errno{
	rendezvous.Other:       unix.EIO,
	rendezvous.NotExist:    unix.ENOENT,
	rendezvous.Refused:     unix.ECONNREFUSED,
	rendezvous.Timeout:     unix.ETIMEDOUT,
	rendezvous.Permission:  unix.EACCES,
	rendezvous.Invalid:     unix.EINVAL,
	rendezvous.Unavailable: unix.EHOSTUNREACH,
	rendezvous.NoQuorum:    unix.ENETDOWN,
	rendezvous.Busy:        unix.EBUSY,
}

// errnoOf returns the errno under which a client sees err.
func errnoOf(err error) unix.Errno {
	var errno unix.Errno
	if errors.As(err, &errno) && errno != 0 {
		return errno
	}
	if errors.Is(err, context.Canceled) {
		return unix.ECANCELED
	}
	return errnos[rendezvous.KindOf(err)]
}

// sentence returns what err says beyond its errno, without what the client knows itself, the operation and the path.
func sentence(err error, errno unix.Errno) string {
	for {
		var ours *rendezvous.Error
		if !errors.As(err, &ours) {
			break
		}
		if ours.Err == nil {
			return ours.Kind.String()
		}
		err = ours.Err
	}
	if text := err.Error(); text != errno.Error() {
		return text[:min(len(text), maxText)]
	}
	return ""
}
