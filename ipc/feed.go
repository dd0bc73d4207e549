package ipc

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// feedBuffer is how much of what a client sends is read at once.
	feedBuffer = 256 << 10
	// feedWhole is the size from which on a message that has not come whole gets memory of its own, which the group then
	// keeps. Smaller ones are put together in the next buffer.
	feedWhole = 32 << 10
	// feedSpare is how much room there is behind such a message for what the group adds to it.
	feedSpare = 512
	// feedBatch is how many messages may be submitted before those for whom they are get them.
	feedBatch = 128
)

// feed is the daemon's end of the stream of one membership. A goroutine reads what the client sends; what the client is
// to get is written by whoever has the news, see feedout.go. A feed at rest holds a goroutine and no buffers.
type feed struct {
	s    *Server
	m    Membership
	uid  uint32
	file *os.File // owns the socket, which is in Go's poller
	raw  syscall.RawConn

	ended atomic.Bool
	done  chan struct{} // closed when it has ended

	waits atomic.Bool   // the reader waits for room
	room  chan struct{} // has room for one: there may be room

	// The reader's.
	read1   func(fd uintptr) bool // is readOnce
	buf     *[]byte               // what readOnce has read, behind part
	n       int
	failure error
	part    []byte // the beginning of a record that is read whole into the next buffer
	whole   []byte // a message that is being read into memory of its own, with what fills it up
	size    int    // of that message
	have    int    // so much of whole is there

	out feedOut
}

// newFeed takes the socket and the membership over, also when it fails. start must follow.
func newFeed(s *Server, fd int, uid uint32, m Membership) (*feed, error) {
	f := &feed{
		s: s, m: m, uid: uid, file: os.NewFile(uintptr(fd), "feed"), done: make(chan struct{}), room: make(chan struct{}, 1),
	}
	f.read1 = f.readOnce
	f.out.init(f)
	raw, err := f.file.SyscallConn()
	if err == nil {
		f.raw = raw
		err = s.addFeed(f)
	}
	if err != nil {
		m.Leave(ProcDown)
		f.file.Close()
		return nil, err
	}
	return f, nil
}

// addFeed enters a feed, whose reader will run.
func (s *Server) addFeed(f *feed) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return unix.ECANCELED
	}
	s.feeds[f] = struct{}{}
	s.running.Add(1)
	return nil
}

// start begins to serve the client.
func (f *feed) start() {
	f.m.Notify(f.notify)
	go f.read()
	f.flush() // what was there before
}

// end ends the feed and, if it has not ended by itself, the membership. Its goroutines notice soon.
func (f *feed) end() {
	if f.ended.Swap(true) {
		return // perhaps from within the Leave below, which has news for the client
	}
	f.s.mu.Lock()
	delete(f.s.feeds, f)
	f.s.mu.Unlock()
	f.m.Leave(ProcDown)
	close(f.done)
	f.file.Close()
}

// shut begins to end the feed with the daemon. done tells when the client has been told; end must follow.
func (f *feed) shut() {
	f.out.errno.CompareAndSwap(0, uint32(unix.ESHUTDOWN))
	f.m.Leave(ProcDown)
	f.flush()
}

// notify is called when the membership has news. It waits for nobody.
func (f *feed) notify() {
	if f.waits.Load() {
		select {
		case f.room <- struct{}{}:
		default:
		}
	}
	if !f.s.cork.hold(f) {
		f.flush()
	}
}

