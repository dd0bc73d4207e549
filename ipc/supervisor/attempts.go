package supervisor

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// keepTime is how long a connection waits for the thread that asked for it, after a signal has interrupted that.
	keepTime = time.Second
	// lookTime is how often the kernel is asked whether a thread still waits. It does not tell by itself.
	lookTime = 100 * time.Millisecond
)

// A request is a thread that waits for a stream.
type request struct {
	id  uint64 // of its notification
	tid uint32
	wanted
}

// A result is how a connection has come out: a socket, an errno, or neither, when it is the kernel's turn.
type result struct {
	fd    int // -1: none
	errno unix.Errno
}

// close forgets a result that nobody gets.
func (r result) close() {
	if r.fd >= 0 {
		unix.Close(r.fd)
	}
}

// responder answers notifications: the listener. Its methods do not block. ENOENT: the thread does not wait any more.
type responder interface {
	valid(id uint64) bool
	answer(r request, with result) unix.Errno
}

// attempts are the connections that are being made for threads.
//
// A signal ends a thread's open(2). The kernel then makes the call anew, or the thread does, and that is another
// notification; but the connection is still the one that it waits for. So a connection outlives its notification for
// keepTime, and is found by the thread's number and the path.
type attempts struct {
	kernel  responder
	connect func(ctx context.Context, path string) result

	mu       sync.Mutex
	byThread map[uint32]*attempt // guarded by mu
	looking  bool                // guarded by mu: look is to be called
}

// An attempt is one connection. A thread has one at most, for it waits for one call.
type attempt struct {
	of     *attempts
	tid    uint32
	path   string
	cancel context.CancelFunc

	// Guarded by of.mu:
	waiter  request   // who gets the result; tid 0: nobody at present
	since   time.Time // since when nobody waits
	giving  bool      // the result is on its way to somebody
	done    bool      // there is a result that nobody has got
	result  result    // valid if done
	dropped bool      // it is not in the table any more
}

func newAttempts(kernel responder, connect func(context.Context, string) result) *attempts {
	return &attempts{kernel: kernel, connect: connect, byThread: map[uint32]*attempt{}}
}

// serve gives r the connection that it asks for. It returns when the thread has its answer, or somebody else is to give
// it, or the thread does not want one any more.
func (a *attempts) serve(ctx context.Context, r request) {
	a.mu.Lock()
	at := a.byThread[r.tid]
	switch {
	case at == nil:
	case at.path != r.path:
		at.drop() // the thread has turned to something else
	case at.giving:
		// Mostly the thread has it by now, and is quick to ask for the same again. If it has not, give finds out.
	case at.done:
		at.waiter, at.done, at.giving = r, false, true
		a.mu.Unlock()
		at.give(at.result)
		return
	default:
		at.waiter = r
		a.mu.Unlock() // whoever connects hands it over
		return
	}
	at = &attempt{of: a, tid: r.tid, path: r.path, waiter: r}
	ctx, at.cancel = context.WithCancel(ctx)
	a.byThread[r.tid] = at
	if !a.looking {
		// One for all: a timer for each open would have the runtime wake a thread for it.
		a.looking = true
		time.AfterFunc(lookTime, a.look)
	}
	a.mu.Unlock()

	got := a.connect(ctx, r.path)
	a.mu.Lock()
	at.giving = true
	a.mu.Unlock()
	at.give(got)
}

// give hands the result to who waits for it, or keeps it. at.giving is set, so that nobody changes at.waiter.
func (at *attempt) give(got result) {
	a := at.of
	a.mu.Lock()
	defer a.mu.Unlock()
	for !at.dropped && at.waiter.tid != 0 {
		r := at.waiter
		// Not under the lock: the kernel waits until the thread has taken the descriptor.
		a.mu.Unlock()
		errno := a.kernel.answer(r, got)
		a.mu.Lock()
		if errno != unix.ENOENT {
			at.drop()
			break
		}
		at.lose()
		at.inherit()
	}
	at.giving = false
	if at.dropped {
		got.close()
		return
	}
	at.done, at.result = true, got
}

// inherit takes the place of the attempt that was begun for the same thread and path while the result was on its way
// to a call that had been interrupted. a.mu is held.
func (at *attempt) inherit() {
	next := at.of.byThread[at.tid]
	switch {
	case next == at || at.dropped:
	case next == nil || next.path != at.path || next.giving || next.done:
		at.drop() // the thread has done without
	default:
		at.waiter = next.waiter
		next.drop()
		at.of.byThread[at.tid] = at
	}
}

// look looks whether the threads still wait, and ends what nobody wants any more.
func (a *attempts) look() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, at := range a.byThread {
		at.check()
	}
	a.looking = len(a.byThread) > 0
	if a.looking {
		time.AfterFunc(lookTime, a.look)
	}
}

// check is look for one attempt. a.mu is held.
func (at *attempt) check() {
	switch {
	case at.giving:
	case at.waiter.tid != 0:
		if !at.of.kernel.valid(at.waiter.id) {
			at.lose()
		}
	case time.Since(at.since) >= keepTime:
		at.drop()
	}
}

// lose notes that nobody waits. a.mu is held.
func (at *attempt) lose() {
	at.waiter, at.since = request{}, time.Now()
}

// drop takes the attempt out of the table and ends it. a.mu is held.
func (at *attempt) drop() {
	if at.dropped {
		return
	}
	at.dropped = true
	at.cancel()
	if at.done {
		at.done = false
		at.result.close()
	}
	if at.of.byThread[at.tid] == at {
		delete(at.of.byThread, at.tid)
	}
}
