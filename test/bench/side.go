package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/test/netns"
)

// The columns of the rows about groups.
const (
	ours     column = "convoke"
	corosync column = "corosync"
)

// A system starts the daemons of a side: one on each host of its network.
type system interface {
	// start starts the daemon of host i, again if it has ended.
	start(ctx context.Context, i int) error
	// pid is the daemon's process.
	pid(i int) int
	// kill kills it by SIGKILL and waits for its end.
	kill(i int)
	// member is the command of a member of group at host i. way is how it joins, of those that the system has.
	member(i int, way, tag, group string) *exec.Cmd
	// log is the file in which the daemon says what it does.
	log(i int) string
	// stop ends all daemons.
	stop() error
}

// benchGroup is the group of the members that a side always has.
const benchGroup = "bench"

// A side is one of the systems that are compared: its network, a daemon on each host, and a member of one group at each.
type side struct {
	name    column
	net     *netns.Net
	system  system
	members []*member
	runs    int // of loads
	turn    int // whose turn it is to fail
}

// openSide starts a side of n nodes, and returns once all members see each other.
func openSide(ctx context.Context, name column, n int, prepare func(*netns.Net) (system, error)) (s *side, err error) {
	s = &side{name: name, members: make([]*member, n)}
	if s.net, err = netns.New(n); err != nil {
		return nil, err
	}
	if s.system, err = prepare(s.net); err != nil {
		return nil, errors.Join(err, s.net.Close())
	}
	if err := s.fill(ctx); err != nil {
		return nil, errors.Join(err, s.words(), s.close())
	}
	return s, nil
}

// words is what the daemons said last, for an error.
func (s *side) words() error {
	const most = 500 // bytes of each
	var errs []error
	for i := range s.members {
		if text, _ := os.ReadFile(s.system.log(i)); len(text) > 0 {
			errs = append(errs, fmt.Errorf("node %d: %s", i+1, text[max(0, len(text)-most):]))
		}
	}
	return errors.Join(errs...)
}

func (s *side) fill(ctx context.Context) error {
	for i := range s.members {
		if err := s.system.start(ctx, i); err != nil {
			return err
		}
	}
	for i := range s.members {
		var err error
		if s.members[i], err = s.join(i, "client", benchGroup); err != nil {
			return err
		}
	}
	return s.together(ctx, s.members)
}

// join starts a member.
func (s *side) join(i int, way, group string) (*member, error) {
	return startMember(s.system.member(i, way, strconv.Itoa(i+1), group))
}

// together waits until each of the members sees as many as they are.
func (s *side) together(ctx context.Context, members []*member) error {
	for _, m := range members {
		_, err := m.conf(ctx, m.last(), func(c conf) bool { return c.members == len(members) })
		if err != nil {
			return err
		}
	}
	return nil
}

// close ends members, daemons and network.
func (s *side) close() error {
	for _, m := range s.members {
		if m != nil {
			m.stop()
		}
	}
	return errors.Join(s.system.stop(), s.net.Close())
}

// rate gives the messages a second of a load by the first members.
func (s *side) rate(ctx context.Context, members []*member, senders, size, ms int) (float64, error) {
	s.runs++
	n, seconds, err := load(ctx, members, senders, s.runs, size, ms)
	if err != nil {
		return 0, err
	}
	return float64(n) / seconds, nil
}

// trips gives the microseconds of round trips, of the node that is in the middle.
func (s *side) trips(ctx context.Context, n, pause int) (p50, p99 float64, err error) {
	var mids, highs []float64
	for _, m := range s.members {
		a, b, err := m.trips(ctx, n, pause)
		if err != nil {
			return 0, 0, err
		}
		mids, highs = append(mids, a), append(highs, b)
	}
	return median(mids), median(highs), nil
}

// seeProcess gives the milliseconds in which all members see that one more is killed.
func (s *side) seeProcess(ctx context.Context) (float64, error) {
	i := s.next()
	m, err := s.join(i, "client", benchGroup)
	if err != nil {
		return 0, err
	}
	defer m.stop()
	if err := s.together(ctx, append(s.members[:len(s.members):len(s.members)], m)); err != nil {
		return 0, err
	}
	return s.sees(ctx, s.members, func() error { m.kill(); return nil })
}

