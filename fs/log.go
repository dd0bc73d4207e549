package fs

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/convoke-fs/convoke/fs/kernel"
	"github.com/convoke-fs/convoke/rendezvous"
)

const (
	// maxLog is how much of the log cluster/log keeps. When there is more, the older half goes, and the file shrinks
	// like one that was rotated in place: `tail -f` says so and goes on.
	maxLog = 1 << 20

	// perUser is how many lines a second a user's failures get; the rest is counted.
	perUser = 10
)

// Log is the daemon's log as a file of the tree. It is a slog.Handler, to be put beside the one that writes to stderr.
// Its methods may be called from any goroutine.
type Log struct {
	shared *logText
	format slog.Handler
}

// logText is what all handlers derived from one Log write to.
type logText struct {
	mu   sync.RWMutex
	text []byte // guarded by mu

	umu     sync.Mutex
	users   map[uint32]*budget // guarded by umu
	refused atomic.Uint64
	out     atomic.Pointer[slog.Logger] // where failures of users go
}

// budget is what a user may still have logged in this second.
type budget struct {
	second  int64
	lines   int
	dropped int
}

// NewLog returns an empty log that keeps records of level and above.
func NewLog(level slog.Leveler) *Log {
	s := &logText{users: map[uint32]*budget{}}
	return &Log{s, slog.NewTextHandler(s, &slog.HandlerOptions{Level: level})}
}

// Report makes l the way by which failed opens and commands of users are told.
func (g *Log) Report(l *slog.Logger) { g.shared.out.Store(l) }

// Enabled implements slog.Handler.
func (g *Log) Enabled(ctx context.Context, l slog.Level) bool { return g.format.Enabled(ctx, l) }

// Handle implements slog.Handler.
func (g *Log) Handle(ctx context.Context, r slog.Record) error { return g.format.Handle(ctx, r) }

// WithAttrs implements slog.Handler.
func (g *Log) WithAttrs(as []slog.Attr) slog.Handler {
	return &Log{g.shared, g.format.WithAttrs(as)}
}

// WithGroup implements slog.Handler.
func (g *Log) WithGroup(name string) slog.Handler {
	return &Log{g.shared, g.format.WithGroup(name)}
}

// Write appends one line; slog's text handler has escaped what is in it.
func (s *logText) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.text)+len(p) > maxLog {
		half := s.text[len(s.text)/2:]
		half = half[bytes.IndexByte(half, '\n')+1:]
		s.text = append(make([]byte, 0, maxLog), half...)
	}
	s.text = append(s.text, p...)
	return len(p), nil
}

func (s *logText) size() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.text)
}

func (s *logText) readAt(p []byte, off int64) int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if off < 0 || off >= int64(len(s.text)) {
		return 0
	}
	return copy(p, s.text[off:])
}

// Refused returns how many opens and commands have failed.
func (g *Log) Refused() uint64 { return g.shared.refused.Load() }

// Refuse tells why a request of c failed that did not come through the tree; what is "open dev/tcp/web/80" or the like.
func (g *Log) Refuse(c rendezvous.Caller, what string, err error) {
	g.refused(caller{uid: c.UID, gid: c.GID, pid: uint32(c.TGID)}, what, err)
}

// refused tells why an open or a command of c failed.
func (g *Log) refused(c caller, what string, err error) {
	s := g.shared
	s.refused.Add(1)
	out := s.out.Load()
	if out == nil {
		return
	}
	lines, dropped := s.spend(c.uid, time.Now().Unix())
	if dropped > 0 {
		out.Info("failures not told", "uid", c.uid, "count", dropped)
	}
	if lines {
		out.Info(what, "uid", c.uid, "pid", c.pid, "errno", fmt.Sprintf("%d", int(errno(err))), "error", err.Error())
	}
}

// spend takes one line from uid's budget. It tells whether there was one, and how many lines found none before.
func (s *logText) spend(uid uint32, now int64) (ok bool, dropped int) {
	s.umu.Lock()
	defer s.umu.Unlock()
	b := s.users[uid]
	if b == nil {
		if len(s.users) >= 1024 { // of users who come and go: those of a past second have nothing to keep
			for u, old := range s.users {
				if old.second != now && old.dropped == 0 {
					delete(s.users, u)
				}
			}
		}
		b = &budget{}
		s.users[uid] = b
	}
	if b.second != now {
		dropped = b.dropped
		*b = budget{second: now}
	}
	if b.lines >= perUser {
		b.dropped++
		return false, dropped
	}
	b.lines++
	return true, dropped
}

var _ opener = (*logNode)(nil)

// logNode is cluster/log. Unlike other files it has a size, and can be read at any place: `tail -f` works.
type logNode struct {
	base
	log *Log
}

func (n *logNode) stat() stat {
	st := n.base.stat()
	st.statTTL, st.size = 0, uint64(n.log.shared.size())
	return st
}

func (n *logNode) mayWait() bool { return false }

func (n *logNode) open(_ context.Context, _ caller, flags uint32) (kernel.Opened, syscall.Errno) {
	if writes(flags) {
		return kernel.Opened{}, syscall.EACCES
	}
	return kernel.Opened{File: logFile{n.log.shared}, Flags: fuse.FOPEN_DIRECT_IO | fuse.FOPEN_NOFLUSH}, 0
}

// logFile is an open cluster/log.
type logFile struct{ s *logText }

var _ kernel.Reader = logFile{}

func (f logFile) ReadAt(p []byte, off int64) (int, syscall.Errno) { return f.s.readAt(p, off), 0 }

func (f logFile) Release() {}
