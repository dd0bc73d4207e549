package ipc

import (
	"sync"
	"sync/atomic"
)

// feedCork gathers the notices of memberships while messages are submitted one by one: else each message would be a
// system call, and a wake-up, for each member on this node. Who submits calls begin, and end at once when it is done or
// has to wait.
type feedCork struct {
	open atomic.Int32 // batches that have begun and not ended

	mu   sync.Mutex
	held []*feed // guarded by mu; those that are flushed at the end
	free []*feed // guarded by mu; memory for held
}

func (c *feedCork) begin() { c.open.Add(1) }

func (c *feedCork) end() {
	c.open.Add(-1)
	c.drain()
}

// hold keeps f for the end of a batch. It reports false where there is no batch.
func (c *feedCork) hold(f *feed) bool {
	if c.open.Load() == 0 {
		return false
	}
	if f.out.held.Swap(true) {
		return true // whoever takes it out forgets that first, and then looks what there is
	}
	c.mu.Lock()
	c.held = append(c.held, f)
	c.mu.Unlock()
	if c.open.Load() == 0 {
		c.drain() // the batch has ended meanwhile, perhaps before f was there
	}
	return true
}

func (c *feedCork) drain() {
	for {
		c.mu.Lock()
		list := c.held
		if len(list) == 0 {
			c.mu.Unlock()
			return
		}
		c.held, c.free = c.free[:0], nil
		c.mu.Unlock()
		for i, f := range list {
			list[i] = nil
			f.out.held.Store(false)
			f.flush()
		}
		c.mu.Lock()
		c.free = list[:0]
		c.mu.Unlock()
	}
}

// feedWholes is how many large messages of one user may be half received at a time; a client whose user has so many
// is read no further until one is complete. root is not bounded.
const feedWholes = 64

// feedBudgets bound the memory that a user's clients can fill with messages that they do not complete.
type feedBudgets struct {
	mu    sync.Mutex
	users map[uint32]*feedBudget // guarded by mu
}

// feedBudget is that of one user. The nil one, and that of root, have no places.
type feedBudget struct {
	of     *feedBudgets
	uid    uint32
	places chan struct{} // holds one for each such message
	refs   int           // guarded by of.mu
}

var rootBudget = &feedBudget{}

// take waits for a place. It returns nil when done is closed before.
func (s *feedBudgets) take(uid uint32, done <-chan struct{}) *feedBudget {
	if uid == 0 {
		return rootBudget
	}
	s.mu.Lock()
	b := s.users[uid]
	if b == nil {
		if s.users == nil {
			s.users = map[uint32]*feedBudget{}
		}
		b = &feedBudget{of: s, uid: uid, places: make(chan struct{}, feedWholes)}
		s.users[uid] = b
	}
	b.refs++
	s.mu.Unlock()
	select {
	case b.places <- struct{}{}:
		return b
	case <-done:
		b.forget()
		return nil
	}
}

// give gives the place back.
func (b *feedBudget) give() {
	if b != nil && b.places != nil {
		<-b.places
		b.forget()
	}
}

func (b *feedBudget) forget() {
	b.of.mu.Lock()
	defer b.of.mu.Unlock()
	if b.refs--; b.refs == 0 {
		delete(b.of.users, b.uid)
	}
}
