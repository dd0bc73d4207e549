package group

import (
	"errors"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/convoke-fs/convoke/cluster/ring"
)

// The kinds of entries that this package has in the log.
const (
	KindMulticast ring.Kind = iota + 1 // by a member
	KindSend                           // by somebody who is none
	KindJoin
	KindLeave
	KindGroup // mkdir, rmdir, chmod, chown, mode, evict
)

// Limits of what may be asked for.
const (
	MaxMessage = 1 << 20 // bytes of one message
	MaxName    = 128     // bytes of a group's name, which may be any bytes
)

// Order is the log as this package uses it. Submit may be called from any
// goroutine and never waits: the error is syscall.EAGAIN when there is no room
// for a message; control entries (joins, leaves, groups) always find room. After
// an EAGAIN it calls Groups.Room when there is room again. Submit may call
// Deliver and Flush before it returns, and owns data from then on.
type Order interface {
	Submit(kind ring.Kind, data []byte) error
}

// Config is what Groups are made with.
type Config struct {
	Self  ring.NK // required
	Order Order   // required
	// Name gives the name of a node, for people; "" if it is not known. Optional.
	// It is called without a lock.
	Name func(id uint32) string
	// PutOut is told of each member that was put out because it did not read, and
	// why, in words. Optional. It is called without a lock and must not block.
	PutOut func(group string, p Process, uid uint32, why string)
}

// Groups are all process groups, as this node sees them at its position of the
// log, and the members that are processes of this node.
type Groups struct {
	conf Config

	// The engine's: it changes the table with mu held, and reads it without.
	mu    sync.RWMutex
	table *table // mu
	view  Record // the ring record of the view; used by the engine's calls only

	lmu    sync.Mutex
	feeds  map[string]*feed   // lmu; of the groups with members on this node
	locals map[uint32]*Member // lmu; by incarnation: from the call of Join to the place of the leave in the log
	byUID  map[uint32]int     // lmu; locals of a user
	inc    uint32             // lmu; the last one given
	calls  map[uint32]*call   // lmu; other calls whose entry is on its way
	callID uint32             // lmu; the last number given
	asked  map[uint32]int     // lmu; calls of a user
	closed bool               // lmu

	wmu     sync.Mutex
	wake    []*waker    // wmu; to be told by Flush
	spare   []*waker    // wmu; wake's other array
	waiting []*waker    // wmu; to be told by Room
	leaves  []leaveNote // wmu; to be submitted by Flush
	out     []outNote   // wmu; to be told by Flush

	quorate atomic.Bool   // the ring is a quorum
	full    atomic.Bool   // the last Submit found no room
	queued  atomic.Int64  // bytes that wait for members, those of one group once
	pushed  int64         // bytes put into feeds; used by the engine's calls only
	checked int64         // pushed when the users' shares were looked at last
	scan    atomic.Bool   // a scan for members that do not read is due
	putOut  atomic.Uint64 // how many were
}

// leaveNote is a leave that waits to be submitted.
type leaveNote struct {
	inc    uint32
	reason Reason
}

// outNote is a member that was put out and that nobody was told of.
type outNote struct {
	m   *Member
	why string
}

// New gives groups without any group.
func New(c Config) *Groups {
	return &Groups{
		conf:   c,
		table:  newTable(),
		feeds:  make(map[string]*feed),
		locals: make(map[uint32]*Member),
		byUID:  make(map[uint32]int),
		calls:  make(map[uint32]*call),
		asked:  make(map[uint32]int),
	}
}

// Close ends all calls that wait, with ESHUTDOWN, and gives all members of this
// node the end of file. It orders nothing: that the node is gone says the same.
func (g *Groups) Close() {
	g.end(true)
	g.Room()
	g.Flush()
}

// Reset makes this node another one, with the key self, and without any group:
// calls that wait end with ESHUTDOWN, and members of this node get the end of
// file, as if it had been started anew. It is the engine's, as Install is.
func (g *Groups) Reset(self ring.NK) {
	g.end(false)
	g.mu.Lock()
	g.lmu.Lock()
	g.conf.Self = self // read by the engine's calls and with lmu
	g.lmu.Unlock()
	g.table = newTable()
	g.mu.Unlock()
	g.view = Record{}
}

