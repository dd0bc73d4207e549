package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// What a message is for.
const (
	kindLoad = 1
	kindPing = 2
)

const (
	headSize  = 24      // of what a message begins with
	largest   = 1 << 20 // message
	orderStep = 0x9E3779B97F4A7C15
)

// A groupConn is a membership of a group.
type groupConn interface {
	// send multicasts b, which is the caller's again afterwards; it waits while there is no room. It is called from one
	// goroutine at a time.
	send(b []byte) error
	// receive waits for what comes next; it is called by one goroutine. The event is good until the next call.
	receive() (groupEvent, error)
	// leave ends the membership.
	leave() error
}

// A groupEvent is a message, or a configuration change when message is nil.
type groupEvent struct {
	message               []byte
	members, joined, left int
}

// joins are the ways to be a member of a group, by the tree at mount.
var joins = map[string]func(mount, group string) (groupConn, error){
	"client": joinClient,
	"feed":   joinFeed,
}

// memberRole: WAY TAG GROUP MOUNT. It is a member, see there.
func memberRole(args []string, out io.Writer) error {
	tag, err := strconv.ParseUint(args[1], 10, 32)
	if err != nil {
		return err
	}
	join := joins[args[0]]
	if join == nil {
		return fmt.Errorf("%s: there is no such way to join", args[0])
	}
	g, err := join(args[3], args[2])
	if err != nil {
		fmt.Fprintf(out, "error join: %v\n", err)
		return err
	}
	return newMembership(g, uint32(tag), out).work(os.Stdin)
}

// membership does what a member is told.
type membership struct {
	conn groupConn
	tag  uint32
	now  func() int64

	mu          sync.Mutex
	out         io.Writer // guarded by mu, as the rest
	run         uint32    // what is counted
	count, want uint64
	bytes, hash uint64
	last        int64 // when the latest one came

	// The receiver's, while it pings.
	trips  []int64
	pause  time.Duration
	pinged int64
	ping   []byte
}

func newMembership(g groupConn, tag uint32, out io.Writer) *membership {
	m := &membership{conn: g, tag: tag, out: out, ping: make([]byte, 64), now: monotonic()}
	return m
}

// monotonic returns CLOCK_MONOTONIC without a system call for each look at it.
func monotonic() func() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // it cannot fail: the clock is there
	start, base := time.Now(), ts.Nano()
	return func() int64 { return base + int64(time.Since(start)) }
}

// work takes commands until they end.
func (m *membership) work(in io.Reader) error {
	failed := make(chan error, 2)
	go func() { failed <- m.receiveAll() }()
	go func() {
		for lines := bufio.NewScanner(in); lines.Scan(); {
			if err := m.command(lines.Text()); err != nil {
				failed <- err
				return
			}
		}
		failed <- nil
	}()
	err := <-failed
	if err != nil {
		m.say("error %v", err)
		return err
	}
	return m.conn.leave()
}

func (m *membership) say(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sayLocked(format, args...)
}

func (m *membership) sayLocked(format string, args ...any) {
	fmt.Fprintf(m.out, format+"\n", args...)
}

func (m *membership) command(line string) error {
	var run uint32
	var n uint64
	var size, ms int
	if _, err := fmt.Sscanf(line, "begin %d", &run); err == nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.run, m.count, m.bytes, m.hash, m.want = run, 0, 0, 0, 0
		m.sayLocked("ok")
		return nil
	}
	if _, err := fmt.Sscanf(line, "load %d %d %d", &run, &size, &ms); err == nil && size >= headSize && size <= largest {
		return m.load(run, size, time.Duration(ms)*time.Millisecond)
	}
	if _, err := fmt.Sscanf(line, "await %d", &n); err == nil && n > 0 {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.want = n
		m.answer()
		return nil
	}
	if _, err := fmt.Sscanf(line, "trips %d %d", &n, &ms); err == nil && n > 0 && n < math.MaxInt32 {
		m.trips, m.pause = make([]int64, 0, n), time.Duration(ms)*time.Microsecond
		return m.sendPing()
	}
	return fmt.Errorf("unknown command %q", line)
}

// load sends for d.
func (m *membership) load(run uint32, size int, d time.Duration) error {
	b := make([]byte, size)
	first := m.now()
	n := uint64(0)
	for end := first + int64(d); m.now() < end; {
		n++
		m.head(b, kindLoad, run, n)
		if err := m.conn.send(b); err != nil {
			return err
		}
	}
	m.say("sent %d %d", n, first)
	return nil
}

func (m *membership) head(b []byte, kind, run uint32, number uint64) {
	binary.LittleEndian.PutUint32(b, kind)
	binary.LittleEndian.PutUint32(b[4:], run)
	binary.LittleEndian.PutUint32(b[8:], m.tag)
	binary.LittleEndian.PutUint64(b[16:], number)
}

// receiveAll takes what comes until nothing does any more.
func (m *membership) receiveAll() error {
	for {
		e, err := m.conn.receive()
		if err != nil {
			return err
		}
		if e.message == nil {
			m.say("conf %d %d %d %d", m.now(), e.members, e.joined, e.left)
		} else if err := m.received(e.message); err != nil {
			return err
		}
	}
}

func (m *membership) received(b []byte) error {
	if len(b) < headSize {
		return nil // somebody else's
	}
	tag, number := binary.LittleEndian.Uint32(b[8:]), binary.LittleEndian.Uint64(b[16:])
	switch kind := binary.LittleEndian.Uint32(b); {
	case kind == kindPing && tag == m.tag:
		return m.pong()
	case kind == kindLoad:
		m.mu.Lock()
		defer m.mu.Unlock()
		if binary.LittleEndian.Uint32(b[4:]) != m.run {
			break
		}
		m.count++
		m.bytes += uint64(len(b))
		m.hash = (m.hash ^ (uint64(tag)<<48 ^ number)) * orderStep
		m.last = m.now()
		m.answer()
	}
	return nil
}

// answer answers await. It is called with mu held.
func (m *membership) answer() {
	if m.want > 0 && m.count >= m.want {
		m.want = 0
		m.sayLocked("got %d %d %d %d", m.count, m.bytes, m.last, m.hash)
	}
}

func (m *membership) sendPing() error {
	m.head(m.ping, kindPing, 0, uint64(len(m.trips)))
	m.pinged = m.now()
	return m.conn.send(m.ping)
}

// pong ends a round trip and begins the next.
func (m *membership) pong() error {
	m.trips = append(m.trips, m.now()-m.pinged)
	if len(m.trips) < cap(m.trips) {
		time.Sleep(m.pause)
		return m.sendPing()
	}
	slices.Sort(m.trips)
	n := len(m.trips)
	m.say("trips %d %d %d", n, m.trips[n/2], m.trips[n*99/100])
	return nil
}
