package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// harden keeps the key out of core files and from debuggers. The limit of core files is 1 and not 0: only at 1 does the
// kernel also leave the program alone that core_pattern may name (core(5)), and a byte is too little for a file.
func harden() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("prctl: %w", err)
	}
	return unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: 1, Max: 1})
}

// raiseFiles raises the limit of descriptors to the hard one and returns it: each stream is one.
func raiseFiles() (int64, error) {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 0, fmt.Errorf("getrlimit: %w", err)
	}
	l.Cur = l.Max
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 0, fmt.Errorf("setrlimit: %w", err)
	}
	return int64(min(l.Max, 1<<30)), nil
}

// tuneRuntime suits Go's runtime to a daemon that mostly sits in system calls.
//
// It gives the scheduler more processors than the goroutines that sit in system calls can hold. With few, the
// scheduler takes a processor away from each read(2) that waits, and the reader has to wait for one when it returns:
// that costs a round trip through a stream more than all that is done for it.
func tuneRuntime() { runtime.GOMAXPROCS(runtime.NumCPU() + 2) }

// openRunDir makes the run folder and claims it: one daemon has one.
func openRunDir(dir string) (io.Closer, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("run folder: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("run folder: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		pid, _ := io.ReadAll(io.LimitReader(f, 32))
		f.Close()
		return nil, fmt.Errorf("run folder %s: another convoked (pid %s) uses it; give each its own --run", dir, strings.TrimSpace(string(pid)))
	}
	_ = f.Truncate(0)
	_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return f, nil
}

// notify tells the service manager, if there is one (sd_notify(3)). It waits for nobody.
func notify(state string) {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"}) // a leading @ is an abstract name
	if err != nil {
		return
	}
	defer c.Close()
	_, _ = c.Write([]byte(state))
}

// tee is a slog.Handler that hands each record to two.
type tee [2]slog.Handler

func (t tee) Enabled(ctx context.Context, l slog.Level) bool {
	return t[0].Enabled(ctx, l) || t[1].Enabled(ctx, l)
}

func (t tee) Handle(ctx context.Context, r slog.Record) error {
	var errs [2]error
	for i, h := range t {
		if h.Enabled(ctx, r.Level) {
			errs[i] = h.Handle(ctx, r.Clone())
		}
	}
	return errors.Join(errs[:]...)
}

func (t tee) WithAttrs(as []slog.Attr) slog.Handler {
	return tee{t[0].WithAttrs(as), t[1].WithAttrs(as)}
}

func (t tee) WithGroup(name string) slog.Handler {
	return tee{t[0].WithGroup(name), t[1].WithGroup(name)}
}

// logHandler writes to stderr; for the journal, which has a clock of its own, each line begins with its priority
// (sd-daemon(3)).
func logHandler(c *config, w io.Writer) slog.Handler {
	o := &slog.HandlerOptions{Level: c.level}
	if c.logFormat == "json" {
		return slog.NewJSONHandler(w, o)
	}
	if !journal() {
		return slog.NewTextHandler(w, o)
	}
	o.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey) {
			return slog.Attr{}
		}
		return a
	}
	return newJournalHandler(w, o)
}

// journal tells whether stderr is the journal, as systemd.exec(5) says under $JOURNAL_STREAM.
func journal() bool {
	var st unix.Stat_t
	if unix.Fstat(2, &st) != nil {
		return false
	}
	return os.Getenv("JOURNAL_STREAM") == fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}

// journalHandler has a text handler for each priority, which writes <N> before each line.
type journalHandler [4]slog.Handler

// priorities are syslog(3)'s, by the place in journalHandler.
var priorities = [4]string{"<7>", "<6>", "<4>", "<3>"}

func newJournalHandler(w io.Writer, o *slog.HandlerOptions) (h journalHandler) {
	for i, p := range priorities {
		h[i] = slog.NewTextHandler(prefixWriter{w, p}, o)
	}
	return h
}

func (h journalHandler) Enabled(ctx context.Context, l slog.Level) bool { return h[0].Enabled(ctx, l) }

func (h journalHandler) Handle(ctx context.Context, r slog.Record) error {
	i := 0
	for _, from := range []slog.Level{slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
		if r.Level >= from {
			i++
		}
	}
	return h[i].Handle(ctx, r)
}

func (h journalHandler) WithAttrs(as []slog.Attr) slog.Handler {
	for i := range h {
		h[i] = h[i].WithAttrs(as)
	}
	return h
}

func (h journalHandler) WithGroup(name string) slog.Handler {
	for i := range h {
		h[i] = h[i].WithGroup(name)
	}
	return h
}

// prefixWriter writes its prefix and each line in one write.
type prefixWriter struct {
	w      io.Writer
	prefix string
}

func (p prefixWriter) Write(line []byte) (int, error) {
	_, err := p.w.Write(append([]byte(p.prefix), line...))
	return len(line), err
}

// version is the module's version, or the commit that was built.
func version() string {
	b, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := strings.Trim(b.Main.Version, "()")
	if v != "" && v != "devel" {
		return v
	}
	rev, dirty := "", ""
	for _, s := range b.Settings {
		switch {
		case s.Key == "vcs.revision":
			rev = s.Value[:min(12, len(s.Value))]
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "+dirty"
		}
	}
	if rev == "" {
		return "devel"
	}
	return "devel-" + rev + dirty
}