// end ends everything of this node's processes.
func (g *Groups) end(closed bool) {
	g.lmu.Lock()
	defer g.lmu.Unlock()
	g.closed = closed
	for _, m := range g.locals {
		m.decide(syscall.ESHUTDOWN)
	}
	for _, c := range g.calls {
		c.decide(syscall.ESHUTDOWN)
	}
	for _, f := range g.feeds {
		f.mu.Lock()
		for len(f.members) > 0 {
			m := f.members[0]
			f.detach(m)
			g.notify(&m.waker)
		}
		f.mu.Unlock()
	}
	clear(g.locals)
	clear(g.calls)
	clear(g.feeds)
	clear(g.byUID)
	clear(g.asked)
}

// Flush submits what the calls before it could not, and wakes those for whom
// they had something. The engine calls it without a lock of its own after each
// Deliver, Install and State; it may be called at any time by several.
func (g *Groups) Flush() {
	g.wmu.Lock()
	wake, leaves, out := g.wake, g.leaves, g.out
	g.wake, g.leaves, g.out = g.spare, nil, nil
	g.spare = nil
	g.wmu.Unlock()

	for i, l := range leaves {
		if g.submitLeave(l) != nil {
			g.wmu.Lock()
			g.leaves = append(g.leaves, leaves[i:]...)
			g.wmu.Unlock()
			break
		}
	}
	for i, w := range wake {
		w.call()
		wake[i] = nil
	}
	for _, o := range out {
		if g.conf.PutOut != nil {
			g.conf.PutOut(o.m.feed.name, o.m.ID(), o.m.caller.UID, o.why)
		}
	}

	g.wmu.Lock()
	if g.spare == nil && cap(wake) <= 1024 {
		g.spare = wake[:0]
	}
	g.wmu.Unlock()
}

func (g *Groups) submitLeave(l leaveNote) error {
	o := op{id: l.inc, reason: l.reason}
	return g.conf.Order.Submit(KindLeave, o.append(KindLeave, nil))
}

// Room wakes all senders that found no room. The engine calls it without a lock
// of its own when there is room in the order again after an EAGAIN.
func (g *Groups) Room() {
	g.full.Store(false)
	g.wmu.Lock()
	waiting := g.waiting
	g.waiting = nil
	for _, w := range waiting {
		w.waiting = false
	}
	g.wmu.Unlock()
	for _, w := range waiting {
		w.call()
	}
}

// submit is Submit of a message. On EAGAIN w is told when there is room.
func (g *Groups) submit(w *waker, k ring.Kind, payload []byte) error {
	err := g.conf.Order.Submit(k, payload)
	if !errors.Is(err, syscall.EAGAIN) {
		return err
	}
	g.wmu.Lock()
	if !w.waiting {
		w.waiting = true
		g.waiting = append(g.waiting, w)
	}
	g.wmu.Unlock()
	g.full.Store(true)
	// There may have been room, and a call of Room, before w was in the list.
	if err = g.conf.Order.Submit(k, payload); errors.Is(err, syscall.EAGAIN) {
		return syscall.EAGAIN // as it is, since callers meet it often
	}
	g.full.Store(false)
	return err
}

// notify has Flush call w.
func (g *Groups) notify(w ...*waker) {
	g.wmu.Lock()
	g.wake = append(g.wake, w...)
	g.wmu.Unlock()
}

// waker is who can be told of something.
type waker struct {
	f       atomic.Pointer[func()]
	waiting bool // Groups.wmu; in Groups.waiting
}

func (w *waker) set(f func()) {
	if f == nil {
		w.f.Store(nil)
		return
	}
	w.f.Store(&f)
}

func (w *waker) call() {
	if f := w.f.Load(); f != nil {
		(*f)()
	}
}
