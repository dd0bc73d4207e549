package cluster

import (
	"context"
	"io"
	"log"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// bridge takes the lines of serf's and memberlist's loggers into slog, by the
// level that they begin with. What a stranger can provoke by speaking to the
// port must not fill the log, so a second has at most bridgeRate lines; the
// rest are counted.
type bridge struct {
	log *slog.Logger

	mu      sync.Mutex
	second  time.Time // mu; when the present second began
	lines   int       // mu; in it
	dropped int       // mu; not told yet
}

const bridgeRate = 20

func newBridge(l *slog.Logger) *log.Logger {
	return log.New(&bridge{log: l}, "", 0)
}

var _ io.Writer = (*bridge)(nil)

// Write takes one line; package log calls it once for each.
func (b *bridge) Write(p []byte) (int, error) {
	level, text := splitLevel(strings.TrimSpace(string(p)))
	if !b.log.Enabled(context.Background(), level) {
		return len(p), nil
	}
	ok, dropped := b.admit(time.Now())
	if dropped > 0 {
		b.log.Warn("gossip: lines left out", "count", dropped)
	}
	if ok {
		b.log.Log(context.Background(), level, "gossip: "+text)
	}
	return len(p), nil
}

// admit tells whether a line may pass now, and how many did not in the second
// before.
func (b *bridge) admit(now time.Time) (ok bool, dropped int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now.Sub(b.second) >= time.Second {
		b.second, b.lines = now, 0
		dropped, b.dropped = b.dropped, 0
	}
	if b.lines >= bridgeRate {
		b.dropped++
		return false, dropped
	}
	b.lines++
	return true, dropped
}

// splitLevel takes "[LEVEL] text" apart. What it means for members the node
// tells itself; what serf warns of is one probe or message among many, about
// which nobody can do anything, and its errors are mostly the same.
func splitLevel(line string) (slog.Level, string) {
	for prefix, level := range map[string]slog.Level{
		"[DEBUG] ": slog.LevelDebug,
		"[INFO] ":  slog.LevelDebug,
		"[WARN] ":  slog.LevelDebug,
		"[ERR] ":   slog.LevelInfo,
	} {
		if text, ok := strings.CutPrefix(line, prefix); ok {
			return level, text
		}
	}
	return slog.LevelWarn, line
}
