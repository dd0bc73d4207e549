package kernel

import (
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
)

// waker is a harness whose wakes are served by their goroutine too, until the test's end.
func waker(t *testing.T) *harness {
	h := newHarness(t)
	var wg sync.WaitGroup
	wg.Go(func() { h.s.wakes.serve(h.s.getReply()) })
	t.Cleanup(func() { h.s.wakes.stop(); wg.Wait() })
	return h
}

func TestWakeSoon_AReaderServesWhatItHasWoken(t *testing.T) {
	h := newHarness(t) // and nobody else
	p, e := h.pipe(10)
	fh := h.open(e, syscall.O_RDWR)
	a := h.read(fh, 10, 0)
	h.want()
	q, f := h.pipe(10)
	fh = h.open(f, syscall.O_RDWR)
	q.written = func() { p.set(func() { p.in = []byte("x") }); e.WakeSoon(); e.WakeSoon() }
	b := h.write(fh, "abc", 0)
	h.want(fmt.Sprintf("%d 0 #3", b), fmt.Sprintf("%d 0 x", a)) // the writer first
}

func TestWakeSoon_ManyAreLeftToTheGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := waker(t)
		synctest.Wait() // it waits
		var want []string
		var woken []*Endpoint
		for range maxHelp + 1 {
			p, e := h.pipe(0)
			fh := h.open(e, syscall.O_RDWR)
			want = append(want, fmt.Sprintf("%d 0 x", h.read(fh, 10, 0)))
			p.set(func() { p.in = []byte("x") })
			woken = append(woken, e)
		}
		h.s.wakes.begin()
		for _, e := range woken {
			e.WakeSoon()
		}
		synctest.Wait()
		h.want() // the reader is going to look
		h.s.wakes.help(h.r.out)
		synctest.Wait()
		h.want(want...)
	})
}

func TestWakeSoon_AReaderThatGoesAsideLeavesItsWakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := waker(t)
		synctest.Wait() // it waits
		p, e := h.pipe(0)
		a := h.read(h.open(e, syscall.O_RDWR), 10, 0)
		p.set(func() { p.in = []byte("x") })
		h.s.wakes.begin()
		e.WakeSoon()
		h.s.wakes.leave()
		synctest.Wait()
		h.want(fmt.Sprintf("%d 0 x", a))
		p.set(func() { p.in = []byte("y") })
		b := h.read(h.s.files.next-1, 10, 0)
		c := h.read(h.s.files.next-1, 10, 0)
		h.want(fmt.Sprintf("%d 0 y", b))
		p.set(func() { p.in = []byte("z") })
		e.WakeSoon() // nobody is busy
		synctest.Wait()
		h.want(fmt.Sprintf("%d 0 z", c))
	})
}

// Whatever readers and others do at once, what is woken is served.
func TestWakeSoon_NoneIsLost(t *testing.T) {
	h := waker(t)
	const endpoints, rounds = 3, 2000
	var served atomic.Int64
	var wg sync.WaitGroup
	for i := range endpoints {
		st := &countdown{left: make(chan bool, 1)}
		e := h.s.NewEndpoint(st)
		e.pollers = map[uint64]struct{}{}
		wg.Go(func() {
			buf := h.s.getReply()
			for n := range rounds {
				st.ready.Store(true)
				if (n+i)%2 == 0 {
					h.s.wakes.begin()
					e.WakeSoon()
					h.s.wakes.help(buf)
				} else {
					e.WakeSoon()
				}
				<-st.left // or the test hangs
				served.Add(1)
			}
		})
		e.rmu.Lock()
		e.reads.push(&parked{e: e, size: 1})
		e.rmu.Unlock()
	}
	wg.Wait()
	if n := served.Load(); n != endpoints*rounds {
		t.Errorf("%d were served, want %d", n, endpoints*rounds)
	}
}

// countdown is a stream of which each wake is told, and which never has anything for the read that is parked.
type countdown struct {
	pipe
	ready atomic.Bool
	left  chan bool
}

func (c *countdown) Read([]byte) (int, syscall.Errno) {
	if c.ready.CompareAndSwap(true, false) {
		c.left <- true
	}
	return 0, syscall.EAGAIN
}
