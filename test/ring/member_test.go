package ring

import (
	"bufio"
	"bytes"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	memberRole = "ring-member"
	markText   = "mark" // ends the traces
	joinTime   = 2 * time.Minute
)

// A member joins a group, sends numbered messages of random sizes in random bursts and writes a trace of all that it
// reads. It is told by lines of its standard input:
//
//	quiet    send no more; it says "quiet N": so many messages were taken
//	mark N   send a mark, behind all else; who has read N of them ends its trace, and says "marked"
//	status   it says "status MEMBERS RING": how many members it sees, in which ring
//
// and ends with it. By itself it says "joined NAME" and, when it cannot go on, "error TEXT".
//
// A trace has the lines "name NAME", "conf ..." and "ring ..." as the feed has them, "msg NAME NUMBER SUM RING", where
// RING is - if it was not told, "sent N", and at last "end".
type member struct {
	conn    membership
	rand    *rand.Rand
	pace    time.Duration
	largest int
	out     lockedWriter

	trace *bufio.Writer // the receiver's
	read  int64         // the receiver's: marks
	marks atomic.Int64  // how many there will be; 0: nobody has told

	failed chan error
	quiet  atomic.Bool
	sent   chan uint64 // holds how many were taken, when no more will be

	mu      sync.Mutex
	members int    // guarded by mu
	ring    string // guarded by mu
}

// lockedWriter writes a line at a time.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer // guarded by mu
}

func (w *lockedWriter) say(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fmt.Fprintf(w.w, format+"\n", args...)
}

// runMember: WAY MOUNT GROUP TRACE SEED PACE LARGEST. PACE is the milliseconds between bursts, in the mean.
func runMember(args []string) int {
	out := lockedWriter{w: os.Stdout}
	numbers := make([]uint64, 3)
	for i := range numbers {
		var err error
		if numbers[i], err = strconv.ParseUint(args[4+i], 10, 63); err != nil {
			out.say("error %v", err)
			return 2
		}
	}
	file, err := os.Create(args[3])
	if err != nil {
		out.say("error %v", err)
		return 1
	}
	defer file.Close()
	m := &member{
		rand: rand.New(rand.NewPCG(numbers[0], 1)), pace: time.Duration(numbers[1]) * time.Millisecond, largest: int(numbers[2]),
		out: lockedWriter{w: os.Stdout}, trace: bufio.NewWriterSize(file, 64<<10), sent: make(chan uint64, 1), failed: make(chan error, 3),
	}
	for end := time.Now().Add(joinTime); ; time.Sleep(50 * time.Millisecond) {
		if m.conn, err = join(args[0], args[1], args[2]); err == nil {
			break
		}
		if !notYet(err) || time.Now().After(end) {
			out.say("error join: %v", err)
			return 1
		}
	}
	go func() { m.failed <- m.receive() }()
	go func() { m.failed <- m.command(os.Stdin) }()
	if err := <-m.failed; err != nil {
		out.say("error %v", err)
		return 1
	}
	return 0
}

// command does what it is told until the end of its input.
func (m *member) command(in io.Reader) error {
	for lines := bufio.NewScanner(in); lines.Scan(); {
		switch verb, rest, _ := strings.Cut(lines.Text(), " "); verb {
		case "quiet":
			m.quiet.Store(true)
			n := <-m.sent
			m.sent <- n
			m.out.say("quiet %d", n)
		case "mark":
			n, err := strconv.ParseInt(rest, 10, 32)
			if err != nil {
				return err
			}
			m.marks.Store(n)
			if err := m.conn.send([]byte(markText)); err != nil {
				return fmt.Errorf("mark: %w", err)
			}
		case "status":
			m.mu.Lock()
			members, ring := m.members, m.ring
			m.mu.Unlock()
			m.out.say("status %d %s", members, ring)
		default:
			return fmt.Errorf("unknown command %q", verb)
		}
	}
	return nil
}

