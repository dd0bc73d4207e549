package engine

import (
	"sync"
	"time"

	"github.com/convoke-fs/convoke/cluster/ring"
)

// disk makes ceilings durable, the newest first, and tries again for as long as
// that fails. The ring does not change meanwhile; what it carries goes on.
type disk struct {
	mu      sync.Mutex
	want    uint64 // mu
	done    uint64 // of the goroutine
	more    chan struct{}
	stop    chan struct{}
	running sync.WaitGroup
}

func (d *disk) start(save func(uint64) error, durable func(uint64), failed func(error)) {
	d.more, d.stop = make(chan struct{}, 1), make(chan struct{})
	d.running.Go(func() { d.run(save, durable, failed) })
}

func (d *disk) save(ceiling uint64) {
	d.mu.Lock()
	d.want = max(d.want, ceiling)
	d.mu.Unlock()
	select {
	case d.more <- struct{}{}:
	default:
	}
}

func (d *disk) run(save func(uint64) error, durable func(uint64), failed func(error)) {
	told := false
	for {
		select {
		case <-d.stop:
			return
		case <-d.more:
		}
		for {
			d.mu.Lock()
			want := d.want
			d.mu.Unlock()
			if want <= d.done {
				break
			}
			if err := save(want); err != nil {
				if !told {
					failed(err)
				}
				told = true
				select {
				case <-d.stop:
					return
				case <-time.After(saveRetry):
				}
				continue
			}
			told = false
			d.done = want
			durable(want)
		}
	}
}

func (d *disk) close() {
	close(d.stop)
	d.running.Wait()
}

// durable tells the core what is on disk.
func (e *Engine) durable(ceiling uint64) {
	e.mu.Lock()
	e.step(ring.Durable{Ceiling: ceiling})
	e.unlock()
}
