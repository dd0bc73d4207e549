package ipc

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/rendezvous"
)

// rawFeed is the client's end of a membership's stream, by hand. It blocks, with a bound.
type rawFeed struct {
	t  *testing.T
	fd int
	b  []byte // read and not taken
}

// rawJoin joins by hand.
func (d *daemon) rawJoin(t *testing.T, name string) *rawFeed {
	t.Helper()
	return d.rawFeed(t, opJoin, joinRequest{name, joinCreate})
}

func (d *daemon) rawFeed(t *testing.T, op uint16, m joinRequest) *rawFeed {
	t.Helper()
	c := d.greeted(t)
	c.send(op, 1, m.append(nil))
	a := c.want(op, 1, 0)
	if len(a.fds) != 1 {
		t.Fatalf("got %d descriptors", len(a.fds))
	}
	fd := a.fds[0]
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil || flags&unix.O_NONBLOCK == 0 {
		t.Errorf("the stream's flags are %#x, %v, without O_NONBLOCK", flags, err)
	}
	tv := unix.NsecToTimeval(int64(deadline))
	err = errors.Join(unix.SetNonblock(fd, false), unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &tv))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return &rawFeed{t: t, fd: fd}
}

func (f *rawFeed) write(b []byte) {
	f.t.Helper()
	for len(b) > 0 {
		n, err := f.send(b, 0)
		if err != nil {
			f.t.Errorf("write: %v", err)
			return
		}
		b = b[n:]
	}
}

func (f *rawFeed) send(b []byte, flags int) (int, error) {
	for {
		n, err := unix.SendmsgN(f.fd, b, nil, nil, unix.MSG_NOSIGNAL|flags)
		if err != unix.EINTR { // which the kernel gives for any signal where there is a timeout
			return n, err
		}
	}
}

func (f *rawFeed) recv(b []byte) (int, error) {
	for {
		n, err := unix.Read(f.fd, b)
		if err != unix.EINTR {
			return n, err
		}
	}
}

// read returns the next record; kind 0 when the stream ends.
func (f *rawFeed) read() (r Record, kind uint16, errno unix.Errno) {
	f.t.Helper()
	for {
		size, kind, ok := feedFrame(f.b)
		if ok && len(f.b) >= padded(size) {
			_, errno, err := r.decode(kind, f.b[:size])
			if err != nil {
				f.t.Fatal(err)
			}
			f.b = f.b[padded(size):]
			return r, kind, errno
		}
		buf := make([]byte, 64<<10)
		n, err := f.recv(buf)
		if err == unix.ECONNRESET || err == nil && n == 0 {
			if len(f.b) > 0 {
				f.t.Errorf("the stream ends within a record of %d bytes, after %d", size, len(f.b))
			}
			return r, 0, 0
		}
		if err != nil {
			f.t.Fatalf("read: %v", err)
		}
		f.b = append(f.b, buf[:n]...)
	}
}

// wantLast fails unless the next record is an END with errno, and then the stream ends.
func (f *rawFeed) wantLast(want unix.Errno) {
	f.t.Helper()
	if r, kind, errno := f.read(); kind != feedEnd || errno != want {
		f.t.Errorf("got kind %d, %v, %+v; want the end with %v", kind, errno, r, want)
	}
	if r, kind, _ := f.read(); kind != 0 {
		f.t.Errorf("after the end: got kind %d, %+v", kind, r)
	}
}

func (f *rawFeed) wantMessage(want string) {
	f.t.Helper()
	if r, kind, errno := f.read(); kind != feedMsg || string(r.Data) != want {
		f.t.Errorf("got kind %d, %q, %v; want %q", kind, r.Data, errno, want)
	}
}

func (f *rawFeed) wantConf() {
	f.t.Helper()
	if r, kind, errno := f.read(); kind != feedConf {
		f.t.Errorf("got kind %d, %+v, %v; want a conf", kind, r, errno)
	}
}