// load sends until it is told to be quiet, or cannot.
func (m *member) load() {
	n, seed := uint64(0), m.rand
	defer func() { m.sent <- n }()
	for !m.quiet.Load() {
		for range 1 + seed.IntN(8) {
			text := message(n+1, m.size())
			if err := m.conn.send(text); err != nil {
				m.failed <- fmt.Errorf("send: %w", err)
				return
			}
			n++
		}
		time.Sleep(time.Duration(seed.Int64N(int64(2*m.pace) + 1)))
	}
}

// size is mostly small, sometimes near the place where messages are cut, seldom the largest: what all read together must
// not take all the processors.
func (m *member) size() int {
	switch k := m.rand.IntN(1000); {
	case k == 0:
		return m.largest
	case k == 1:
		return 1 + m.rand.IntN(m.largest)
	case k < 20:
		return min(m.largest, 64<<10+m.rand.IntN(4<<10))
	}
	return 1 + m.rand.IntN(300)
}

// sum is what a trace has of a text. It is one that processors have an instruction for.
func sum(text []byte) uint64 { return uint64(crc32.Checksum(text, crc32.MakeTable(crc32.Castagnoli))) }

// message is one of at least size bytes that the feed shows as it is.
func message(n uint64, size int) []byte {
	b := strconv.AppendUint(make([]byte, 0, size+24), n, 10)
	b = append(b, ' ')
	for len(b) < size {
		b = append(b, byte('a'+(n+uint64(len(b)))%26))
	}
	return b
}

// receive writes the trace until the membership ends.
func (m *member) receive() error {
	flush := time.Now()
	for first := true; ; first = false {
		line, text, ring, err := m.conn.next()
		if err != nil {
			m.trace.Flush()
			return fmt.Errorf("receive: %w", err)
		}
		if err := m.record(string(line), text, ring); err != nil {
			return err
		}
		if first {
			name, err := ownName(string(line))
			if err != nil {
				return err
			}
			fmt.Fprintf(m.trace, "name %s\n", name)
			m.out.say("joined %s", name)
			go m.load()
		}
		if time.Since(flush) > 100*time.Millisecond {
			m.trace.Flush()
			flush = time.Now()
		}
	}
}

// record writes one record into the trace.
func (m *member) record(line string, text []byte, ring string) error {
	switch {
	case strings.HasPrefix(line, "conf "):
		m.mu.Lock()
		m.members = strings.Count(field(line, "members"), ":")
		m.mu.Unlock()
	case strings.HasPrefix(line, "ring "):
		m.mu.Lock()
		m.ring = strings.Fields(line)[1]
		m.mu.Unlock()
	}
	if m.read > 0 && m.read == m.marks.Load() {
		return nil
	}
	from, isMessage := strings.CutPrefix(line, "msg ")
	switch {
	case !isMessage:
		fmt.Fprintln(m.trace, line)
	case string(text) == markText:
		// One's own mark comes back, so it is known by the last one how many there are.
		if m.read++; m.read != m.marks.Load() {
			return nil
		}
		n := <-m.sent
		m.sent <- n
		fmt.Fprintf(m.trace, "sent %d\nend\n", n)
		if err := m.trace.Flush(); err != nil {
			return err
		}
		m.out.say("marked")
	default:
		number, _, _ := bytes.Cut(text, []byte(" "))
		if ring == "" {
			ring = "-"
		}
		fmt.Fprintf(m.trace, "msg %s %s %d %s\n", strings.Replace(from, " ", ":", 1), number, sum(text), ring)
	}
	return nil
}

// ownName is who has joined by the first record of a membership.
func ownName(conf string) (string, error) {
	joined := field(conf, "joined")
	i := strings.LastIndex(joined, ":")
	if !strings.HasPrefix(conf, "conf ") || i < 0 || strings.Contains(joined, ",") || joined[i+1:] != "JOIN" {
		return "", fmt.Errorf("the first record is no join of one: %q", conf)
	}
	return joined[:i], nil
}

// field is the value of a field "key=value" of a line.
func field(line, key string) string {
	for _, f := range strings.Fields(line) {
		if v, ok := strings.CutPrefix(f, key+"="); ok {
			return v
		}
	}
	return ""
}
