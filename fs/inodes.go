package fs

import (
	"container/list"
	"context"
	"slices"
	"sync"
	"time"
)

const (
	rootIno = 1
	// Streams get the small numbers, since people type them; everything else begins here.
	firstOther = 1 << 48

	maxIdle  = 4096 // numbers of one user that are kept though nobody uses them
	maxRaced = 4096 // races of one user that are remembered: of so many threads that open one name at once, none fails
)

// inode is a node that the kernel knows.
type inode struct {
	id     uint64
	parent *inode
	name   string
	node   node
	uid    uint32 // who looked it up first

	lookups uint64        // guarded by inodes.mu: how often the kernel was told, less what it forgot
	taken   bool          // guarded by inodes.mu: a stream that has been opened, so its name leads elsewhere now or soon
	seen    int           // guarded by inodes.mu: a stream's look-ups that no open has followed
	last    time.Time     // guarded by inodes.mu: when a stream was looked up last
	stream  any           // guarded by inodes.mu: what a taken stream's open made of it, once it has
	pins    int           // guarded by inodes.mu: how often it is open
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
	uid   uint32
	stale uint64 // the number he was refused
	mine  *inode // the one he was told since then, and nobody else
	when  time.Time
}

// A turn is who of a user's threads that lost a race for a name may look it up again, and which wait for that.
type turn struct {
	pid  uint32 // whose it is
	end  *time.Timer
	next []waiter
}

// queue is where the threads of one user wait that lost a race for one name: nobody waits for another user.
type queue struct {
	place
	uid uint32
}

type waiter struct {
	pid  uint32
	turn chan struct{} // closed when it is his
}

// inodes is the table of what the kernel knows.
type inodes struct {
	mu     sync.Mutex
	stream uint64                // guarded by mu: the next number of a stream
	other  uint64                // guarded by mu: the next number of anything else
	byID   map[uint64]*inode     // guarded by mu
	byName map[place]*inode      // guarded by mu: what a look-up of the name finds
	raced  map[uint32]*race      // guarded by mu: by thread
	turns  map[queue]*turn       // guarded by mu
	idle   map[uint32]*list.List // guarded by mu: of *inode, by uid, the longest unused first
}

func newInodes(root node) *inodes {
	r := &inode{id: rootIno, node: root, lookups: 1}
	r.parent = r
	return &inodes{
		stream: rootIno + 1, other: firstOther,
		byID:   map[uint64]*inode{rootIno: r},
		byName: map[place]*inode{},
		raced:  map[uint32]*race{},
		turns:  map[queue]*turn{},
		idle:   map[uint32]*list.List{},
	}
}

func (t *inodes) get(id uint64) *inode {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.byID[id]
}

// lookup returns the number under which the kernel is told of a name, and counts it. fresh: the name leads to a new
// number after each open. passing: the name is one of many that may never be used.
func (t *inodes) lookup(parent *inode, name string, n node, c caller, fresh, passing bool) *inode {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := place{parent.id, name}
	ino := t.byName[at]
	s, isSocket := n.(*socketNode)
	switch {
	case isSocket:
		// Not by the name: NAME,sock is the socket NAME too, and the kernel knows a bound socket by its number.
		ino = s.inode
		if ino != nil && t.byID[ino.id] != ino {
			ino = nil
		}
	case ino != nil && (replaced(ino.node, n) || ino.taken && !ino.crowded()):
		ino = nil
	}
	if r := t.raced[c.pid]; fresh && r != nil && r.at == at {
		// The kernel looks up twice, and forgets the first answer in between where the name led elsewhere before.
		if r.mine == nil || t.byID[r.mine.id] != r.mine {
			r.mine = t.make(parent, name, n, c.uid, true)
		}
		ino = r.mine
	}
	if ino == nil {
		ino = t.make(parent, name, n, c.uid, fresh)
		t.byName[at] = ino
		if isSocket {
			s.inode = ino
		}
	}
	ino.lookups++
	if fresh {
		ino.seen++
		ino.last = time.Now()
	}
	if passing && !ino.taken {
		t.rest(ino)
	}
	if parent.idle != nil {
		t.rest(parent) // in use, by him who looks into it
	}
	return ino
}

const (
	crowd     = 8                     // look-ups without an open that tell of a crowd
	crowdTime = 10 * time.Millisecond // how long after the last of them
)

// crowded tells whether many are about to open the same number. They are told it all, though one has taken it: were its
// name to lead to another number as soon as one is opened, all those who are still looking it up would begin anew, each
// time.
func (i *inode) crowded() bool { return i.seen >= crowd && time.Since(i.last) < crowdTime }

// replaced tells whether a name that led to old leads to something else now: a socket, another socket, or no socket any
// more. All other names keep their meaning.
func replaced(old, n node) bool {
	_, was := old.(*socketNode)
	_, is := n.(*socketNode)
	return (was || is) && old != n
}

// number returns a number that no stream has, nor ever will.
func (t *inodes) number() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stream++
	return t.stream - 1
}