// sent tells how many messages a group has got.
func (g *fakeGroups) sent(name string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.groups[name].sent
}

func TestFeed_LeaveIsAnsweredByTheEnd(t *testing.T) {
	checkFDs(t)
	d := startGroups(t, newFakeGroups())
	f := d.rawJoin(t, "g")
	f.wantConf()
	leave := pad(appendFeedHeader(nil, feedHeader, feedLeave), feedHeader)
	f.write(append(appendMessage(appendMessage(nil, []byte("one")), nil), leave...))
	f.wantLast(0)
	s := d.rawFeed(t, opSender, joinRequest{name: "g"})
	s.write(append(appendMessage(nil, []byte("two")), leave...))
	s.wantLast(0)
	if n := d.Stats(); n.Joins != 2 || n.Messages != 3 {
		t.Errorf("got %+v", n)
	}
}

// What is no record ends the membership, and nothing of it is sent.
func TestFeed_WhatIsNoRecordIsRefused(t *testing.T) {
	checkFDs(t)
	fake := newFakeGroups()
	d := startGroups(t, fake)
	for name, tc := range map[string]struct {
		b    []byte
		want unix.Errno
	}{
		"a byte too long": {appendFeedHeader(nil, feedHeader+MaxMessage+1, feedMessage), unix.EMSGSIZE},
		"huge":            {appendFeedHeader(nil, 1<<31, feedMessage), unix.EMSGSIZE},
		"no header":       {appendFeedHeader(nil, feedHeader-1, feedMessage), unix.EPROTO},
		"nothing":         {appendFeedHeader(nil, 0, 0), unix.EPROTO},
		"unknown":         {appendFeedHeader(nil, feedHeader, 3), unix.EPROTO},
		"long leave":      {appendFeedHeader(nil, maxFrame+1, feedLeave), unix.EPROTO},
	} {
		t.Run(name, func(t *testing.T) {
			f := d.rawJoin(t, "g")
			f.wantConf()
			before := fake.sent("g")
			f.write(append(appendMessage(nil, []byte("good")), tc.b...))
			for {
				r, kind, errno := f.read()
				if kind == feedMsg && string(r.Data) == "good" {
					continue // it may have got there before its end
				}
				if kind != feedEnd || errno != tc.want {
					t.Errorf("got kind %d, %v, want the end with %v", kind, errno, tc.want)
				}
				break
			}
			if n := fake.sent("g") - before; n != 1 {
				t.Errorf("%d messages were sent, want one", n)
			}
		})
	}
}

// Records may be cut anywhere.
func TestFeed_RecordsMayComeInPieces(t *testing.T) {
	d := startGroups(t, newFakeGroups())
	f := d.rawJoin(t, "g")
	f.wantConf()
	var b []byte
	var want []string
	for i := range 20 {
		text := strings.Repeat(string(rune('a'+i)), i*i*i)
		want = append(want, text)
		b = appendMessage(b, []byte(text))
	}
	big := strings.Repeat("z", feedWhole+12345)
	want = append(want, big)
	b = appendMessage(b, []byte(big))
	go func() {
		for n := 1; len(b) > 0; n = n*3%1009 + 1 {
			n = min(n, len(b))
			f.write(b[:n])
			b = b[n:]
		}
	}()
	for _, text := range want {
		f.wantMessage(text)
	}
}