// read is the goroutine that reads. It ends with the client, or when the feed has.
func (f *feed) read() {
	defer f.s.running.Done()
	defer f.end()
	var budget *feedBudget
	defer func() { budget.give() }()
	for {
		if f.raw.Read(f.read1) != nil || f.failure != nil || f.n == 0 {
			return // PROCDOWN, if the client has not left
		}
		if f.whole != nil {
			if f.have += f.n; f.have < len(f.whole) {
				continue
			}
			message := f.whole[:f.size]
			f.whole = nil
			budget.give()
			budget = nil
			f.s.cork.begin()
			ok := f.submit(message, true)
			f.s.cork.end()
			if !ok {
				break
			}
			continue
		}
		size, rest, ok := f.take((*f.buf)[:f.n])
		if ok && size > 0 {
			if budget = f.s.budgets.take(f.uid, f.done); budget == nil {
				return
			}
			f.whole, f.size = make([]byte, padded(size)-feedHeader, padded(size)+feedSpare), size-feedHeader
			f.have = copy(f.whole, rest[feedHeader:])
			rest = nil
		}
		f.part = append(f.part[:0], rest...)
		if len(rest) == 0 && cap(f.part) > maxFrame {
			f.part = nil
		}
		feedBuffers.Put(f.buf)
		f.buf = nil
		if !ok {
			break
		}
	}
	// Nothing that comes now counts. The end of the records ends the feed.
	f.flush()
	<-f.done
}

var feedBuffers = sync.Pool{New: func() any {
	b := make([]byte, feedBuffer)
	return &b
}}

// readOnce is read(2) into the message that is being read, or else into a buffer, behind what is left of the last one.
// It has no room for control messages: descriptors that a client sends are closed by the kernel.
func (f *feed) readOnce(fd uintptr) bool {
	if f.whole != nil {
		f.n, f.failure = readNow(int(fd), f.whole[f.have:])
		return f.failure != unix.EAGAIN
	}
	buf := feedBuffers.Get().(*[]byte)
	have := copy(*buf, f.part)
	n, err := readNow(int(fd), (*buf)[have:])
	if err != nil || n == 0 {
		feedBuffers.Put(buf)
		f.n, f.failure = 0, err
		return err != unix.EAGAIN
	}
	f.buf, f.n, f.failure = buf, have+n, nil
	return true
}

// readNow is read(2), which a signal does not interrupt.
func readNow(fd int, p []byte) (int, error) {
	for {
		n, err := unix.Read(fd, p)
		if err != unix.EINTR {
			return n, err
		}
	}
}

// take takes what the client has sent, in which a record begins. It returns what is left, the beginning of a record,
// and, if that is a large message, the size of the record. It reports whether there is more to come.
func (f *feed) take(b []byte) (size int, rest []byte, ok bool) {
	f.s.cork.begin()
	defer f.s.cork.end()
	for n := 1; ; n++ {
		size, kind, ok := feedFrame(b)
		if !ok {
			return 0, b, true
		}
		if errno := checkFromClient(size, kind); errno != 0 {
			return 0, nil, f.refuse(errno)
		}
		if len(b) < padded(size) {
			if size < feedWhole || kind != feedMessage {
				size = 0
			}
			return size, b, true
		}
		if kind == feedLeave {
			f.out.left.Store(true)
			f.m.Leave(Left)
			return 0, nil, false
		}
		if !f.submit(b[feedHeader:size], false) {
			return 0, nil, false
		}
		b = b[padded(size):]
		if n%feedBatch == 0 {
			f.s.cork.end()
			f.s.cork.begin()
		}
	}
}

// refuse ends the membership, with errno in its END. It returns false.
func (f *feed) refuse(errno unix.Errno) bool {
	f.out.errno.Store(uint32(errno))
	f.m.Leave(ProcDown)
	return false
}

// submit sends one message, waiting until there is room. It is called within a batch. It reports whether the membership
// goes on.
func (f *feed) submit(message []byte, own bool) bool {
	err := f.m.Send(message, own)
	if err == nil {
		f.s.messages.Add(1)
		return true
	}
	if !errors.Is(err, unix.EAGAIN) {
		return f.refuse(errnoOf(err))
	}
	f.s.cork.end()
	defer f.s.cork.begin()
	f.waits.Store(true)
	defer f.waits.Store(false)
	for {
		// Once more first: there may be room since before notify was to tell.
		err := f.m.Send(message, own)
		if err == nil {
			f.s.messages.Add(1)
			return true
		}
		if !errors.Is(err, unix.EAGAIN) {
			return f.refuse(errnoOf(err))
		}
		select {
		case <-f.room:
		case <-f.done:
			return false
		}
	}
}
