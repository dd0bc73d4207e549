package launch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/rendezvous"
)

// The defaults of Opts.
const (
	StartsPerMinute = 10
	MaxRunning      = 64
	MaxProcesses    = 64
	AcceptTime      = 10 * time.Second
	IdleTime        = time.Minute
)

const (
	stopTime = 5 * time.Second // from SIGTERM to SIGKILL
	killTime = time.Second     // from SIGKILL until the end is not waited for any more
	maxProcs = 2048            // that run at once: a thread waits for each, and Go's runtime ends the program at 10,000
)

// Opts are what a Launcher is made of.
type Opts struct {
	Host *rendezvous.Host // required: announces what is started
	Log  *slog.Logger     // required: what servers do and say
	Dirs []string         // the --lib directories, tried in order; the first that has a folder PROTO/SERVICE has the service
	Self string           // this member's name, as it may stand in a file hosts

	StartsPerMinute int           // optional: how often one service may be started
	MaxRunning      int           // optional: how many servers of one user may run; those with options are their openers', and in inetd style only those with a process count
	MaxProcesses    int           // optional: how many clients of a server in inetd style are served at once, as one user, and half as many of each peer; others wait
	AcceptTime      time.Duration // optional: how long a started server may take until it accepts
	IdleTime        time.Duration // optional: how long an instance with options stays announced in inetd style without a client
}

// Stats are counts of a Launcher since it was made, but Running, which is how many processes there are now.
type Stats struct {
	Starts, Failures uint64
	Running          int
}

// A Launcher implements rendezvous.Launcher. Its methods may be called from many goroutines.
//
// The program that makes one must call MaybeHelper at the beginning of its main function.
type Launcher struct {
	opts   Opts
	self   uint32 // this process's effective uid
	lookup func(uid uint32) (account, error)

	stopTime  time.Duration
	lobbySize int // how many clients may wait for a process

	starts, failures atomic.Uint64
	work             sync.WaitGroup // what Close waits for

	mu       sync.Mutex
	closed   bool                  // guarded by mu
	services map[string]*service   // guarded by mu: by instance.key
	procs    map[*process]struct{} // guarded by mu: all that run
	rooms    map[string]*room      // guarded by mu: see room
	lobby    []*guest              // guarded by mu
	waits    map[uint32]int        // guarded by mu: how many clients of a peer are in the lobby
	warned   map[string]string     // guarded by mu: what was last said of a directory
}

var _ rendezvous.Launcher = (*Launcher)(nil)

// New returns a Launcher that has started nothing. Directories that are no absolute paths are taken from the present one.
func New(o Opts) *Launcher {
	o.StartsPerMinute = orDefault(o.StartsPerMinute, StartsPerMinute)
	o.MaxRunning = orDefault(o.MaxRunning, MaxRunning)
	o.MaxProcesses = orDefault(o.MaxProcesses, MaxProcesses)
	o.AcceptTime = orDefault(o.AcceptTime, AcceptTime)
	o.IdleTime = orDefault(o.IdleTime, IdleTime)
	dirs := make([]string, 0, len(o.Dirs))
	for _, d := range o.Dirs {
		if d == "" { // how a configuration says that there are none
			continue
		}
		abs, err := filepath.Abs(d)
		if err != nil {
			o.Log.Warn("lib folder is not used", "dir", d, "error", err.Error())
			continue
		}
		dirs = append(dirs, abs)
	}
	o.Dirs = dirs
	return &Launcher{
		opts: o, self: uint32(unix.Geteuid()), lookup: lookupAccount, stopTime: stopTime, lobbySize: lobbySize(),
		services: map[string]*service{}, procs: map[*process]struct{}{}, rooms: map[string]*room{}, waits: map[uint32]int{}, warned: map[string]string{},
	}
}

func orDefault[T int | time.Duration](v, d T) T {
	if v <= 0 {
		return d
	}
	return v
}

// Owner implements rendezvous.Launcher. For a daemon that is not root it is the daemon's user, as whom all runs. A folder that is not safe to use has root as its owner here: nobody else may take the
// name, and Start tells what is wrong with it.
func (l *Launcher) Owner(p rendezvous.Path) (uid uint32, ok bool) {
	s, err := l.find(p)
	switch {
	case err != nil:
		return 0, true
	case s == nil:
		return 0, false
	}
	s.close()
	if l.self != 0 {
		return l.self, true
	}
	return s.owner, true
}

// Names returns the services of proto that have a folder, in no order. Whether their servers can be started is not looked at.
func (l *Launcher) Names(proto rendezvous.Proto) []string { return names(l.opts.Dirs, l.self, proto) }

// Stats returns the present counts.
func (l *Launcher) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Stats{Starts: l.starts.Load(), Failures: l.failures.Load(), Running: len(l.procs)}
}

func (l *Launcher) find(p rendezvous.Path) (*server, error) {
	return find(l.opts.Dirs, l.self, p.Proto, p.Service, l.warn)
}