// While there is no room the daemon does not read; afterwards all is there, in order.
func TestFeed_NoRoomStopsTheClient(t *testing.T) {
	checkFDs(t)
	fake := newFakeGroups()
	d := startGroups(t, fake)
	f := d.rawJoin(t, "g")
	f.wantConf()
	other := d.rawJoin(t, "other")
	other.wantConf()
	fake.open(false)
	// The buffers take so much and no more.
	message := bytes.Repeat([]byte("x"), 1000)
	count, idle := 0, 0
	var part []byte
	for limit := 4 << 20; idle < 50; {
		if len(part) == 0 {
			binary.LittleEndian.PutUint32(message, uint32(count))
			part = appendMessage(nil, message)
			count++
		}
		n, err := f.send(part, unix.MSG_DONTWAIT)
		if err == unix.EAGAIN {
			idle++
			time.Sleep(time.Millisecond)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		idle = 0
		part = part[n:]
		if limit -= n; limit < 0 {
			t.Fatal("4 MiB were taken without room")
		}
	}
	if n := fake.sent("g"); n != 0 {
		t.Errorf("%d messages were sent without room", n)
	}
	go f.write(part)
	fake.open(true)
	for i := range count {
		r, kind, errno := f.read()
		if kind != feedMsg || len(r.Data) != len(message) || binary.LittleEndian.Uint32(r.Data) != uint32(i) {
			t.Fatalf("message %d: got kind %d, %v", i, kind, errno)
		}
	}
}

func TestGroup_SendWaitsForRoom(t *testing.T) {
	for _, size := range []int{100, groupDirect, 100 << 10} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			checkFDs(t)
			fake := newFakeGroups()
			d := startGroups(t, fake)
			g := d.join(t, "g")
			next(t, g)
			fake.open(false)
			data := make([]byte, size)
			count := 0
			for {
				binary.LittleEndian.PutUint32(data, uint32(count))
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
				err := g.Send(ctx, data)
				cancel()
				if err != nil {
					wantErrno(t, err, unix.ETIMEDOUT)
					break
				}
				if count++; count*size > 8<<20 {
					t.Fatal("8 MiB were taken without room")
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			wantErrno(t, g.Flush(ctx), unix.ETIMEDOUT)
			fake.open(true)
			for i := range count {
				r, err := g.Receive(soon(t))
				if err != nil || len(r.Data) != size || binary.LittleEndian.Uint32(r.Data) != uint32(i) {
					t.Fatalf("message %d: got %d bytes, %v", i, len(r.Data), err)
				}
			}
			if err := g.Flush(soon(t)); err != nil {
				t.Error(err)
			}
			mustSend(t, g, "last")
			wantLine(t, g, fmt.Sprintf("msg 1 %d last", os.Getpid()))
		})
	}
}

// A client that does not read is put out when its queue is full, and finds what there was and the reason.
func TestFeed_ClientThatDoesNotReadIsPutOut(t *testing.T) {
	checkFDs(t)
	for _, size := range []int{64, 5000, MaxMessage} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			fake := newFakeGroups()
			fake.limit = 50
			d := startGroups(t, fake)
			slow := d.rawJoin(t, "g")
			slow.wantConf()
			sender := d.rawFeed(t, opSender, joinRequest{name: "g"})
			message := appendMessage(nil, bytes.Repeat([]byte("m"), size))
			sent := 0
			for d.Stats().Feeds == 2 && sent < 100000 {
				sender.write(message)
				sent++
			}
			got := 0
			for {
				r, kind, errno := slow.read2()
				if kind == feedMsg && len(r.Data) == size {
					got++
					continue
				}
				// One message of 1 MiB does not fit in with the END: then the stream just ends.
				if (kind != feedEnd || errno != unix.EPIPE) && (kind != 0 || size < MaxMessage) {
					t.Errorf("after %d messages: got kind %d, %v", got, kind, errno)
				}
				break
			}
			if got >= sent {
				t.Errorf("got %d of %d messages: nobody was put out", got, sent)
			}
			// Nobody else has suffered.
			sender.write(pad(appendFeedHeader(nil, feedHeader, feedLeave), feedHeader))
			sender.wantLast(0)
		})
	}
}

