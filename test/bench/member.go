package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A member is a process of its own that has joined a group, on one node of a side. It is told by lines on its standard
// input:
//
//	begin RUN          count the messages of run RUN, from 0; it answers "ok"
//	load RUN SIZE MS   send messages of SIZE bytes for MS milliseconds, then say "sent N FIRST"
//	await N            say "got N BYTES LAST HASH" when N messages of the run have come
//	trips N PAUSE      N times: send 64 bytes, wait until they come back, pause so many microseconds; then say "trips N P50 P99"
//
// By itself it says "conf AT MEMBERS JOINED LEFT", three numbers, at each configuration change, that of its own join
// first, and "error TEXT" when it cannot go on. It leaves with the end of its input. FIRST, LAST and AT are nanoseconds of
// CLOCK_MONOTONIC, which is the same for all processes of a machine: before the first message was sent, when the last one
// came, when the change did. P50 and P99 are nanoseconds. HASH tells the order of the messages that were counted.
//
// A message begins, little-endian, with its kind, run, the sender's tag, 0 (u32 each) and its number (u64).
type member struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	answers chan string
	ended   chan struct{} // closed when it has ended

	mu    sync.Mutex
	confs []conf        // guarded by mu
	news  chan struct{} // guarded by mu; closed at the next conf
	stray []string      // guarded by mu; what it said besides, for errors
}

// conf is a configuration change as a member told it.
type conf struct {
	at                    int64
	members, joined, left int
}

// answerTime is how long a member may take for what it is asked, besides the time that it is to send.
const answerTime = 2 * time.Minute

// startMember starts a member; it has joined when it tells its first conf.
func startMember(cmd *exec.Cmd) (*member, error) {
	m := &member{cmd: cmd, answers: make(chan string, 16), ended: make(chan struct{}), news: make(chan struct{})}
	var err error
	if m.in, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = strayWriter{m}
	cmd.SysProcAttr = ownGroup()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go m.listen(out)
	return m, nil
}

// ownGroup keeps ^C for us, and has the process die with us.
func ownGroup() *unix.SysProcAttr {
	return &unix.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL}
}

// listen takes what the member says until it ends.
func (m *member) listen(out io.Reader) {
	defer close(m.ended)
	for lines := bufio.NewScanner(out); lines.Scan(); {
		line := lines.Text()
		var c conf
		if _, err := fmt.Sscanf(line, "conf %d %d %d %d", &c.at, &c.members, &c.joined, &c.left); err == nil {
			m.mu.Lock()
			m.confs = append(m.confs, c)
			close(m.news)
			m.news = make(chan struct{})
			m.mu.Unlock()
			continue
		}
		if strings.HasPrefix(line, "error ") {
			m.note(line)
			continue
		}
		select {
		case m.answers <- line:
		default: // nobody has asked for so much
			m.note(line)
		}
	}
	_ = m.cmd.Wait() // how it ended is of no interest: what it had to say it has said
}

func (m *member) note(line string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.stray) < 10 {
		m.stray = append(m.stray, line)
	}
}

// strayWriter keeps a little of what a member says on its standard error. libcpg writes there that it sleeps.
type strayWriter struct{ m *member }

func (w strayWriter) Write(p []byte) (int, error) {
	if text := strings.TrimSpace(string(p)); !strings.HasPrefix(text, "sleep.") {
		w.m.note(text)
	}
	return len(p), nil
}

// gone is the error of a member that has ended.
func (m *member) gone() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return fmt.Errorf("a member has ended: %s", strings.Join(m.stray, "; "))
}

// tell gives the member a command.
func (m *member) tell(format string, args ...any) error {
	if _, err := fmt.Fprintf(m.in, format+"\n", args...); err != nil {
		return errors.Join(m.gone(), err)
	}
	return nil
}

// answer waits for an answer that begins with word, and reads the values behind it.
func (m *member) answer(ctx context.Context, word string, values ...any) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	var line string
	select {
	case line = <-m.answers:
	default:
		select {
		case line = <-m.answers:
		case <-m.ended:
			return m.gone()
		case <-ctx.Done():
			return fmt.Errorf("a member does not answer %q: %w", word, ctx.Err())
		}
	}
	rest, ok := strings.CutPrefix(line, word)
	if !ok {
		return fmt.Errorf("a member said %q, want %q", line, word)
	}
	if len(values) == 0 {
		return nil
	}
	_, err := fmt.Sscan(rest, values...)
	return err
}

// conf waits for a configuration change from the one with the number from on that is ok, and returns it.
func (m *member) conf(ctx context.Context, from int, ok func(conf) bool) (conf, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	for {
		m.mu.Lock()
		for ; from < len(m.confs); from++ {
			if c := m.confs[from]; ok(c) {
				m.mu.Unlock()
				return c, nil
			}
		}
		news := m.news
		m.mu.Unlock()
		select {
		case <-news:
		case <-m.ended:
			return conf{}, m.gone()
		case <-ctx.Done():
			return conf{}, fmt.Errorf("a member does not see the change: %w", ctx.Err())
		}
	}
}

// seen is how many configuration changes the member has told.
func (m *member) seen() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.confs)
}

// last is the latest configuration change.
func (m *member) last() int { return max(0, m.seen()-1) }

// stop has the member leave, or kills it when it does not.
func (m *member) stop() {
	m.in.Close()
	select {
	case <-m.ended:
	case <-time.After(stopTime):
		m.kill()
	}
}

// kill kills the member and waits for its end.
func (m *member) kill() {
	_ = m.cmd.Process.Kill()
	<-m.ended
}

// load has the first members send for d milliseconds and returns how many messages that were and how many seconds it
// took until each of all had all of them, in one order.
func load(ctx context.Context, all []*member, senders, run, size, ms int) (n int64, seconds float64, err error) {
	for _, m := range all {
		if err := m.tell("begin %d", run); err != nil {
			return 0, 0, err
		}
		if err := m.answer(ctx, "ok"); err != nil {
			return 0, 0, err
		}
	}
	for _, m := range all[:senders] {
		if err := m.tell("load %d %d %d", run, size, ms); err != nil {
			return 0, 0, err
		}
	}
	var first int64
	for _, m := range all[:senders] {
		var sent, begun int64
		if err := m.answer(ctx, "sent", &sent, &begun); err != nil {
			return 0, 0, err
		}
		n += sent
		if first == 0 || begun < first {
			first = begun
		}
	}
	last, err := await(ctx, all, n)
	return n, float64(last-first) / 1e9, err
}

// await waits until all members have n messages, and returns when the last one had.
func await(ctx context.Context, all []*member, n int64) (last int64, err error) {
	for _, m := range all {
		if err := m.tell("await %d", n); err != nil {
			return 0, err
		}
	}
	var order uint64
	for i, m := range all {
		var got, bytes, at int64
		var hash uint64
		if err := m.answer(ctx, "got", &got, &bytes, &at, &hash); err != nil {
			return 0, err
		}
		if got != n {
			return 0, fmt.Errorf("a member got %d messages, and %d were sent", got, n)
		}
		if i > 0 && hash != order {
			return 0, errors.New("two members got the messages in different orders")
		}
		order, last = hash, max(last, at)
	}
	return last, nil
}

// trips has a member make n round trips and returns the median and the 99th of a hundred, in microseconds.
func (m *member) trips(ctx context.Context, n, pause int) (p50, p99 float64, err error) {
	if err := m.tell("trips %d %d", n, pause); err != nil {
		return 0, 0, err
	}
	var made int
	var a, b int64
	err = m.answer(ctx, "trips", &made, &a, &b)
	return float64(a) / 1e3, float64(b) / 1e3, err
}
