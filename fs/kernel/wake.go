package kernel

import (
	"sync"
	"sync/atomic"
)

// maxHelp is how many endpoints a reader serves in passing.
const maxHelp = 4

// wakes is the list of endpoints whose stream, one that is no socket, has something new. A goroutine of its own serves
// them, so that whoever posts an event to a thousand readers waits for none of them, and holds what locks he likes.
//
// Often it is a reader of /dev/fuse that has put them there, with a message that one process has written and another waits
// for. Then it serves them itself as soon as it has answered its request: to wake another thread for that would take longer,
// and all of that before the answer.
type wakes struct {
	busy atomic.Int32 // readers that will have a look at the list when they have answered a request

	mu      sync.Mutex
	cond    sync.Cond
	list    []*Endpoint // guarded by mu
	spare   []*Endpoint // guarded by mu: list's other array
	stopped bool        // guarded by mu
}

func (w *wakes) init() { w.cond.L = &w.mu }

// WakeSoon is Wake on another goroutine, or on this one a little later. It may be called with any lock held, and as often
// as one likes.
func (e *Endpoint) WakeSoon() {
	w := &e.s.wakes
	w.mu.Lock()
	defer w.mu.Unlock()
	if e.waking {
		return
	}
	e.waking = true
	w.list = append(w.list, e)
	if w.busy.Load() == 0 {
		w.cond.Signal()
	}
}

// take takes the list if it is no longer than most; mu is held. What is put on it from now on is not in what it returns.
func (w *wakes) take(most int) []*Endpoint {
	if len(w.list) == 0 || len(w.list) > most {
		return nil
	}
	batch := w.list
	w.list, w.spare = w.spare[:0], nil
	for _, e := range batch {
		e.waking = false
	}
	return batch
}

// give takes back the array of a list that was served; mu is held.
func (w *wakes) give(batch []*Endpoint) {
	clear(batch)
	if cap(batch) <= 1024 {
		w.spare = batch
	}
}

// begin says that a reader answers a request, and will then call help.
func (w *wakes) begin() { w.busy.Add(1) }

// leave takes back begin: the reader is about to wait for something else.
func (w *wakes) leave() {
	w.busy.Add(-1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.list) > 0 {
		w.cond.Signal()
	}
}

// help ends what begin has begun, and serves what is on the list, or leaves it to the goroutine if that is much.
func (w *wakes) help(buf []byte) {
	w.busy.Add(-1) // before the look: who puts something on the list later finds nobody busy, or another one
	w.mu.Lock()
	batch := w.take(maxHelp)
	if batch == nil {
		if len(w.list) > 0 {
			w.cond.Signal()
		}
		w.mu.Unlock()
		return
	}
	w.mu.Unlock()
	for _, e := range batch {
		e.serve(buf, true, true)
	}
	w.mu.Lock()
	w.give(batch)
	w.mu.Unlock()
}

func (w *wakes) serve(buf []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		batch := w.take(len(w.list))
		if batch == nil {
			if w.stopped {
				return
			}
			w.cond.Wait()
			continue
		}
		w.mu.Unlock()
		for _, e := range batch {
			e.serve(buf, true, true)
		}
		w.mu.Lock()
		w.give(batch)
	}
}

func (w *wakes) stop() {
	w.mu.Lock()
	w.stopped = true
	w.cond.Signal()
	w.mu.Unlock()
}
