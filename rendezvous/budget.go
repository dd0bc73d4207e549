package rendezvous

import (
	"sync"

	"golang.org/x/sys/unix"
)

// budget bounds what all announcements of one user hold, and those of all users together.
type budget struct {
	mostAll, mostUser int // root has no limit of his own

	mu     sync.Mutex
	all    int            // guarded by mu
	byUser map[uint32]int // guarded by mu
}

// newWaitingBudget counts clients that wait: each is a descriptor of this process. All of them have a quarter of its
// descriptors at most.
func newWaitingBudget() *budget {
	b := &budget{mostAll: 4 * MaxWaiting, mostUser: 4 * MaxWaiting, byUser: map[uint32]int{}}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err == nil {
		b.mostAll = int(min(limit.Cur/4, 1<<20))
	}
	return b
}

// newDatagramBudget counts bytes of datagrams that nobody has read.
func newDatagramBudget() *budget {
	return &budget{mostAll: 64 << 20, mostUser: 16 << 20, byUser: map[uint32]int{}}
}

// take adds n to what is held for uid, or returns false where that is too much.
func (b *budget) take(uid uint32, n int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.all+n > b.mostAll || uid != 0 && b.byUser[uid]+n > b.mostUser {
		return false
	}
	b.all += n
	b.byUser[uid] += n
	return true
}

// give takes n back.
func (b *budget) give(uid uint32, n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all -= n
	if b.byUser[uid] -= n; b.byUser[uid] == 0 {
		delete(b.byUser, uid)
	}
}