// seeDaemon gives the milliseconds in which the others' members see that a daemon is killed. Then it is there again.
func (s *side) seeDaemon(ctx context.Context) (float64, error) {
	i := s.next()
	ms, err := s.sees(ctx, s.without(i), func() error { s.system.kill(i); return nil })
	if err != nil {
		return 0, err
	}
	s.members[i].kill()
	if err := s.system.start(ctx, i); err != nil {
		return 0, err
	}
	if s.members[i], err = s.join(i, "client", benchGroup); err != nil {
		return 0, err
	}
	return ms, s.together(ctx, s.members)
}

// seeCut gives the milliseconds in which the others' members see that nothing comes through to a host. Then it is
// healed.
func (s *side) seeCut(ctx context.Context) (float64, error) {
	i := s.next()
	ms, err := s.sees(ctx, s.without(i), s.net.Hosts[i].Cut)
	if err = errors.Join(err, s.net.Hosts[i].Heal()); err != nil {
		return 0, err
	}
	return ms, s.together(ctx, s.members)
}

// next gives the nodes in turn, from the last: the first is likely to have a part of its own.
func (s *side) next() int {
	s.turn++
	return len(s.members) - 1 - (s.turn-1)%len(s.members)
}

func (s *side) without(i int) (others []*member) {
	for j, m := range s.members {
		if j != i {
			others = append(others, m)
		}
	}
	return others
}

// sees gives the milliseconds from the begin of f until each of the members has seen somebody leave.
func (s *side) sees(ctx context.Context, members []*member, f func() error) (float64, error) {
	var from []int
	for _, m := range members {
		from = append(from, m.seen())
	}
	var start unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &start); err != nil {
		return 0, err
	}
	if err := f(); err != nil {
		return 0, err
	}
	var last int64
	for i, m := range members {
		c, err := m.conf(ctx, from[i], func(c conf) bool { return c.left > 0 })
		if err != nil {
			return 0, err
		}
		last = max(last, c.at)
	}
	return float64(last-start.Nano()) / 1e6, nil
}

// memoryUnder gives the most memory that one of the daemons took while f ran, in MB.
func (s *side) memoryUnder(f func() error) (float64, error) {
	for i := range s.members {
		// 5 resets what VmHWM remembers: proc_pid_clear_refs(5).
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", s.system.pid(i)), []byte("5"), 0); err != nil {
			return 0, err
		}
	}
	if err := f(); err != nil {
		return 0, err
	}
	most := 0
	for i := range s.members {
		kib, err := processStatus(s.system.pid(i), "VmHWM:")
		if err != nil {
			return 0, err
		}
		most = max(most, kib)
	}
	return float64(most) * 1024 / 1e6, nil
}

// memoryLoad is the memory while all send.
func (s *side) memoryLoad(ctx context.Context, ms int) (float64, error) {
	return s.memoryUnder(func() error {
		for _, size := range []int{64, 64 << 10} {
			if _, err := s.rate(ctx, s.members, len(s.members), size, ms); err != nil {
				return err
			}
		}
		return nil
	})
}

// memoryStopped is the memory while the others send and the last member is stopped. It is there again afterwards.
func (s *side) memoryStopped(ctx context.Context, ms int) (mb float64, err error) {
	i := len(s.members) - 1
	stopped := s.members[i]
	if err := stopped.cmd.Process.Signal(unix.SIGSTOP); err != nil {
		return 0, err
	}
	others := s.without(i)
	mb, err = s.memoryUnder(func() error {
		_, err := s.rate(ctx, others, len(others), 16<<10, ms)
		return err
	})
	stopped.kill()
	if err != nil {
		return 0, err
	}
	if s.members[i], err = s.join(i, "client", benchGroup); err != nil {
		return 0, err
	}
	return mb, s.together(ctx, s.members)
}

// processStatus returns a number of /proc/PID/status.
func processStatus(pid int, name string) (int, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	return field(string(b), name)
}

// A process is a daemon that is no convoked.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{}
}

func startProcess(cmd *exec.Cmd) (*process, error) {
	cmd.SysProcAttr = ownGroup()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd, make(chan struct{})}
	go func() {
		defer close(p.ended)
		_ = cmd.Wait() // nobody asks how it ended
	}()
	return p, nil
}

// end sends a signal and waits for the end. It tells whether that was enough, or the process had to be killed.
func (p *process) end(sig os.Signal) bool {
	_ = p.cmd.Process.Signal(sig)
	select {
	case <-p.ended:
		return true
	case <-time.After(stopTime):
		_ = p.cmd.Process.Kill()
		<-p.ended
		return false
	}
}