// read2 is read, of a stream that may end anywhere.
func (f *rawFeed) read2() (r Record, kind uint16, errno unix.Errno) {
	buf := make([]byte, 64<<10)
	for {
		size, _, ok := feedFrame(f.b)
		if ok && len(f.b) >= padded(size) {
			return f.read()
		}
		n, err := f.recv(buf)
		if err != nil || n == 0 {
			return r, 0, 0
		}
		f.b = append(f.b, buf[:n]...)
	}
}

// A client that reads slowly, but reads, gets all.
func TestFeed_SlowClientGetsAll(t *testing.T) {
	d := startGroups(t, newFakeGroups())
	slow := d.rawJoin(t, "g")
	slow.wantConf()
	sender := d.rawFeed(t, opSender, joinRequest{name: "g"})
	const count = 2000
	go func() {
		for i := range count {
			b := make([]byte, i%3000)
			sender.write(appendMessage(nil, fmt.Append(b, " ", i)))
		}
	}()
	for i := range count {
		if i%200 == 0 {
			time.Sleep(5 * time.Millisecond)
		}
		slow.wantMessage(string(fmt.Append(make([]byte, i%3000), " ", i)))
	}
}

func TestFeed_DaemonTellsThatItEnds(t *testing.T) {
	checkFDs(t)
	d := startGroups(t, newFakeGroups())
	f, g := d.rawJoin(t, "g"), d.join(t, "h")
	f.wantConf()
	next(t, g)
	d.Server.Close()
	f.wantLast(unix.ESHUTDOWN)
	wantEndOf(t, g, unix.ESHUTDOWN)
	wantErrno(t, g.Send(soon(t), nil), unix.ESHUTDOWN)
	if n := d.Stats().Feeds; n != 0 {
		t.Errorf("%d memberships are left", n)
	}
}

func TestGroup_DeathOfTheDaemonIsNoOrderlyEnd(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	g := &Group{}
	if err := g.open(pair[0], "g"); err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	unix.Write(pair[1], appendRecord(nil, &confOf))
	unix.Close(pair[1])
	next(t, g)
	_, err = g.Receive(soon(t))
	var ours *rendezvous.Error
	if !errors.As(err, &ours) || ours.Kind != rendezvous.Unavailable || !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("got %v", err)
	}
	if err := g.Send(soon(t), nil); err == nil {
		t.Error("sent to nobody")
	}
}

// The daemon takes no descriptors (S24).
func TestFeed_DescriptorsOfClientsDoNotReachTheDaemon(t *testing.T) {
	checkFDs(t)
	d := startGroups(t, newFakeGroups())
	f := d.rawJoin(t, "g")
	f.wantConf()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	fds := make([]int, 200)
	for i := range fds {
		fds[i] = int(w.Fd())
	}
	for range 10 {
		if err := unix.Sendmsg(f.fd, appendMessage(nil, []byte("x")), unix.UnixRights(fds...), nil, unix.MSG_NOSIGNAL); err != nil {
			t.Fatal(err)
		}
		f.wantMessage("x")
	}
	w.Close()
	// Nobody has the other end of the pipe any more.
	if n, err := r.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("got %d, %v, want the end", n, err)
	}
}

