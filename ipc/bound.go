package ipc

import (
	"syscall"
	"time"
)

// AnswerTime bounds everything that the daemon answers from memory: finding
// the mount, state files, opening a stream of events.
const AnswerTime = 5 * time.Second

// within runs fn and waits for it at most d; then it returns ETIMEDOUT.
//
// A system call on a mount whose daemon is stopped cannot be taken back from
// inside the process, so after a timeout fn's goroutine stays in it until the
// daemon goes on, dies, or this process ends. fn must therefore own all that
// it touches until it has returned.
func within(d time.Duration, fn func() error) error {
	done := make(chan error, 1)
	go func() { done <- fn() }()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		return syscall.ETIMEDOUT
	}
}
