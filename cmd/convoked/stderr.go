package main

import (
	"io"
	"sync"
	"time"
)

const (
	logRoom = 256 << 10   // bytes of lines that may wait
	logLast = time.Second // for what waits at the end
)

// lineWriter writes the lines of the log from a goroutine of its own. Whoever logs waits for nobody then: a pager or a
// journal that has stopped reading would else stop the daemon's sessions, and the others would go on without it. Lines
// for which there is no room are counted.
type lineWriter struct {
	w    io.Writer
	gap  func(lines int) // told of lines that are missing, once there is room again
	more chan struct{}   // has room for one: there is something to be written, or the end
	done chan struct{}   // closed when all is written

	mu    sync.Mutex
	lines []byte // guarded by mu
	lost  int    // guarded by mu
	ended bool   // guarded by mu
}

// newLineWriter makes a writer to w. start must follow.
func newLineWriter(w io.Writer) *lineWriter {
	return &lineWriter{w: w, more: make(chan struct{}, 1), done: make(chan struct{})}
}

func (l *lineWriter) start(gap func(lines int)) {
	l.gap = gap
	go l.run()
}

// Write takes one line. There is no error: nobody could do anything about it.
func (l *lineWriter) Write(line []byte) (int, error) {
	l.mu.Lock()
	switch {
	case len(l.lines)+len(line) > logRoom:
		l.lost++
	case !l.ended:
		l.lines = append(l.lines, line...)
	}
	l.mu.Unlock()
	l.wake()
	return len(line), nil
}

func (l *lineWriter) wake() {
	select {
	case l.more <- struct{}{}:
	default:
	}
}

func (l *lineWriter) run() {
	defer close(l.done)
	var spare []byte
	for range l.more {
		for {
			l.mu.Lock()
			lines, lost, ended := l.lines, l.lost, l.ended
			l.lines, l.lost = spare, 0
			l.mu.Unlock()
			if len(lines) > 0 {
				l.w.Write(lines)
			}
			spare = lines[:0]
			switch {
			case lost > 0 && !ended:
				l.gap(lost)
			case len(lines) > 0:
			case ended:
				return
			}
			if len(lines) == 0 && lost == 0 {
				break
			}
		}
	}
}

// close has what waits written, within a bound: the goroutine of a writer that is stuck ends with the process.
func (l *lineWriter) close() {
	l.mu.Lock()
	l.ended = true
	l.mu.Unlock()
	l.wake()
	select {
	case <-l.done:
	case <-time.After(logLast):
	}
}
