package ipc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/rendezvous"
)

// startGroups serves g at a new tree.
func startGroups(t *testing.T, g *fakeGroups) *daemon {
	t.Helper()
	return startDaemon(t, newFakeHost(), ServerOpts{Groups: g})
}

// join joins a group, which is made if it is missing.
func (d *daemon) join(t *testing.T, name string) *Group {
	t.Helper()
	g, err := d.client(t).Join(soon(t), name, JoinOpts{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	return g
}

// next returns the next record as a line.
func next(t *testing.T, g *Group) string {
	t.Helper()
	r, err := g.Receive(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(string(r.AppendText(nil)), "\n")
}

// nextConf reads up to the next conf and returns what joined and left.
func nextConf(t *testing.T, g *Group) string {
	t.Helper()
	for {
		line := next(t, g)
		if _, changes, ok := strings.Cut(line, " joined="); ok && strings.HasPrefix(line, "conf ") {
			return "joined=" + changes
		}
	}
}

func wantLine(t *testing.T, g *Group, want string) {
	t.Helper()
	if got := next(t, g); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func mustSend(t *testing.T, g *Group, data string) {
	t.Helper()
	if err := g.Send(soon(t), []byte(data)); err != nil {
		t.Fatal(err)
	}
}

// wantEndOf fails unless the next Receive is an error with errno; io.EOF for 0.
func wantEndOf(t *testing.T, g *Group, want unix.Errno) {
	t.Helper()
	r, err := g.Receive(soon(t))
	if want == 0 {
		if err != io.EOF {
			t.Errorf("got %+v, %v, want the end", r, err)
		}
		return
	}
	wantErrno(t, err, want)
}

func TestGroup_MembersGetOneOrder(t *testing.T) {
	checkFDs(t)
	d := startGroups(t, newFakeGroups())
	a := d.join(t, "g")
	pid := os.Getpid()
	wantLine(t, a, fmt.Sprintf("conf members=1:%d joined=1:%d:JOIN left=-", pid, pid))
	b := d.join(t, "g")
	if a.ID() != (Process{1, uint32(pid), 1}) || b.ID() != (Process{1, uint32(pid), 2}) || a.Name() != "g" {
		t.Errorf("got %v and %v of %q", a.ID(), b.ID(), a.Name())
	}
	second := fmt.Sprintf("conf members=1:%d,1:%d.2 joined=1:%d.2:JOIN left=-", pid, pid, pid)
	wantLine(t, a, second)
	wantLine(t, b, second)
	var senders sync.WaitGroup
	const each = 500
	for name, g := range map[string]*Group{"a": a, "b": b} {
		senders.Go(func() {
			for i := range each {
				if err := g.Send(soon(t), fmt.Append(nil, name, i)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	last := map[uint32]int{}
	for range 2 * each {
		got := next(t, a)
		wantLine(t, b, got)
		var n int
		var from Process
		if _, err := fmt.Sscanf(strings.ReplaceAll(got, ".2 b", " a"), "msg 1 %d a%d", &from.PID, &n); err != nil {
			t.Fatalf("%q: %v", got, err)
		}
		if strings.Contains(got, ".2 b") {
			from.N = 2
		}
		if n != last[from.N] {
			t.Fatalf("got %q, want message %d", got, last[from.N])
		}
		last[from.N]++
	}
	senders.Wait()
}

func TestGroup_LeaveIsToldAsLeaveAndCloseAsDeath(t *testing.T) {
	checkFDs(t)
	d := startGroups(t, newFakeGroups())
	a, b, c := d.join(t, "g"), d.join(t, "g"), d.join(t, "g")
	for range 3 {
		next(t, a)
	}
	mustSend(t, b, "bye")
	if err := b.Leave(soon(t)); err != nil {
		t.Fatal(err)
	}
	wantErrno(t, b.Send(soon(t), nil), unix.EPIPE)
	for {
		r, err := b.Receive(soon(t))
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("got %+v, %v", r, err)
		}
	}
	wantEndOf(t, b, 0)
	wantErrno(t, b.Send(soon(t), nil), unix.EPIPE)
	if err := errors.Join(b.Leave(soon(t)), b.Close()); err == nil {
		t.Error("a second leave was no error")
	}
	if got := next(t, a); !strings.HasSuffix(got, " bye") {
		t.Errorf("got %q, want the message before the leave", got)
	}
	if got, want := nextConf(t, a), fmt.Sprintf("joined=- left=%v:LEAVE", b.ID()); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err == nil {
		t.Error("a second close was no error")
	}
	if _, err := c.Receive(soon(t)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("receive after close: got %v", err)
	}
	if err := c.Send(soon(t), nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("send after close: got %v", err)
	}
	if got, want := nextConf(t, a), fmt.Sprintf("joined=- left=%v:PROCDOWN", c.ID()); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Leave and Close at once, without reading, is a leave all the same, behind all that was sent.
func TestGroup_WhatWasSentBeforeTheEndCounts(t *testing.T) {
	checkFDs(t)
	fake := newFakeGroups()
	d := startGroups(t, fake)
	a := d.join(t, "g")
	next(t, a)
	for _, leaves := range []bool{true, false} {
		b := d.join(t, "g")
		next(t, a)
		fake.open(false) // what comes stays in the stream
		for i := range 100 {
			mustSend(t, b, fmt.Sprint(i))
		}
		reason := "PROCDOWN"
		if leaves {
			reason = "LEAVE"
			if err := b.Leave(soon(t)); err != nil {
				t.Fatal(err)
			}
		} else if err := b.Flush(soon(t)); err != nil {
			t.Fatal(err)
		}
		b.Close()
		fake.open(true)
		for i := range 100 {
			if got := next(t, a); !strings.HasSuffix(got, fmt.Sprint(" ", i)) {
				t.Fatalf("got %q, want message %d", got, i)
			}
		}
		if got, want := next(t, a), fmt.Sprintf("left=%v:%s", b.ID(), reason); !strings.HasSuffix(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestGroup_DeathOfTheProcessIsSeen(t *testing.T) {
	if inChild(t) {
		c, err := (&Tree{Dir: os.Getenv("IPC_TEST_TREE")}).Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		g, err := c.Join(t.Context(), "g", JoinOpts{})
		if err != nil {
			t.Fatal(err)
		}
		if err := g.Send(t.Context(), []byte("here")); err != nil {
			t.Fatal(err)
		}
		g.Receive(t.Context())
		time.Sleep(time.Hour) // until it is killed
	}
	d := startGroups(t, newFakeGroups())
	a := d.join(t, "g")
	next(t, a)
	cmd := child(t, d.Tree, nil)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if t.Failed() {
			cmd.Process.Kill()
			cmd.Wait()
			t.Logf("the process: %v\n%s", cmd.ProcessState, &said)
		}
	}()
	id := Process{1, uint32(cmd.Process.Pid), 1}
	if got, want := nextConf(t, a), fmt.Sprintf("joined=%v:JOIN left=-", id); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	wantLine(t, a, fmt.Sprintf("msg 1 %d here", cmd.Process.Pid))
	cmd.Process.Kill()
	cmd.Wait()
	wantLine(t, a, fmt.Sprintf("conf members=1:%d joined=- left=%v:PROCDOWN", os.Getpid(), id))
}

func TestGroup_OutlivesTheClientItWasMadeBy(t *testing.T) {
	d := startGroups(t, newFakeGroups())
	c := d.client(t)
	g, err := c.Join(soon(t), "g", JoinOpts{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	c.Close()
	next(t, g)
	mustSend(t, g, "still here")
	wantLine(t, g, fmt.Sprintf("msg 1 %d still here", os.Getpid()))
}

func TestGroup_ErrorsAreThoseOfTheGroups(t *testing.T) {
	checkFDs(t)
	var told []string
	var mu sync.Mutex
	d := startDaemon(t, newFakeHost(), ServerOpts{Groups: newFakeGroups(), Refused: func(_ rendezvous.Caller, what string, err error) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, what)
	}})
	c := d.client(t)
	for _, tc := range []struct {
		name string
		want unix.Errno
	}{{"none", unix.ENOENT}, {"mine", unix.EACCES}, {strings.Repeat("x", 129), unix.EINVAL}, {strings.Repeat("x", 5000), unix.ENAMETOOLONG}} {
		_, err := c.Join(soon(t), tc.name, JoinOpts{})
		wantErrno(t, err, tc.want)
		_, err = c.Sender(soon(t), tc.name)
		wantErrno(t, err, tc.want)
	}
	_, err := c.Join(soon(t), "mi\x1bne", JoinOpts{})
	if want := "join mi%1Bne: no such file or directory"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err = c.Join(ctx, "slow", JoinOpts{})
	wantErrno(t, err, unix.ETIMEDOUT)
	mu.Lock()
	if len(told) == 0 || told[0] != "join none" {
		t.Errorf("told: %q", told)
	}
	mu.Unlock()
	hasty := newServer(newFakeHost(), ServerOpts{Groups: newFakeGroups()}, rendezvous.SocketCaller)
	hasty.order = time.Millisecond
	without := &daemon{newTree(t), hasty}
	without.serve(t)
	_, err = without.client(t).Join(soon(t), "slow", JoinOpts{})
	wantErrno(t, err, unix.ETIMEDOUT)
	_, err = startDaemon(t, newFakeHost(), ServerOpts{}).client(t).Join(soon(t), "g", JoinOpts{Create: true})
	wantErrno(t, err, unix.ENOSYS)
	raw := d.greeted(t)
	for tag, tc := range []struct {
		op   uint16
		body []byte
	}{
		{opJoin, nil}, {opJoin, appendString(nil, "g")}, {opJoin, joinRequest{"g", 2}.append(nil)},
		{opSender, []byte{9, 0, 1}}, {opSender, joinRequest{"g", joinCreate}.append(nil)},
	} {
		raw.send(tc.op, uint32(tag), tc.body)
		raw.want(tc.op, uint32(tag), unix.EINVAL)
	}
}

func TestGroup_CallerIsTheOneOfTheConnection(t *testing.T) {
	fake := newFakeGroups()
	startGroups(t, fake).join(t, "g")
	fake.mu.Lock()
	defer fake.mu.Unlock()
	if c := fake.callers[0]; c.PID != os.Getpid() || c.TGID != os.Getpid() || c.UID != uint32(os.Geteuid()) || c.GID != uint32(os.Getegid()) {
		t.Errorf("got %+v", c)
	}
}

// Whoever asks is who the kernel says he is, and a descriptor of the stream is not inherited by programs.
func TestGroup_CallerOfAnotherUser(t *testing.T) {
	if inChild(t) {
		c, err := (&Tree{Dir: os.Getenv("IPC_TEST_TREE")}).Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		g, err := c.Join(t.Context(), "g", JoinOpts{Create: true})
		if err != nil {
			t.Fatal(err)
		}
		raw, err := g.file.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		raw.Control(func(fd uintptr) {
			if flags, err := unix.FcntlInt(fd, unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
				t.Errorf("the descriptor's flags are %#x, %v", flags, err)
			}
		})
		if err := g.Leave(t.Context()); err != nil {
			t.Error(err)
		}
		return
	}
	needRoot(t)
	fake := newFakeGroups()
	cmd := child(t, startGroups(t, fake).Tree, &syscall.Credential{Uid: 1000, Gid: 1001, Groups: []uint32{5000}})
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	fake.mu.Lock()
	defer fake.mu.Unlock()
	c := fake.callers[0]
	if c.UID != 1000 || c.GID != 1001 || !slices.Contains(c.Groups, 5000) || c.TGID != cmd.Process.Pid {
		t.Errorf("got %+v, want uid 1000, gid 1001, group 5000, process %d", c, cmd.Process.Pid)
	}
}

func TestGroup_MessagesOfEverySize(t *testing.T) {
	checkFDs(t)
	d := startGroups(t, newFakeGroups())
	g, other := d.join(t, "g"), d.join(t, "g")
	next(t, g)
	next(t, g)
	next(t, other)
	sizes := []int{0, 1, 7, 8, 9, 15, 16, feedCopied, feedCopied + 1, groupDirect - 9, groupDirect - 8, groupDirect - 1, groupDirect, groupDirect + 1,
		feedWhole - 8, feedWhole, groupGather, groupLarge - feedMsgHead, groupLarge - feedMsgHead + 1, feedBuffer, feedBuffer + 3,
		MaxMessage - 7, MaxMessage - 1, MaxMessage}
	data := make([]byte, MaxMessage+1)
	for i := range data {
		data[i] = byte(i*7 + i>>8)
	}
	content := func(i, n int) []byte { return data[min(i, len(data)-n):][:n] }
	go func() {
		for i, n := range sizes {
			if err := g.Send(soon(t), content(i, n)); err != nil {
				t.Errorf("%d bytes: %v", n, err)
			}
		}
	}()
	for i, n := range sizes {
		for _, m := range []*Group{g, other} {
			r, err := m.Receive(soon(t))
			if err != nil || r.Kind != MessageRecord || !bytes.Equal(r.Data, content(i, n)) {
				t.Fatalf("%d bytes: got %d, %v", n, len(r.Data), err)
			}
		}
	}
	// One byte more, and nothing is sent.
	wantErrno(t, g.Send(soon(t), make([]byte, MaxMessage+1)), unix.EMSGSIZE)
	mustSend(t, g, "next")
	wantLine(t, g, fmt.Sprintf("msg 1 %d next", os.Getpid()))
}

func TestGroup_ContextEndsTheWaitOnly(t *testing.T) {
	d := startGroups(t, newFakeGroups())
	g := d.join(t, "g")
	next(t, g)
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	_, err := g.Receive(ctx)
	wantErrno(t, err, unix.ETIMEDOUT)
	ctx, stop := context.WithCancel(t.Context())
	time.AfterFunc(time.Millisecond, stop)
	_, err = g.Receive(ctx)
	wantErrno(t, err, unix.EINTR)
	_, err = g.Receive(ctx)
	wantErrno(t, err, unix.EINTR)
	// So does the wait for another call that receives.
	first := make(chan error, 1)
	go func() {
		_, err := g.Receive(soon(t))
		first <- err
	}()
	for len(g.in.lock) == 0 {
		time.Sleep(time.Millisecond)
	}
	if g.Buffered() {
		t.Error("buffered while another call waits for a record")
	}
	_, err = g.Receive(ctx)
	wantErrno(t, err, unix.EINTR)
	mustSend(t, g, "x")
	if err := wait(t, first, "the record"); err != nil {
		t.Error(err)
	}
	// A large record may be half there when it ends.
	g, fd := rawGroup(t)
	big := appendRecord(nil, &Record{Kind: MessageRecord, Data: bytes.Repeat([]byte("y"), 500_000)})
	for i, part := range [][]byte{big[:20], big[20:150_000], big[150_000:]} {
		go func() {
			for len(part) > 0 {
				n, err := unix.SendmsgN(fd, part, nil, nil, unix.MSG_NOSIGNAL)
				if err != nil && err != unix.EINTR {
					return
				}
				part = part[max(n, 0):]
			}
		}()
		if i < 2 {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			_, err := g.Receive(ctx)
			cancel()
			wantErrno(t, err, unix.ETIMEDOUT)
		}
	}
	if r, err := g.Receive(soon(t)); err != nil || len(r.Data) != 500_000 || r.Data[499_999] != 'y' {
		t.Errorf("got %d bytes, %v", len(r.Data), err)
	}
}

// rawGroup is a membership whose daemon is the test, by the descriptor, which blocks.
func rawGroup(t *testing.T) (*Group, int) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	g := &Group{}
	if err := errors.Join(g.open(pair[0], "g"), unix.SetNonblock(pair[1], false)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		g.Close()
		unix.Close(pair[1])
	})
	return g, pair[1]
}

func TestGroup_RecordsAreValidAsLongAsSaid(t *testing.T) {
	d := startGroups(t, newFakeGroups())
	g := d.join(t, "g")
	var conf, r Record
	if err := g.ReceiveInto(soon(t), &conf); err != nil {
		t.Fatal(err)
	}
	var kept []Record
	for i := range 3 {
		mustSend(t, g, strings.Repeat(fmt.Sprint(i), 100))
		r = Record{}
		if err := g.ReceiveInto(soon(t), &r); err != nil {
			t.Fatal(err)
		}
		kept = append(kept, r)
	}
	for i, r := range kept {
		if string(r.Data) != strings.Repeat(fmt.Sprint(i), 100) {
			t.Errorf("got %q", r.Data)
		}
	}
	if len(conf.Members) != 1 || conf.Members[0] != g.ID() {
		t.Errorf("got %+v", conf)
	}
	data := r.Data
	mustSend(t, g, "again")
	if err := g.ReceiveInto(soon(t), &r); err != nil || string(r.Data) != "again" || &data[0] != &r.Data[0] {
		t.Errorf("got %q, %v: not in the same memory", r.Data, err)
	}
}

func TestGroup_BufferedTellsOfWholeRecords(t *testing.T) {
	g, fd := rawGroup(t)
	if g.Buffered() {
		t.Error("nothing is there, but buffered")
	}
	b := appendRecord(appendRecord(appendRecord(nil, &confOf), &msgOf), &ringOf)
	for _, part := range [][]byte{b[:len(b)-1], b[len(b)-1:]} {
		if _, err := unix.Write(fd, part); err != nil {
			t.Fatal(err)
		}
		next(t, g)
		if part[0] == b[0] {
			if !g.Buffered() {
				t.Error("the second record is there and not buffered")
			}
			next(t, g)
		}
		if g.Buffered() {
			t.Error("no whole record is there, but buffered")
		}
	}
}

// What is on its way has the next messages wait for it, but not for long.
func TestGroup_GathersWhileMessagesAreOnTheirWay(t *testing.T) {
	fake := newFakeGroups()
	d := startGroups(t, fake)
	g := d.join(t, "g")
	next(t, g)
	gathered := func() (flying, waiting int) {
		g.out.mu.Lock()
		defer g.out.mu.Unlock()
		return g.out.flying, g.out.gained
	}
	mustSend(t, g, "0")
	if flying, waiting := gathered(); flying != 1 || waiting != 0 {
		t.Errorf("a lone message: %d on their way, %d gathered", flying, waiting)
	}
	g.out.mu.Lock()
	g.out.armed = true // so that no timer comes
	g.out.mu.Unlock()
	for i := range 9 {
		mustSend(t, g, fmt.Sprint(i+1))
	}
	if flying, waiting := gathered(); flying != 1 || waiting != 9 || g.Pending() != 10 {
		t.Errorf("then: %d on their way, %d gathered, %d pending", flying, waiting, g.Pending())
	}
	for i := range 10 {
		wantLine(t, g, fmt.Sprintf("msg 1 %d %d", os.Getpid(), i))
	}
	if n := g.Pending(); n != 0 {
		t.Errorf("at last %d pending", n)
	}
	g.out.mu.Lock()
	g.out.armed = false
	g.out.mu.Unlock()
	// Nobody receives: the timer does it.
	other := d.join(t, "g")
	next(t, other)
	for i := range 3 {
		mustSend(t, g, fmt.Sprint(i))
	}
	for i := range 3 {
		wantLine(t, other, fmt.Sprintf("msg 1 %d %d", os.Getpid(), i))
	}
}

func TestGroup_OneProcessWithManyMemberships(t *testing.T) {
	checkFDs(t)
	d := startGroups(t, newFakeGroups())
	c := d.client(t)
	const groups, each = 50, 20
	var all []*Group
	var mu sync.Mutex
	var joins sync.WaitGroup
	for i := range groups {
		joins.Go(func() {
			for range each {
				g, err := c.Join(soon(t), fmt.Sprint("g", i), JoinOpts{Create: true})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				all = append(all, g)
				mu.Unlock()
			}
		})
	}
	joins.Wait()
	if n := d.Stats().Feeds; n != groups*each {
		t.Errorf("got %d memberships, want %d", n, groups*each)
	}
	var readers sync.WaitGroup
	for _, g := range all {
		readers.Go(func() {
			if err := g.Send(soon(t), []byte("x")); err != nil {
				t.Error(err)
			}
			for messages := 0; messages < each; {
				r, err := g.Receive(soon(t))
				if err != nil {
					t.Error(err)
					return
				}
				if r.Kind == MessageRecord {
					messages++
				}
			}
		})
	}
	readers.Wait()
	for _, g := range all {
		g.Close()
	}
	for range 2000 {
		if d.Stats().Feeds == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%d memberships are left", d.Stats().Feeds)
}

func TestSender_SendsWithoutJoining(t *testing.T) {
	checkFDs(t)
	fake := newFakeGroups()
	d := startGroups(t, fake)
	g := d.join(t, "g")
	next(t, g)
	s, err := d.client(t).Sender(soon(t), "g")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for i := range 3 {
		if err := s.Send(soon(t), fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
		wantLine(t, g, fmt.Sprintf("msg 1 %d.0 %d", os.Getpid(), i))
	}
	big := bytes.Repeat([]byte("x"), MaxMessage)
	if err := s.Send(soon(t), big); err != nil {
		t.Fatal(err)
	}
	if r, err := g.Receive(soon(t)); err != nil || !bytes.Equal(r.Data, big) {
		t.Errorf("got %d bytes, %v", len(r.Data), err)
	}
	wantErrno(t, s.Send(soon(t), append(big, 'x')), unix.EMSGSIZE)
	// Finish tells that all was taken.
	fake.open(false)
	if err := s.Send(soon(t), []byte("last")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	wantErrno(t, s.Finish(ctx), unix.ETIMEDOUT)
	fake.open(true)
	if err := s.Finish(soon(t)); err != nil {
		t.Fatal(err)
	}
	wantLine(t, g, fmt.Sprintf("msg 1 %d.0 last", os.Getpid()))
	wantErrno(t, s.Send(soon(t), nil), unix.EPIPE)
}
