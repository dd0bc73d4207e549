package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// echoGroup is a group that has one member.
type echoGroup struct{ events chan groupEvent }

func init() {
	joins["loop"] = func(string, string) (groupConn, error) {
		l := &echoGroup{events: make(chan groupEvent, 1000)}
		l.events <- groupEvent{members: 1, joined: 1}
		return l, nil
	}
}

func (l *echoGroup) send(b []byte) error {
	l.events <- groupEvent{message: bytes.Clone(b)}
	return nil
}

func (l *echoGroup) receive() (groupEvent, error) { return <-l.events, nil }
func (l *echoGroup) leave() error                 { return nil }

// loopMember is a member of a process of its own.
func loopMember(t *testing.T) *member {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return testMember(t, exec.Command(self, "member", "loop", "7", "g", "-"))
}

func testMember(t *testing.T, cmd *exec.Cmd) *member {
	t.Helper()
	m, err := startMember(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.kill)
	return m
}

func TestMember_LoadsCountsAndPings(t *testing.T) {
	m := loopMember(t)
	c, err := m.conf(t.Context(), 0, func(c conf) bool { return c.members == 1 })
	if err != nil || c.joined != 1 || c.left != 0 || c.at <= 0 {
		t.Fatalf("got %+v, %v, want its own join", c, err)
	}
	for run, size := range []int{headSize, 64, largest} {
		n, seconds, err := load(t.Context(), []*member{m}, 1, run+1, size, 20)
		if err != nil || n < 1 || seconds <= 0 || seconds > 60 {
			t.Errorf("%d bytes: got %d messages in %v s, %v", size, n, seconds, err)
		}
	}
	p50, p99, err := m.trips(t.Context(), 100, 10)
	if err != nil || p50 <= 0 || p99 < p50 {
		t.Errorf("trips: got %v and %v us, %v", p50, p99, err)
	}
	m.stop()
	if !m.cmd.ProcessState.Success() {
		t.Errorf("got %v, want success", m.cmd.ProcessState)
	}
}

func TestMember_SaysWhyItEnds(t *testing.T) {
	m := loopMember(t)
	if err := m.tell("jump"); err != nil {
		t.Fatal(err)
	}
	if err := m.answer(t.Context(), "ok"); err == nil || !strings.Contains(err.Error(), "jump") {
		t.Errorf("got %v, want an error that names the command", err)
	}
	if _, err := m.conf(t.Context(), 1, func(conf) bool { return true }); err == nil {
		t.Error("got a change of a member that has ended")
	}
}

// fakeMember is a shell that answers what load asks.
func fakeMember(t *testing.T, got string) *member {
	return testMember(t, exec.Command("sh", "-c", `while read -r verb rest; do case $verb in
		begin) echo ok;; load) echo sent 3 1000;; await) echo got `+got+`;; esac; done`))
}

func TestLoad_ComparesWhatTheMembersGot(t *testing.T) {
	for _, c := range []struct {
		got  [2]string
		want string // in the error
	}{
		{[2]string{"6 60 2000000000 17", "6 60 3000001000 17"}, ""},
		{[2]string{"6 60 2000000000 17", "6 60 3000001000 18"}, "different orders"},
		{[2]string{"6 60 2000000000 17", "5 50 3000001000 17"}, "got 5 messages, and 6 were sent"},
	} {
		all := []*member{fakeMember(t, c.got[0]), fakeMember(t, c.got[1])}
		n, seconds, err := load(t.Context(), all, 2, 1, 10, 1)
		if c.want == "" && (err != nil || n != 6 || seconds != 3) {
			t.Errorf("got %d messages in %v s, %v, want 6 in 3 s", n, seconds, err)
		}
		if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
}

func TestSees_TellsTheLastWhoSaw(t *testing.T) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		t.Fatal(err)
	}
	at := func(ms int64) *member {
		return testMember(t, exec.Command("sh", "-c", fmt.Sprintf("echo conf 1 3 1 0; read x; echo conf %d 2 0 1; read x", now.Nano()+ms*1e6)))
	}
	all := []*member{at(60_000), at(70_000)}
	for _, m := range all {
		if _, err := m.conf(t.Context(), 0, func(c conf) bool { return c.members == 3 }); err != nil {
			t.Fatal(err)
		}
	}
	s := &side{}
	ms, err := s.sees(t.Context(), all, func() error { return errors.Join(all[0].tell("go"), all[1].tell("go")) })
	if err != nil || ms > 70_000 || ms < 10_000 {
		t.Errorf("got %v ms, %v, want a little less than 70000", ms, err)
	}
}

func TestFeed_WritesTheHeadInDigitsAndReadsItBack(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	f := &feed{fd: int(w.Fd())}
	b := make([]byte, 64)
	(&membership{tag: 77}).head(b, kindLoad, 4000000000, 1<<63)
	if err := f.send(b); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 100)
	n, err := r.Read(line)
	if err != nil || n != 64 || bytes.ContainsAny(line[:n], "\n\\\t") {
		t.Fatalf("got %q, %v, want 64 bytes that no one escapes", line[:n], err)
	}
	if got := f.decode(line[:n]); !bytes.Equal(got[:headSize], b[:headSize]) || len(got) != 64 {
		t.Errorf("got % x, want % x", got, b)
	}
	if got := f.decode([]byte("hello")); len(got) != headSize || binary.LittleEndian.Uint32(got) == kindLoad {
		t.Errorf("got % x of somebody else's message", got)
	}
	if got, want := parseConf("members=1:4242,2:77 joined=2:77:JOIN left=-"), (groupEvent{members: 2, joined: 1}); got.members != want.members || got.joined != want.joined || got.left != want.left {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
