package fs

import (
	"container/list"
	"sync"
	"time"
)

const (
	rootIno = 1
	// Streams get the small numbers, since people type them; everything else begins here.
	firstOther = 1 << 48

	maxIdle  = 4096 // numbers that are kept though nobody uses them
	maxRaced = 1024
	raceTime = 10 * time.Second
)

// inode is a node that the kernel knows.
type inode struct {
	id     uint64
	parent *inode
	name   string
	node   node

	lookups uint64        // guarded by inodes.mu: how often the kernel was told, less what it forgot
	taken   bool          // guarded by inodes.mu: a stream that has been opened, so its name leads elsewhere now
	stream  any           // guarded by inodes.mu: what a taken stream's open made of it, once it has
	pins    int           // guarded by inodes.mu: how often it is open, if it is one of many
	idle    *list.Element // guarded by inodes.mu: its place among the numbers that nobody uses
}

// place is a name in a folder.
type place struct {
	parent uint64
	name   string
}

// race is what is remembered of a caller who came second to a stream's number.
type race struct {
	at    place
	stale uint64 // the number he was refused
	mine  *inode // the one he was told since then, and nobody else
	when  time.Time
}

// inodes is the table of what the kernel knows.
type inodes struct {
	mu     sync.Mutex
	stream uint64            // guarded by mu: the next number of a stream
	other  uint64            // guarded by mu: the next number of anything else
	byID   map[uint64]*inode // guarded by mu
	byName map[place]*inode  // guarded by mu: what a look-up of the name finds
	raced  map[uint32]*race  // guarded by mu: by thread
	idle   list.List         // guarded by mu: of *inode, the longest unused first
}

func newInodes(root node) *inodes {
	r := &inode{id: rootIno, node: root, lookups: 1}
	r.parent = r
	return &inodes{
		stream: rootIno + 1, other: firstOther,
		byID:   map[uint64]*inode{rootIno: r},
		byName: map[place]*inode{},
		raced:  map[uint32]*race{},
	}
}

func (t *inodes) get(id uint64) *inode {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.byID[id]
}

// lookup returns the number under which the kernel is told of a name, and counts it. fresh: the name leads to a new
// number after each open. passing: the name is one of many that may never be used.
func (t *inodes) lookup(parent *inode, name string, n node, thread uint32, fresh, passing bool) *inode {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := place{parent.id, name}
	ino := t.byName[at]
	if r := t.raced[thread]; fresh && r != nil && r.at == at {
		// The kernel looks up twice, and forgets the first answer in between where the name led elsewhere before.
		if r.mine == nil || t.byID[r.mine.id] != r.mine {
			r.mine = t.make(parent, name, n, true)
		}
		ino = r.mine
	}
	if ino == nil {
		ino = t.make(parent, name, n, fresh)
		t.byName[at] = ino
	}
	ino.lookups++
	if passing {
		t.rest(ino)
	}
	return ino
}

func (t *inodes) make(parent *inode, name string, n node, fresh bool) *inode {
	ino := &inode{parent: parent, name: name, node: n}
	if fresh {
		ino.id = t.stream
		t.stream++
	} else {
		ino.id = t.other
		t.other++
	}
	t.byID[ino.id] = ino
	return ino
}

// rest puts a number at the end of those that nobody uses. When there are too many, the one that was not used for
// longest is forgotten, though the kernel may remember it: the kernel is told ESTALE when it comes back to it, and then
// looks the name up again. (It could be asked to forget a name, but that takes the folder's lock, which a look-up holds
// while it waits for this process: killed at that moment, neither would ever go away.)
func (t *inodes) rest(ino *inode) {
	switch {
	case ino.pins > 0:
	case ino.idle != nil:
		t.idle.MoveToBack(ino.idle)
	default:
		ino.idle = t.idle.PushBack(ino)
		if t.idle.Len() > maxIdle {
			t.drop(t.idle.Front().Value.(*inode))
		}
	}
}

// pin keeps a number while it is open, until the function that it returns is called. nil: it is not one of many.
func (t *inodes) pin(ino *inode) func() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if ino.idle == nil && ino.pins == 0 || t.byID[ino.id] != ino {
		return nil
	}
	t.unrest(ino)
	ino.pins++
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if ino.pins--; ino.pins == 0 && t.byID[ino.id] == ino {
			t.rest(ino)
		}
	}
}

func (t *inodes) unrest(ino *inode) {
	if ino.idle != nil {
		t.idle.Remove(ino.idle)
		ino.idle = nil
	}
}

// forget takes back n of the times that the kernel was told of id.
func (t *inodes) forget(id, n uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	ino := t.byID[id]
	if ino == nil || id == rootIno {
		return
	}
	ino.lookups -= min(n, ino.lookups)
	if ino.lookups == 0 {
		t.drop(ino)
	}
}

// drop removes a number from the table.
func (t *inodes) drop(ino *inode) {
	delete(t.byID, ino.id)
	t.unlist(ino)
	t.unrest(ino)
}

// unlist makes the name lead to something else at the next look-up.
func (t *inodes) unlist(ino *inode) {
	at := place{ino.parent.id, ino.name}
	if t.byName[at] == ino {
		delete(t.byName, at)
	}
}

// unlink forgets that the name leads to a number; open files and the kernel keep the number.
func (t *inodes) unlink(parent *inode, name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.byName, place{parent.id, name})
}

// take claims a stream's number for the caller of an open. ok is false when it has been taken; then shared is what
// its open made of it, if the caller means just that stream and lost no race: he has been refused the same number
// before and has not looked the name up again since, so he opens it through /dev/fd or /proc.
func (t *inodes) take(ino *inode, thread uint32) (shared any, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byID[ino.id] != ino {
		return nil, false // forgotten since it was found
	}
	r := t.raced[thread]
	if !ino.taken {
		ino.taken = true
		t.unlist(ino)
		t.unrest(ino)
		if r != nil && r.mine == ino {
			delete(t.raced, thread)
		}
		return nil, true
	}
	if r != nil && r.stale == ino.id && r.mine == nil && ino.stream != nil {
		delete(t.raced, thread)
		return ino.stream, false
	}
	now := time.Now()
	if len(t.raced) >= maxRaced {
		for k, old := range t.raced {
			if now.Sub(old.when) > raceTime {
				delete(t.raced, k)
			}
		}
	}
	if len(t.raced) < maxRaced {
		t.raced[thread] = &race{at: place{ino.parent.id, ino.name}, stale: ino.id, when: now}
	}
	return nil, false
}

// opened notes what the open of a taken number made of it; nil when it failed or its last file is closed.
func (t *inodes) opened(ino *inode, stream any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	ino.stream = stream
	if stream == nil && t.byID[ino.id] == ino {
		t.rest(ino)
	}
}

func (t *inodes) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.byID)
}
