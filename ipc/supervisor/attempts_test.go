package supervisor

import (
	"context"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// kernel is a responder in whose hands the threads are.
type kernel struct {
	mu       sync.Mutex
	waiting  map[uint64]bool   // guarded by mu: notifications whose threads wait
	answered map[uint64]result // guarded by mu
	before   func(request)     // called before an answer, without mu
	after    func(request)     // called after an answer that was taken, without mu
}

func newKernel(ids ...uint64) *kernel {
	k := &kernel{waiting: map[uint64]bool{}, answered: map[uint64]result{}}
	for _, id := range ids {
		k.waiting[id] = true
	}
	return k
}

func (k *kernel) valid(id uint64) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.waiting[id]
}

func (k *kernel) set(id uint64, waits bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.waiting[id] = waits
}

func (k *kernel) answer(r request, with result) unix.Errno {
	if k.before != nil {
		k.before(r)
	}
	k.mu.Lock()
	if !k.waiting[r.id] {
		k.mu.Unlock()
		return unix.ENOENT
	}
	delete(k.waiting, r.id)
	k.answered[r.id] = with
	k.mu.Unlock()
	if k.after != nil {
		k.after(r)
	}
	return 0
}

func (k *kernel) answers() map[uint64]result {
	k.mu.Lock()
	defer k.mu.Unlock()
	m := map[uint64]result{}
	for id, r := range k.answered {
		m[id] = r
	}
	return m
}

// dialler makes connections that end when they are told to. Each result is an errno that counts them.
type dialler struct {
	mu        sync.Mutex
	begun     int      // guarded by mu
	cancelled []string // guarded by mu
	release   chan struct{}
}

func (d *dialler) connect(ctx context.Context, path string) result {
	d.mu.Lock()
	d.begun++
	n := d.begun
	d.mu.Unlock()
	select {
	case <-d.release:
	case <-ctx.Done():
		d.mu.Lock()
		d.cancelled = append(d.cancelled, path)
		d.mu.Unlock()
	}
	return result{fd: noFD, errno: unix.Errno(n)}
}

func (d *dialler) counts() (begun int, cancelled []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.begun, slices.Clone(d.cancelled)
}

func ask(id uint64, tid uint32, path string) request { return request{id, tid, wanted{path: path}} }

func TestAttempts_SignalDuringAConnectKeepsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, d := newKernel(1), &dialler{release: make(chan struct{})}
		a := newAttempts(k, d.connect)
		go a.serve(t.Context(), ask(1, 7, "x"))
		synctest.Wait()
		for id := uint64(1); id < 20; id++ { // for longer than a connection is kept for nobody
			k.set(id, false)
			time.Sleep(keepTime / 2)
			k.set(id+1, true)
			go a.serve(t.Context(), ask(id+1, 7, "x"))
			synctest.Wait()
		}
		close(d.release)
		synctest.Wait()
		if got := k.answers(); len(got) != 1 || got[20].errno != 1 {
			t.Errorf("got %v, want the first connection for the last call", got)
		}
		if begun, cancelled := d.counts(); begun != 1 || cancelled != nil || len(a.byThread) != 0 {
			t.Errorf("%d connections, cancelled %q, %d left", begun, cancelled, len(a.byThread))
		}
	})
}

func TestAttempts_ResultThatNobodyTookIsKeptForASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, d := newKernel(), &dialler{release: make(chan struct{})}
		close(d.release)
		a := newAttempts(k, d.connect)
		a.serve(t.Context(), ask(1, 7, "x")) // interrupted before it was connected
		time.Sleep(keepTime / 2)
		k.set(2, true)
		a.serve(t.Context(), ask(2, 7, "x"))
		if got := k.answers(); got[2].errno != 1 {
			t.Errorf("got %v, want the connection that was there", got)
		}
		a.serve(t.Context(), ask(3, 7, "x"))
		time.Sleep(2 * keepTime)
		k.set(4, true)
		a.serve(t.Context(), ask(4, 7, "x"))
		if got := k.answers(); got[4].errno != 3 || len(a.byThread) != 0 {
			t.Errorf("got %v, want a third connection", got)
		}
	})
}

func TestAttempts_DeadThreadsConnectIsCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, d := newKernel(1, 2), &dialler{release: make(chan struct{})}
		a := newAttempts(k, d.connect)
		go a.serve(t.Context(), ask(1, 7, "x"))
		go a.serve(t.Context(), ask(2, 8, "y"))
		synctest.Wait()
		k.set(1, false)
		time.Sleep(keepTime + 3*lookTime)
		synctest.Wait()
		if _, cancelled := d.counts(); !slices.Equal(cancelled, []string{"x"}) {
			t.Errorf("cancelled: got %q, want x alone", cancelled)
		}
		close(d.release)
		synctest.Wait()
		if got := k.answers(); len(got) != 1 || got[2].errno == 0 || len(a.byThread) != 0 {
			t.Errorf("got %v, want an answer for 2", got)
		}
	})
}

func TestAttempts_AnotherPathOfTheThreadGivesUpTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, d := newKernel(1), &dialler{release: make(chan struct{})}
		a := newAttempts(k, d.connect)
		go a.serve(t.Context(), ask(1, 7, "x"))
		synctest.Wait()
		k.set(1, false)
		k.set(2, true)
		go a.serve(t.Context(), ask(2, 7, "y"))
		synctest.Wait()
		if _, cancelled := d.counts(); !slices.Equal(cancelled, []string{"x"}) {
			t.Errorf("cancelled: got %q", cancelled)
		}
		close(d.release)
		synctest.Wait()
		if got := k.answers(); len(got) != 1 || got[2].errno != 2 || len(a.byThread) != 0 {
			t.Errorf("got %v", got)
		}
	})
}

// A thread that has its descriptor may ask for the same again before it is noted here that it has.
func TestAttempts_SameAgainAtOnceIsAnotherConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, d := newKernel(1), &dialler{release: make(chan struct{})}
		close(d.release)
		a := newAttempts(k, d.connect)
		k.after = func(r request) {
			if r.id < 5 {
				k.set(r.id+1, true)
				a.serve(t.Context(), ask(r.id+1, 7, "x")) // before this answer is over
			}
		}
		a.serve(t.Context(), ask(1, 7, "x"))
		got := k.answers()
		for id := uint64(1); id <= 5; id++ {
			if got[id].errno != unix.Errno(id) {
				t.Errorf("call %d: got %v, want a connection of its own", id, got)
			}
		}
		if len(a.byThread) != 0 {
			t.Errorf("left: %v", a.byThread)
		}
	})
}

// The thread is interrupted while it is answered, and asks again before that is noted.
func TestAttempts_RestartDuringTheAnswerGetsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, d := newKernel(1), &dialler{release: make(chan struct{})}
		a := newAttempts(k, func(ctx context.Context, path string) result {
			if begun, _ := d.counts(); begun == 0 {
				d.mu.Lock()
				d.begun++
				d.mu.Unlock()
				return result{fd: noFD, errno: 1} // the first is quick, a second one is not
			}
			return d.connect(ctx, path)
		})
		k.before = func(r request) {
			if r.id == 1 {
				k.set(1, false)
				k.set(2, true)
				go a.serve(t.Context(), ask(2, 7, "x"))
				synctest.Wait()
			}
		}
		a.serve(t.Context(), ask(1, 7, "x"))
		synctest.Wait()
		if got := k.answers(); len(got) != 1 || got[2].errno != 1 || len(a.byThread) != 0 {
			t.Errorf("got %v, want the one connection for the second call", got)
		}
		if begun, cancelled := d.counts(); begun != 2 || len(cancelled) != 1 {
			t.Errorf("%d connections, cancelled %q: want the second one cancelled", begun, cancelled)
		}
	})
}

func TestAttempts_NoDescriptorIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKernel(1)
		var made []*os.File
		a := newAttempts(k, func(context.Context, string) result {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			fd, err := unix.Dup(int(w.Fd()))
			if err != nil {
				t.Fatal(err)
			}
			w.Close()
			made = append(made, r)
			return result{fd: fd}
		})
		a.serve(t.Context(), ask(1, 7, "x")) // given
		a.serve(t.Context(), ask(2, 7, "x")) // nobody waits
		time.Sleep(2 * keepTime)
		a.serve(t.Context(), ask(3, 8, "x"))
		a.serve(t.Context(), ask(4, 8, "y")) // given up for another
		time.Sleep(2 * keepTime)
		synctest.Wait()
		for i, r := range made {
			if n, err := r.Read(make([]byte, 1)); n != 0 || err == nil || err.Error() != "EOF" {
				t.Errorf("connection %d is still open: %d, %v", i, n, err)
			}
			r.Close()
		}
		if len(made) != 4 || len(a.byThread) != 0 {
			t.Errorf("%d connections, %d left", len(made), len(a.byThread))
		}
	})
}
