package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// stuckWriter takes nothing until it is let go.
type stuckWriter struct {
	free chan struct{}
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (w *stuckWriter) Write(p []byte) (int, error) {
	<-w.free
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(p)
}

func TestLineWriter_NobodyWaitsForWhoReadsTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &stuckWriter{free: make(chan struct{})}
		l := newLineWriter(w)
		log := slog.New(slog.NewTextHandler(l, nil))
		l.start(func(lines int) { log.Warn("missing", "lines", lines) })
		const all = 10000
		for i := range all {
			log.Info("line", "no", i, "text", strings.Repeat("x", 100))
		}
		start := time.Now()
		l.mu.Lock()
		held := len(l.lines)
		l.mu.Unlock()
		if held > logRoom {
			t.Errorf("%d bytes wait, at most %d may", held, logRoom)
		}
		close(w.free)
		synctest.Wait()
		log.Info("after")
		l.close()
		if d := time.Since(start); d != 0 {
			t.Errorf("the end took %v", d)
		}
		text := w.text.String()
		written, missing := strings.Count(text, "msg=line"), 0
		for _, rest := range strings.Split(text, "msg=missing lines=")[1:] {
			n := 0
			fmt.Sscan(rest, &n)
			missing += n
		}
		if written == 0 || missing == 0 || written+missing != all {
			t.Errorf("%d lines are written and %d are missing, of %d", written, missing, all)
		}
		if !strings.HasSuffix(text, "msg=after\n") {
			t.Errorf("the last line is not written: %q", text[max(0, len(text)-100):])
		}
	})
}

func TestLineWriter_TheEndDoesNotWaitForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &stuckWriter{free: make(chan struct{})}
		l := newLineWriter(w)
		l.start(func(int) {})
		fmt.Fprintln(l, "line")
		start := time.Now()
		l.close()
		if d := time.Since(start); d != logLast {
			t.Errorf("it took %v, want %v", d, logLast)
		}
		close(w.free)
		<-l.done
		if got := w.text.String(); got != "line\n" {
			t.Errorf("got %q", got)
		}
	})
}
