package rendezvous

import (
	"sync"

	"golang.org/x/sys/unix"
)

// budget bounds what all announcements of one user hold, and those of all users together. Root has no limit of his own,
// and so much of mostAll that only his announcements may have it.
type budget struct {
	mostAll, mostUser, forRoot int

	mu     sync.Mutex
	all    int            // guarded by mu
	byUser map[uint32]int // guarded by mu
}

// newWaitingBudget counts clients that wait: each is a descriptor of this process, which may have so many. All of them
// have a quarter of these at most, and one user half of that quarter.
func newWaitingBudget(files uint64) *budget {
	all := int(min(files/4, 1<<20))
	return newBudget(all, min(4*MaxWaiting, all/2))
}

func newBudget(all, user int) *budget {
	return &budget{mostAll: all, mostUser: user, forRoot: all / 4, byUser: map[uint32]int{}}
}

// maxFiles is how many descriptors this process may have.
func maxFiles() uint64 {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 1024
	}
	return limit.Cur
}

// newDatagramBudget counts bytes of datagrams that nobody has read.
func newDatagramBudget() *budget {
	return newBudget(64<<20, 16<<20)
}

// take adds n to what is held for uid, or returns false where that is too much.
func (b *budget) take(uid uint32, n int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	others := b.all - b.byUser[0]
	if b.all+n > b.mostAll || uid != 0 && (b.byUser[uid]+n > b.mostUser || others+n > b.mostAll-b.forRoot) {
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