// A notice that comes while somebody else writes, or within a batch, is not lost.
func TestFeed_NoNoticeIsLost(t *testing.T) {
	checkFDs(t)
	fake := newFakeGroups()
	d := startGroups(t, fake)
	const senders, each = 4, 3000
	ctx := soon(t)
	var members []*Group
	for range 3 {
		members = append(members, d.join(t, "g"))
	}
	var all sync.WaitGroup
	for range senders {
		s, err := d.client(t).Sender(soon(t), "g")
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		all.Go(func() {
			for i := range each {
				if err := s.Send(ctx, make([]byte, i%100)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for _, g := range members {
		all.Go(func() {
			for messages := 0; messages < senders*each; {
				r, err := g.Receive(ctx)
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
	all.Wait()
}

// endless is a membership that always has one more record.
type endless struct{ ended atomic.Bool }

func (m *endless) ID() Process                      { return Process{1, 1, 1} }
func (m *endless) Send(data []byte, own bool) error { return nil }
func (m *endless) Notify(f func())                  {}
func (m *endless) Ended() bool                      { return m.ended.Load() }
func (m *endless) Leave(Reason)                     { m.ended.Store(true) }
func (m *endless) Next(r *Record) error {
	if m.ended.Load() {
		return io.EOF
	}
	*r = msgOf
	return nil
}

// Whoever brings news writes some of them, and goes on with what he has to do.
func TestFeed_NewsWithoutEndKeepNobody(t *testing.T) {
	checkFDs(t)
	s := newServer(newFakeHost(), ServerOpts{}, nil)
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	feed, err := newFeed(s, pair[1], 0, &endless{})
	if err != nil {
		t.Fatal(err)
	}
	g := &Group{}
	if err := g.open(pair[0], "g"); err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	ctx, read := soon(t), make(chan error, 1)
	go func() {
		for {
			if _, err := g.Receive(ctx); err != nil {
				read <- err
				return
			}
		}
	}()
	started := make(chan struct{})
	go func() {
		feed.start()
		close(started)
	}()
	wait(t, started, "the first write returns")
	s.Close()
	wantErrno(t, wait(t, read, "the end"), unix.ESHUTDOWN)
}

// All may end at once, whatever they are doing.
func TestFeed_EndsRaceWithEverything(t *testing.T) {
	checkFDs(t)
	ctx := soon(t)
	for round := range 20 {
		fake := newFakeGroups()
		fake.limit = 200
		d := startDaemon(t, newFakeHost(), ServerOpts{Groups: fake})
		var all sync.WaitGroup
		var received atomic.Int64
		begin := make(chan struct{})
		for i := range 8 {
			g, err := d.client(t).Join(soon(t), "g", JoinOpts{Create: true})
			if err != nil {
				t.Fatal(err)
			}
			all.Go(func() {
				for {
					r, err := g.Receive(ctx)
					if err != nil {
						return
					}
					received.Add(int64(len(r.Data)))
				}
			})
			all.Go(func() {
				data := make([]byte, 1<<(2*i))
				<-begin
				for n := 0; g.Send(ctx, data) == nil; n++ {
					if n%64 == 0 {
						time.Sleep(50 * time.Microsecond) // others have their turn on one processor too
					}
				}
			})
			if i%2 == 0 {
				all.Go(func() {
					<-begin
					time.Sleep(time.Duration(round*i) * 100 * time.Microsecond)
					if i%4 == 0 {
						g.Leave(soon(t))
					}
					g.Close()
				})
			} else {
				defer g.Close()
			}
		}
		close(begin)
		time.Sleep(time.Duration(round) * 300 * time.Microsecond)
		fake.open(false)
		time.Sleep(time.Millisecond)
		if round%2 == 0 {
			fake.open(true)
		}
		d.Server.Close()
		all.Wait()
	}
}

// Half a large message takes memory, so a user has only so many of them.
func TestFeed_HalfMessagesOfAUserAreBounded(t *testing.T) {
	var b feedBudgets
	done := make(chan struct{})
	var held []*feedBudget
	for range feedWholes {
		held = append(held, b.take(1000, done))
	}
	if b.take(0, done) != rootBudget || b.take(1001, done) == nil {
		t.Error("others are concerned")
	}
	got := make(chan *feedBudget)
	go func() { got <- b.take(1000, done) }()
	select {
	case <-got:
		t.Error("one more was let in")
	case <-time.After(10 * time.Millisecond):
	}
	held[0].give()
	wait(t, got, "a place that was given back").give()
	b.take(1000, done)
	go func() { got <- b.take(1000, done) }()
	close(done)
	if wait(t, got, "the end of the wait") != nil {
		t.Error("got a place at the end")
	}
	var none *feedBudget
	none.give()
	rootBudget.give()
}
