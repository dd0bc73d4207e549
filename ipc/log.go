package ipc

import (
	"io"
	"os"
	"sync"
	"syscall"
	"time"
)

// followPause is how long a reader that follows the log sleeps at its end. The
// log is a growing file, and no kind of wake-up exists for one whose writer is
// not in the kernel (inotify sees only what goes through this mount).
const followPause = 300 * time.Millisecond

// Log opens cluster/log, which tells what happened and why opens failed. Only
// root and group adm may (EACCES). With follow a read at the end waits for
// what comes next, until Close, which may be called from any goroutine.
func (t *Tree) Log(follow bool) (io.ReadCloser, error) {
	opened := make(chan *os.File, 1)
	err := within(AnswerTime, func() error {
		f, err := open(t.path("cluster/log"), syscall.O_RDONLY)
		if err == nil {
			opened <- f
		}
		return err
	})
	if err != nil {
		return nil, failed("read", "cluster/log", err)
	}
	f := <-opened
	if follow {
		return reader{&follower{f: f, closed: make(chan struct{})}, "cluster/log"}, nil
	}
	return reader{f, "cluster/log"}, nil
}

// follower reads a growing file past its present end.
type follower struct {
	f      *os.File
	once   sync.Once
	closed chan struct{}
}

// Read returns what has been added. It returns io.EOF only after Close.
func (r *follower) Read(p []byte) (int, error) {
	for {
		n, err := r.f.Read(p)
		if n > 0 || err != io.EOF {
			return n, err
		}
		pause := time.NewTimer(followPause)
		select {
		case <-r.closed:
			pause.Stop()
			return 0, io.EOF
		case <-pause.C:
		}
	}
}

// Close ends a Read that waits, and closes the file.
func (r *follower) Close() error {
	err := os.ErrClosed
	r.once.Do(func() {
		close(r.closed)
		err = r.f.Close()
	})
	return err
}
