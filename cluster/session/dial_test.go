package session

import (
	"context"
	"fmt"
	"io"
	"syscall"
	"testing"
	"time"
)

// A process that is being killed has its port for a moment longer than its
// sessions.
func TestSchedule_RedialOfTheDyingIsTriedAgainAtOnce(t *testing.T) {
	start := time.Now()
	for _, c := range []struct {
		err   error
		after time.Duration // of the redial
		want  time.Duration // at most, until the next
	}{
		{fmt.Errorf("read: %w", syscall.ECONNRESET), time.Millisecond, quickAgain},
		{io.EOF, 50 * time.Millisecond, quickAgain},
		{io.EOF, quickTime, 2 * redialFirst},
		{syscall.ECONNREFUSED, time.Millisecond, 2 * redialFirst},
		{context.DeadlineExceeded, time.Millisecond, 2 * redialFirst},
	} {
		s := newSchedule(start)
		s.again(hurryNow, start)
		at := start.Add(c.after)
		s.failed(c.err, at)
		wait := s.next.Sub(at)
		if wait > c.want || c.want > quickAgain && wait < redialFirst {
			t.Errorf("%v after %v: next in %v, want %v", c.err, c.after, wait, c.want)
		}
	}
}