func (t *inodes) make(parent *inode, name string, n node, uid uint32, fresh bool) *inode {
	ino := &inode{parent: parent, name: name, node: n, uid: uid}
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

// rest puts a number at the end of those that nobody uses. When a user has looked up too many, the one of them that was
// not used for longest is forgotten, though the kernel may remember it: the kernel is told ESTALE when it comes back to it, and then
// looks the name up again. (It could be asked to forget a name, but that takes the folder's lock, which a look-up holds
// while it waits for this process: killed at that moment, neither would ever go away.)
func (t *inodes) rest(ino *inode) {
	switch {
	case ino.pins > 0:
	case ino.idle != nil:
		t.idle[ino.uid].MoveToBack(ino.idle)
	default:
		l := t.idle[ino.uid]
		if l == nil {
			l = list.New()
			t.idle[ino.uid] = l
		}
		ino.idle = l.PushBack(ino)
		if l.Len() > maxIdle {
			t.drop(l.Front().Value.(*inode))
		}
	}
}

// pin keeps a number, and the stream that is open under it, until the function that it returns is called. nil: it is
// kept anyway.
func (t *inodes) pin(ino *inode) func() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !ino.taken && ino.idle == nil && ino.pins == 0 || t.byID[ino.id] != ino {
		return nil
	}
	t.unrest(ino)
	ino.pins++
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if ino.pins--; ino.pins == 0 {
			ino.stream = nil
			if t.byID[ino.id] == ino {
				t.rest(ino)
			}
		}
	}
}

func (t *inodes) unrest(ino *inode) {
	if ino.idle != nil {
		l := t.idle[ino.uid]
		l.Remove(ino.idle)
		ino.idle = nil
		if l.Len() == 0 {
			delete(t.idle, ino.uid)
		}
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
func (t *inodes) take(ino *inode, c caller) (shared any, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byID[ino.id] != ino {
		return nil, false // forgotten since it was found
	}
	r := t.raced[c.pid]
	if ino.seen > 0 {
		ino.seen--
	}
	if !ino.taken {
		ino.taken = true
		if !ino.crowded() {
			t.unlist(ino)
		}
		t.unrest(ino)
		if r != nil && r.mine == ino {
			delete(t.raced, c.pid)
		}
		t.endTurn(queue{place{ino.parent.id, ino.name}, c.uid}, c.pid)
		return nil, true
	}
	if r != nil && r.stale == ino.id && r.mine == nil && ino.stream != nil {
		delete(t.raced, c.pid)
		return ino.stream, false
	}
	t.lost(c, &race{at: place{ino.parent.id, ino.name}, uid: c.uid, stale: ino.id, when: time.Now()})
	return nil, false
}

const (
	// maxTurn is how long those who lost a race wait for one of them who does not come again.
	maxTurn = 100 * time.Millisecond
	// maxQueue is how many wait at the most. More of them race, and one who loses twice is told ESTALE: so many threads are
	// no accident.
	maxQueue = maxRaced
)

// await waits until c, who has lost a race for ino's name, may be told so and look the name up again. One does at a time:
// all at once they would race again, each with each, and of a thousand each would look it up hundreds of times. It
// returns early when ctx ends.
func (t *inodes) await(ctx context.Context, ino *inode, c caller) {
	at := queue{place{ino.parent.id, ino.name}, c.uid}
	t.mu.Lock()
	t.endTurn(at, c.pid) // he had one, and lost again
	u := t.turns[at]
	if u == nil {
		u = &turn{pid: c.pid}
		u.end = time.AfterFunc(maxTurn, func() { t.expire(at, u) })
		t.turns[at] = u
		t.mu.Unlock()
		return
	}
	if len(u.next) >= maxQueue {
		t.mu.Unlock()
		return
	}
	w := waiter{c.pid, make(chan struct{})}
	u.next = append(u.next, w)
	t.mu.Unlock()
	select {
	case <-w.turn:
	case <-ctx.Done():
		t.mu.Lock()
		defer t.mu.Unlock()
		if i := slices.Index(u.next, w); i >= 0 {
			u.next = slices.Delete(u.next, i, i+1)
		} else {
			t.endTurn(at, c.pid) // it has just become his
		}
	}
}

// expire gives a turn away that was not used.
func (t *inodes) expire(at queue, u *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.turns[at] == u {
		t.pass(at, u)
	}
}

// endTurn gives the turn of the thread pid, if it has it, to the next one; mu is held.
func (t *inodes) endTurn(at queue, pid uint32) {
	if u := t.turns[at]; u != nil && u.pid == pid {
		t.pass(at, u)
	}
}

// pass gives a turn to the next one; mu is held.
func (t *inodes) pass(at queue, u *turn) {
	if len(u.next) == 0 {
		u.end.Stop()
		delete(t.turns, at)
		return
	}
	u.pid = u.next[0].pid
	close(u.next[0].turn)
	u.next = u.next[1:]
	u.end.Reset(maxTurn)
}

// lost remembers a race. Of one user only so many are remembered: his oldest one goes for his newest.
func (t *inodes) lost(c caller, r *race) {
	if len(t.raced) >= maxRaced {
		var oldest *race
		var thread uint32
		own := 0
		for k, old := range t.raced {
			if old.uid == c.uid {
				own++
				if oldest == nil || old.when.Before(oldest.when) {
					oldest, thread = old, k
				}
			}
		}
		if own >= maxRaced {
			delete(t.raced, thread)
		}
	}
	t.raced[c.pid] = r
}

// opened notes what the open of a taken number made of it; nil when it failed.
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