// warn says once what is wrong with a directory, and again when it is something else.
func (l *Launcher) warn(dir string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.warned[dir] != err.Error() {
		l.warned[dir] = err.Error()
		l.opts.Log.Warn("lib folder is not used", "dir", dir, "error", err.Error())
	}
}

// Start implements rendezvous.Launcher. Errors are *rendezvous.Error, with the reason in their text: NotExist (ENOENT):
// there is no server that this member may start; Permission (EACCES): it is another user's instance; Unavailable
// (EOPNOTSUPP): the server cannot prove who its clients are, as user and group ask, or is none for udp; Refused (ECONNREFUSED): the server or its folder
// is not as it must be, it did not start, has failed a short time ago or too often, or too many run. It may wait until the helper has become the server,
// at most 10 s and usually a few milliseconds; when ctx ends it returns, and the start goes on.
func (l *Launcher) Start(ctx context.Context, c rendezvous.Caller, p rendezvous.Path) error {
	in, err := newInstance(c, p)
	if err != nil {
		return err
	}
	for {
		wait, err := l.join(c, in)
		if wait == nil {
			return err
		}
		select {
		case <-wait.done:
			if !wait.again {
				return wait.err
			}
		case <-ctx.Done():
			return interrupted(ctx, in.path)
		}
	}
}

// Accepted implements rendezvous.Launcher. p is that of the announcement, with users and groups by number.
func (l *Launcher) Accepted(ctx context.Context, p rendezvous.Path) error {
	in := instanceOf(p)
	r, err := l.started(ctx, in)
	if err != nil {
		return err
	}
	if r == nil {
		return refuse(in.path, unix.ECONNREFUSED, "the server has ended")
	}
	r.watch()
	r.waiting.Add(1)
	defer r.waiting.Add(-1)
	select {
	case <-r.accepted:
	case <-r.over:
		select {
		case <-r.accepted:
		default:
			if r.excuse() {
				return nil
			}
			return refuse(in.path, unix.ECONNREFUSED, r.reason)
		}
	case <-ctx.Done():
		return interrupted(ctx, in.path)
	}
	return nil
}

// started returns what runs of an instance, or ran last, and waits for a start that is going on: its announcement can be
// found before its server runs.
func (l *Launcher) started(ctx context.Context, in instance) (*running, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.services[in.key]
	if s == nil {
		return nil, nil
	}
	if a := s.attempt; a != nil {
		l.mu.Unlock()
		err := a.wait(ctx, in)
		l.mu.Lock()
		if err != nil {
			return nil, err
		}
		if s = l.services[in.key]; s == nil {
			return nil, nil
		}
	}
	if s.running != nil {
		return s.running, nil
	}
	return s.last, nil
}

// wait returns the outcome of an attempt.
func (a *attempt) wait(ctx context.Context, in instance) error {
	select {
	case <-a.done:
		return a.err
	case <-ctx.Done():
		return interrupted(ctx, in.path)
	}
}

// Close ends all servers, by SIGTERM and after 5 s by SIGKILL, and their announcements. Nothing is started any more. It returns after 6 s at most.
func (l *Launcher) Close() {
	l.mu.Lock()
	l.closed = true
	var all []*running
	for _, s := range l.services {
		if s.running != nil {
			all = append(all, s.running)
		}
	}
	l.mu.Unlock()
	for _, r := range all {
		r.stop("the daemon ends")
	}
	done := make(chan struct{})
	go func() {
		l.work.Wait()
		close(done)
	}()
	for _, step := range []struct {
		signal unix.Signal
		wait   time.Duration
	}{{unix.SIGTERM, l.stopTime}, {unix.SIGKILL, killTime}} {
		l.mu.Lock()
		for p := range l.procs {
			p.signal(step.signal)
		}
		l.mu.Unlock()
		select {
		case <-done:
			return
		case <-time.After(step.wait):
		}
	}
	l.opts.Log.Warn("servers cannot be ended", "count", l.Stats().Running)
}

// spawned takes a process into the list of those that run; it is false when the Launcher has been closed, and the process is to be ended.
func (l *Launcher) spawned(p *process) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.procs[p] = struct{}{}
	return !l.closed
}

func (l *Launcher) gone(p *process) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.procs, p)
}

// refuse makes an error whose text tells why.
func refuse(p rendezvous.Path, errno unix.Errno, reason string) error {
	return &rendezvous.Error{Op: "start", Path: p.String(), Kind: rendezvous.KindOf(errno), Err: fmt.Errorf("%s: %w", reason, errno)}
}

// interrupted is what a caller gets whose ctx has ended.
func interrupted(ctx context.Context, p rendezvous.Path) error {
	cause := context.Cause(ctx)
	errno := unix.EINTR
	switch {
	case errors.As(cause, &errno):
	case errors.Is(cause, context.DeadlineExceeded):
		errno = unix.ETIMEDOUT
	}
	return &rendezvous.Error{Op: "start", Path: p.String(), Kind: rendezvous.KindOf(errno), Err: fmt.Errorf("%w: %w", errno, cause)}
}
