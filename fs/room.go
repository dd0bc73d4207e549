package fs

import (
	"sync"
	"time"

	"github.com/convoke-fs/convoke/fs/kernel"
)

// lookForRoom is how often it is looked whether there is room, for one who polls while there is none.
const lookForRoom = 20 * time.Millisecond

// roomTimer has it looked again whether there is room for a message. A group tells those whose message found none, and who
// polls has written nothing. The zero value is ready.
type roomTimer struct {
	mu      sync.Mutex
	timer   *time.Timer // guarded by mu; nil before there was no room
	stopped bool        // guarded by mu
}

// poll gives PollOut if there is room; else e is woken in a moment, to look again.
func (r *roomTimer) poll(s interface{ Room() bool }, e *kernel.Endpoint) uint32 {
	if s.Room() {
		return kernel.PollOut
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.stopped:
	case r.timer == nil:
		r.timer = time.AfterFunc(lookForRoom, e.WakeSoon)
	default:
		r.timer.Reset(lookForRoom)
	}
	return 0
}

func (r *roomTimer) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopped = true
	if r.timer != nil {
		r.timer.Stop()
	}
}
