package launch

import (
	"bufio"
	"errors"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	maxLine        = 1024                   // of output that is logged as one line; longer ones are cut into several
	linesPerSecond = 10                     // what a process gets into the log; the rest is counted
	drainTime      = 100 * time.Millisecond // for what a process has written before it ended
)

// An output takes what a process writes to stdout and stderr. It is always read, so that no server waits for the log.
type output struct {
	w    int // the end to write to; the process has a copy
	r    *os.File
	line func(text string) // called for each line
	lost func(n int)       // called with the number of lines for which it was not
	now  func() time.Time
	done chan struct{} // closed when it is not read any more
}

// newOutput makes the pipe; follow must be called for it.
func newOutput(line func(string), lost func(int)) (*output, error) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(pipe[0], true); err != nil { // this end only; the other is the server's and blocks
		unix.Close(pipe[0])
		unix.Close(pipe[1])
		return nil, err
	}
	return &output{w: pipe[1], r: os.NewFile(uintptr(pipe[0]), "output"), line: line, lost: lost, now: time.Now, done: make(chan struct{})}, nil
}

// started closes the daemon's copy of the end to write to: the process has its own by now, or there is none.
func (o *output) started() { unix.Close(o.w) }

// follow reads until nobody can write any more or end was called.
func (o *output) follow() {
	defer close(o.done)
	defer o.r.Close()
	in := bufio.NewReaderSize(o.r, maxLine)
	var second time.Time
	lines, lost := 0, 0
	for {
		text, err := in.ReadSlice('\n')
		if len(text) > 0 {
			if now := o.now(); now.Sub(second) >= time.Second {
				if lost > 0 {
					o.lost(lost)
				}
				second, lines, lost = now, 0, 0
			}
			if lines++; lines <= linesPerSecond {
				o.line(strings.TrimRight(string(text), "\r\n"))
			} else {
				lost++
			}
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			if lost > 0 {
				o.lost(lost)
			}
			return
		}
	}
}

// end is called when the process has ended. What it has written is still taken; its children may not write any more.
func (o *output) end() {
	_ = o.r.SetReadDeadline(time.Now().Add(drainTime))
	<-o.done
}

// discard is for an output whose process could not be started.
func (o *output) discard() { o.r.Close() }
