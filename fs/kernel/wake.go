package kernel

import "sync"

// wakes is the list of endpoints whose stream, one that is no socket, has something new. A goroutine of its own serves
// them, so that whoever posts an event to a thousand readers waits for none of them, and holds what locks he likes.
type wakes struct {
	mu      sync.Mutex
	cond    sync.Cond
	list    []*Endpoint // guarded by mu
	stopped bool        // guarded by mu
}

func (w *wakes) init() { w.cond.L = &w.mu }

// WakeSoon is Wake on another goroutine. It may be called with any lock held, and as often as one likes.
func (e *Endpoint) WakeSoon() {
	w := &e.s.wakes
	w.mu.Lock()
	if !e.waking {
		e.waking = true
		w.list = append(w.list, e)
		w.cond.Signal()
	}
	w.mu.Unlock()
}

func (w *wakes) serve(buf []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		for len(w.list) == 0 {
			if w.stopped {
				return
			}
			w.cond.Wait()
		}
		batch := w.list
		w.list = nil
		for _, e := range batch {
			e.waking = false // before it is served: what comes from now on puts it on the list again
		}
		w.mu.Unlock()
		for _, e := range batch {
			e.serve(buf, true, true)
		}
		w.mu.Lock()
	}
}

func (w *wakes) stop() {
	w.mu.Lock()
	w.stopped = true
	w.cond.Signal()
	w.mu.Unlock()
}
