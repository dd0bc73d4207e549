package ipc

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/rendezvous"
)

// rawClient speaks the protocol by hand.
type rawClient struct {
	t  *testing.T
	fd int
}

// raw connects without a HELLO.
func (d *daemon) raw(t *testing.T) *rawClient {
	t.Helper()
	fd, err := connectUnix(soon(t), d.path("dev/fdp/local"), "convoke", unix.SOCK_SEQPACKET, deadline)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.SetNonblock(fd, false); err != nil {
		t.Fatal(err)
	}
	tv := unix.NsecToTimeval(int64(deadline))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return &rawClient{t, fd}
}

// greeted connects and has said HELLO.
func (d *daemon) greeted(t *testing.T) *rawClient {
	t.Helper()
	c := d.raw(t)
	c.send(opHello, 0, helloRequest{1, 1}.append(nil))
	if a := c.receive(); a.op != opHello|opAnswer || a.errno != 0 {
		t.Fatalf("hello: got %+v", a)
	}
	return c
}

func (c *rawClient) sendFrame(frame []byte) {
	c.t.Helper()
	err := unix.Sendto(c.fd, frame, unix.MSG_NOSIGNAL, nil)
	for err == unix.EINTR {
		err = unix.Sendto(c.fd, frame, unix.MSG_NOSIGNAL, nil)
	}
	if err != nil {
		c.t.Errorf("send: %v", err)
	}
}

func (c *rawClient) send(op uint16, tag uint32, body []byte) {
	c.t.Helper()
	c.sendFrame(append(appendHeader(nil, header{op: op, tag: tag}), body...))
}

func (c *rawClient) open(tag uint32, path string) {
	c.t.Helper()
	c.send(opOpen, tag, appendString(nil, path))
}

// receive returns the next answer, the zero one when the connection has ended.
func (c *rawClient) receive() answer {
	c.t.Helper()
	buf, rights := make([]byte, maxFrame+1), make([]byte, 512)
	n, oobn, flags, _, err := unix.Recvmsg(c.fd, buf, rights, unix.MSG_CMSG_CLOEXEC)
	for err == unix.EINTR { // with a timeout the kernel goes on after no signal, and Go's runtime sends some
		n, oobn, flags, _, err = unix.Recvmsg(c.fd, buf, rights, unix.MSG_CMSG_CLOEXEC)
	}
	if errors.Is(err, unix.ECONNRESET) || err == nil && n == 0 {
		return answer{}
	}
	if err != nil {
		c.t.Fatalf("receive: %v", err)
	}
	a, err := parseAnswer(buf[:n], rights[:oobn], flags)
	if err != nil {
		c.t.Fatal(err)
	}
	return a
}

func (c *rawClient) want(op uint16, tag uint32, errno unix.Errno) answer {
	c.t.Helper()
	a := c.receive()
	if a.op != op|opAnswer || a.tag != tag || a.errno != uint32(errno) {
		c.t.Errorf("got %+v, want the answer to %d with tag %d and errno %v", a.header, op, tag, errno)
	}
	return a
}

func (c *rawClient) wantEnd() {
	c.t.Helper()
	if a := c.receive(); a.op != 0 {
		c.t.Errorf("got %+v, want the end of the connection", a.header)
	}
}

func TestServer_OpenHandsTheSocketOver(t *testing.T) {
	checkFDs(t)
	h := newFakeHost()
	c := startDaemon(t, h, ServerOpts{}).greeted(t)
	c.open(7, "/dev/tcp/web/echo/now")
	a := c.want(opOpen, 7, 0)
	m, err := decodeOpened(a.body)
	if err != nil || m != (opened{four, six, "web2"}) || len(a.fds) != 1 {
		t.Fatalf("got %+v with %d descriptors, %v", m, len(a.fds), err)
	}
	other := <-h.opened
	wantTalk(t, other, a.fds[0])
	// The daemon has no copy.
	a.close()
	wantClosed(t, other)
	unix.Close(other)
}

func TestServer_KnowsWhoTheClientIs(t *testing.T) {
	h := newFakeHost()
	c := startDaemon(t, h, ServerOpts{}).greeted(t)
	c.open(1, "dev/tcp/web/other")
	c.want(opOpen, 1, unix.ECONNREFUSED)
	got := h.caller(t)
	if got.PID != os.Getpid() || got.UID != uint32(os.Geteuid()) || got.GID != uint32(os.Getegid()) || got.NetNS == (rendezvous.Namespace{}) {
		t.Errorf("got %+v", got)
	}
}

func TestServer_VersionsAreNegotiated(t *testing.T) {
	d := startDaemon(t, newFakeHost(), ServerOpts{})
	for _, tc := range []struct {
		lowest, highest uint16
		errno           unix.Errno
	}{{1, 1, 0}, {0, 1, 0}, {1, 9, 0}, {2, 9, unix.EPROTONOSUPPORT}, {0, 0, unix.EPROTONOSUPPORT}} {
		c := d.raw(t)
		c.send(opHello, 5, helloRequest{tc.lowest, tc.highest}.append(nil))
		a := c.want(opHello, 5, tc.errno)
		if m, ok := decodeHelloAnswer(a.body); !ok || m != (helloAnswer{1, 1, maxRequests, maxAccepts}) {
			t.Errorf("%d-%d: got %+v", tc.lowest, tc.highest, m)
		}
		if tc.errno != 0 {
			c.wantEnd()
		}
	}
}

func TestServer_WhatIsNoHelloEndsTheConnection(t *testing.T) {
	d := startDaemon(t, newFakeHost(), ServerOpts{})
	for name, frame := range map[string][]byte{
		"another request": appendString(appendHeader(nil, header{op: opOpen}), "dev/tcp/a/echo"),
		"wrong magic":     append(appendHeader(nil, header{op: opHello}), 1, 2, 3, 4, 1, 0, 1, 0),
		"short":           append(appendHeader(nil, header{op: opHello}), 0x63, 0x6e),
		"one byte":        {1},
		"versions":        helloRequest{2, 1}.append(appendHeader(nil, header{op: opHello})),
	} {
		t.Run(name, func(t *testing.T) {
			c := d.raw(t)
			c.sendFrame(frame)
			c.wantEnd()
		})
	}
}

func TestServer_WhoDoesNotSayHelloIsDropped(t *testing.T) {
	d := newServer(newFakeHost(), ServerOpts{}, rendezvous.SocketCaller)
	d.hello = 10 * time.Millisecond
	server := &daemon{newTree(t), d}
	server.serve(t)
	server.raw(t).wantEnd()
}

func TestServer_UnknownAndMalformedRequestsLeaveTheConnection(t *testing.T) {
	c := startDaemon(t, newFakeHost(), ServerOpts{}).greeted(t)
	for tag, tc := range []struct {
		op   uint16
		body []byte
		want unix.Errno
	}{
		{99, nil, unix.ENOSYS},
		{0, []byte("x"), unix.ENOSYS},
		{opOpen, nil, unix.EINVAL},
		{opOpen, []byte{5, 0, 'a'}, unix.EINVAL},
		{opOpen, appendString(nil, ""), unix.EINVAL},
		{opOpen, appendString(nil, strings.Repeat("x", maxFrame-headerSize-2)), unix.EINVAL},
		{opOpen, appendString(nil, "dev/tcp/local/echo,create"), unix.EINVAL},
		{opOpen, appendString(nil, "dev/sctp/local/echo"), unix.ENOENT},
		{opAnnounce, []byte{1}, unix.EINVAL},
		{opAnnounce, appendString(nil, "dev/tcp/local/echo,now"), unix.EINVAL},
		{opAnnounce, appendString(nil, "dev/tcp/local/mine"), unix.EACCES},
		{opAccept, []byte{1, 0, 0}, unix.EINVAL},
		{opAccept, []byte{1, 0, 0, 0}, unix.EBADF},
		{opWithdraw, nil, unix.EINVAL},
		{opWithdraw, []byte{1, 0, 0, 0}, unix.EBADF},
		{opHello, helloRequest{1, 1}.append(nil), unix.EINVAL},
	} {
		c.send(tc.op, uint32(tag), tc.body)
		c.want(tc.op, uint32(tag), tc.want)
	}
	// These have no answer.
	c.send(opCancel, 1, []byte{1, 0, 0, 0})
	c.send(opCancel, 1, nil)
	c.open(1, "dev/tcp/web/other")
	c.want(opOpen, 1, unix.ECONNREFUSED)
}

func TestServer_TheSentenceSaysWhy(t *testing.T) {
	told := make(chan string, 1)
	c := startDaemon(t, newFakeHost(), ServerOpts{Refused: func(c rendezvous.Caller, what string, err error) {
		told <- what + ": " + err.Error()
	}}).greeted(t)
	c.send(opAnnounce, 1, appendString(nil, "dev/tcp/local/mine"))
	d := decoder{b: c.want(opAnnounce, 1, unix.EACCES).body}
	if text := d.string(); text != "it is another user's" {
		t.Errorf("got %q", text)
	}
	if got, want := wait(t, told, "the refusal is told"), "announce dev/tcp/local/mine: announce dev/tcp/local/mine: it is another user's"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestServer_FramesOfAnotherSizeEndTheConnection(t *testing.T) {
	d := startDaemon(t, newFakeHost(), ServerOpts{})
	for _, n := range []int{1, headerSize - 1, maxFrame + 1, 3 * maxFrame} {
		c := d.greeted(t)
		c.sendFrame(make([]byte, n))
		c.wantEnd()
	}
	c := d.greeted(t)
	c.sendFrame(append(appendHeader(nil, header{op: 99, tag: 3}), make([]byte, maxFrame-headerSize)...))
	c.want(99, 3, unix.ENOSYS)
}

func TestServer_ATagInUseEndsTheConnection(t *testing.T) {
	h := newFakeHost()
	d := startDaemon(t, h, ServerOpts{})
	for _, op := range []uint16{opOpen, opAccept, opWithdraw} {
		c := d.greeted(t)
		c.open(1, "dev/tcp/web/slow")
		wait(t, h.begun, "the first request begins")
		c.send(op, 1, appendString([]byte{}, "dev/tcp/web/other"))
		c.wantEnd()
	}
}

// The kernel gives the daemon no descriptor that a client sends (S24): with the last copy of the writing end gone the
// reader sees the end.
func TestServer_DescriptorsThatAreSentNeverArrive(t *testing.T) {
	checkFDs(t)
	c := startDaemon(t, newFakeHost(), ServerOpts{}).greeted(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	fds := make([]int, 200)
	for i := range fds {
		fds[i] = int(w.Fd())
	}
	before := len(openFDs(t))
	for tag := range uint32(50) {
		frame := appendHeader(nil, header{op: 99, tag: tag})
		if err := unix.Sendmsg(c.fd, frame, unix.UnixRights(fds...), nil, 0); err != nil {
			t.Fatal(err)
		}
		c.want(99, tag, unix.ENOSYS)
	}
	if after := len(openFDs(t)); after != before {
		t.Errorf("got %d descriptors, want %d as before", after, before)
	}
	w.Close()
	r.SetReadDeadline(time.Now().Add(deadline))
	if n, err := r.Read(make([]byte, 1)); n != 0 || err == nil || os.IsTimeout(err) {
		t.Errorf("got %d, %v, want the end: somebody holds the writing end", n, err)
	}
}

func TestServer_ASlowRequestHoldsUpNoOther(t *testing.T) {
	h := newFakeHost()
	c := startDaemon(t, h, ServerOpts{}).greeted(t)
	c.open(1, "dev/tcp/web/slow")
	c.open(2, "dev/tcp/web/other")
	c.want(opOpen, 2, unix.ECONNREFUSED)
	c.send(opCancel, 0, []byte{1, 0, 0, 0})
	c.want(opOpen, 1, unix.ECANCELED)
	// The tag is free again.
	c.open(1, "dev/tcp/web/other")
	c.want(opOpen, 1, unix.ECONNREFUSED)
}

func TestServer_RequestsInProgressAreBounded(t *testing.T) {
	h := newFakeHost()
	c := startDaemon(t, h, ServerOpts{}).greeted(t)
	for tag := range uint32(maxRequests) {
		c.open(tag, "dev/tcp/web/slow")
	}
	c.open(maxRequests, "dev/tcp/web/echo")
	c.want(opOpen, maxRequests, unix.EAGAIN)
	for tag := range uint32(maxRequests) {
		c.send(opCancel, 0, binary.LittleEndian.AppendUint32(nil, tag))
		c.want(opOpen, tag, unix.ECANCELED)
	}
	c.open(0, "dev/tcp/web/other")
	c.want(opOpen, 0, unix.ECONNREFUSED)
}

func TestServer_AcceptsAreAnsweredInTheirOrder(t *testing.T) {
	checkFDs(t)
	h := newFakeHost()
	c := startDaemon(t, h, ServerOpts{}).greeted(t)
	c.send(opAnnounce, 1, appendString(nil, "dev/tcp/local/echo"))
	m, err := decodeAnnounced(c.want(opAnnounce, 1, 0).body)
	if err != nil || m.path != "dev/tcp/local/echo" || len(m.addrs) != 1 || m.addrs[0] != four {
		t.Fatalf("got %+v, %v", m, err)
	}
	number := binary.LittleEndian.AppendUint32(nil, m.number)
	a := h.find(t, "dev/tcp/local/echo")
	early := a.connect(t, 1)
	c.send(opAccept, 10, number) // one waits already
	got := c.want(opAccept, 10, 0)
	wantTalk(t, early, got.fds[0])
	who, err := decodeAccepted(got.body)
	want := accepted{rendezvous.Peer{Host: "127.0.0.1", Node: "web1", PID: 1, UID: 1000, GID: rendezvous.NoID}, four, six}
	if err != nil || who != want {
		t.Errorf("got %+v, %v, want %+v", who, err, want)
	}
	got.close()
	wantClosed(t, early)
	for tag := range uint32(maxAccepts) {
		c.send(opAccept, tag, number)
	}
	c.send(opAccept, 99, number)
	c.want(opAccept, 99, unix.EAGAIN)
	c.send(opCancel, 0, binary.LittleEndian.AppendUint32(nil, 3))
	c.want(opAccept, 3, unix.ECANCELED)
	for tag := range uint32(maxAccepts) {
		if tag == 3 {
			continue
		}
		a.connect(t, int(tag)+1)
		got := c.want(opAccept, tag, 0)
		if who, err := decodeAccepted(got.body); err != nil || who.peer.PID != int(tag)+1 {
			t.Errorf("got %+v, %v, want pid %d", who, err, tag+1)
		}
		got.close()
	}
	// Clients that go before they are accepted are left out.
	unix.Close(dup(t, a.connect(t, 50)))
	gone := a.connect(t, 51)
	unix.Shutdown(gone, unix.SHUT_RDWR)
	c.send(opAccept, 1, number)
	c.want(opAccept, 1, 0).close()
	c.send(opAccept, 2, number)
	a.connect(t, 52)
	got = c.want(opAccept, 2, 0)
	if who, _ := decodeAccepted(got.body); who.peer.PID != 52 {
		t.Errorf("got pid %d, want 52", who.peer.PID)
	}
	got.close()
}

func dup(t *testing.T, fd int) int {
	t.Helper()
	n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestServer_WithdrawEndsTheAnnouncement(t *testing.T) {
	checkFDs(t)
	h := newFakeHost()
	c := startDaemon(t, h, ServerOpts{}).greeted(t)
	for round := range uint32(3) {
		c.send(opAnnounce, 1, appendString(nil, "dev/tcp/local/echo"))
		m, err := decodeAnnounced(c.want(opAnnounce, 1, 0).body)
		if err != nil || m.number != round+1 {
			t.Fatalf("got %+v, %v", m, err)
		}
		number := binary.LittleEndian.AppendUint32(nil, m.number)
		a := h.find(t, "dev/tcp/local/echo")
		c.send(opAnnounce, 2, appendString(nil, "dev/tcp/local/echo"))
		c.want(opAnnounce, 2, unix.EADDRINUSE)
		c.send(opAccept, 3, number)
		c.send(opWithdraw, 4, number)
		c.want(opAccept, 3, unix.ESHUTDOWN)
		c.want(opWithdraw, 4, 0)
		select {
		case <-a.closed:
		default:
			t.Error("the announcement is open when WITHDRAW is answered")
		}
		c.send(opAccept, 5, number)
		c.want(opAccept, 5, unix.EBADF)
	}
}

func TestServer_AnAnnouncementThatTheHostEndsAnswersAccepts(t *testing.T) {
	h := newFakeHost()
	c := startDaemon(t, h, ServerOpts{}).greeted(t)
	c.send(opAnnounce, 1, appendString(nil, "dev/tcp/local/echo"))
	c.want(opAnnounce, 1, 0)
	c.send(opAccept, 2, []byte{1, 0, 0, 0})
	c.open(3, "dev/tcp/web/other") // so ACCEPT waits by now
	c.want(opOpen, 3, unix.ECONNREFUSED)
	h.find(t, "dev/tcp/local/echo").finish()
	c.want(opAccept, 2, unix.ESHUTDOWN)
	c.send(opAccept, 4, []byte{1, 0, 0, 0})
	c.want(opAccept, 4, unix.ESHUTDOWN)
}

func TestServer_UDPGivesTheBoundSockets(t *testing.T) {
	checkFDs(t)
	h := newFakeHost()
	c := startDaemon(t, h, ServerOpts{}).greeted(t)
	c.send(opAnnounce, 1, appendString(nil, "dev/udp/local/echo"))
	a := c.want(opAnnounce, 1, 0)
	m, err := decodeAnnounced(a.body)
	if err != nil || len(a.fds) != 2 || len(m.addrs) != 2 {
		t.Fatalf("got %+v with %d descriptors, %v", m, len(a.fds), err)
	}
	for i, fd := range a.fds {
		sa, err := unix.Getsockname(fd)
		if err != nil || sa.(*unix.SockaddrInet4).Port != int(m.addrs[i].Port()) {
			t.Errorf("socket %d: got %+v, %v, want %v", i, sa, err, m.addrs[i])
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK == 0 {
			t.Errorf("socket %d blocks: %#x, %v", i, flags, err)
		}
	}
	c.send(opAccept, 2, []byte{1, 0, 0, 0})
	c.want(opAccept, 2, unix.EOPNOTSUPP)
	a.close()
}

func TestServer_TheEndOfAConnectionEndsAllThatIsItsOwn(t *testing.T) {
	checkFDs(t)
	h := newFakeHost()
	var mu sync.Mutex
	held := 0
	d := startDaemon(t, h, ServerOpts{
		Take: func(uint32) bool { mu.Lock(); defer mu.Unlock(); held++; return true },
		Give: func(uint32) { mu.Lock(); defer mu.Unlock(); held-- },
	})
	c := d.greeted(t)
	c.send(opAnnounce, 1, appendString(nil, "dev/tcp/local/echo"))
	c.want(opAnnounce, 1, 0)
	a := h.find(t, "dev/tcp/local/echo")
	c.send(opAccept, 2, []byte{1, 0, 0, 0})
	c.open(3, "dev/tcp/web/slow")
	wait(t, h.begun, "the dial begins")
	waiting := a.connect(t, 1)
	c.want(opAccept, 2, 0).close()
	wantClosed(t, waiting)
	waiting = a.connect(t, 2)
	unix.Shutdown(c.fd, unix.SHUT_RDWR)
	wait(t, a.closed, "the announcement ends")
	wantClosed(t, waiting)
	d.Server.Close() // waits for the dial's end
	if held != 0 {
		t.Errorf("%d connections are counted, want none", held)
	}
}

func TestServer_AResultThatComesTooLateIsClosed(t *testing.T) {
	checkFDs(t)
	h := newFakeHost()
	c := startDaemon(t, h, ServerOpts{}).greeted(t)
	c.open(1, "dev/tcp/web/stuck")
	wait(t, h.begun, "the dial begins")
	unix.Shutdown(c.fd, unix.SHUT_RDWR)
	close(h.release)
	other := wait(t, h.opened, "the dial ends")
	wantClosed(t, other)
	unix.Close(other)
}

func TestServer_WhoDoesNotReadIsDroppedAndHoldsUpNobody(t *testing.T) {
	s := newServer(newFakeHost(), ServerOpts{}, rendezvous.SocketCaller)
	s.stall = 50 * time.Millisecond
	d := &daemon{newTree(t), s}
	d.serve(t)
	bad, good := d.greeted(t), d.greeted(t)
	tv := unix.NsecToTimeval(int64(deadline))
	if err := unix.SetsockoptTimeval(bad.fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &tv); err != nil {
		t.Fatal(err)
	}
	var err error
	n := 0
	for ; err == nil && n < 100_000; n++ {
		if n%100 == 0 {
			good.open(1, "dev/tcp/web/other")
			good.want(opOpen, 1, unix.ECONNREFUSED)
		}
		if err = unix.Sendto(bad.fd, appendHeader(nil, header{op: 99}), unix.MSG_NOSIGNAL, nil); err == unix.EINTR {
			err = nil // of a signal of Go's runtime, as in receive
		}
	}
	if !errors.Is(err, unix.EPIPE) && !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("after %d requests without reading: got %v, want the end of the connection", n, err)
	}
	if n < 2*maxRequests {
		t.Errorf("dropped after %d unread answers, want room for %d requests", n, maxRequests)
	}
}

func TestServer_AUserWithTooManyConnectionsIsToldSo(t *testing.T) {
	checkFDs(t)
	var mu sync.Mutex
	room := 2
	d := startDaemon(t, newFakeHost(), ServerOpts{
		Take: func(uid uint32) bool {
			mu.Lock()
			defer mu.Unlock()
			if uid != uint32(os.Geteuid()) {
				t.Errorf("got uid %d, want %d", uid, os.Geteuid())
			}
			room--
			return room >= 0
		},
		Give: func(uint32) { mu.Lock(); defer mu.Unlock(); room++ },
	})
	first, _ := d.client(t), d.client(t)
	for range 2 * maxRefused { // who has been told takes no place of another
		_, err := d.Dial(soon(t))
		wantErrno(t, err, unix.EMFILE)
	}
	// Those who do not even say HELLO fill the places of those who are told, and no more.
	for range maxRefused {
		d.raw(t)
	}
	d.raw(t).wantEnd()
	if fd, err := first.OpenFD(soon(t), "dev/tcp/web/other"); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("a connection that was there: got %d, %v", fd, err)
	}
}

func TestServer_AClientThatCannotBeIdentifiedIsRefused(t *testing.T) {
	h := newFakeHost()
	s := newServer(h, ServerOpts{}, func(int) (rendezvous.Caller, error) {
		return rendezvous.Caller{}, &rendezvous.Error{Op: "look up", Kind: rendezvous.NotExist, Err: unix.ESRCH}
	})
	d := &daemon{newTree(t), s}
	d.serve(t)
	_, err := d.Dial(soon(t))
	wantErrno(t, err, unix.EACCES)
	if rendezvous.KindOf(err) != rendezvous.Permission || h.requests() != 0 {
		t.Errorf("got %v, %d requests", err, h.requests())
	}
}

func TestServer_CloseEndsAll(t *testing.T) {
	checkFDs(t)
	h := newFakeHost()
	d := startDaemon(t, h, ServerOpts{})
	c := d.greeted(t)
	silent := d.raw(t)
	c.send(opAnnounce, 1, appendString(nil, "dev/tcp/local/echo"))
	c.want(opAnnounce, 1, 0)
	a := h.find(t, "dev/tcp/local/echo")
	c.open(2, "dev/tcp/web/slow")
	wait(t, h.begun, "the dial begins")
	// The silent one is connected when it is in the backlog, and may not be accepted yet.
	for end := time.Now().Add(deadline); d.Stats().Connections != 2; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("got %d connections, want 2", d.Stats().Connections)
		}
	}
	d.Server.Close()
	select {
	case <-a.closed:
	default:
		t.Error("the announcement is open after Close")
	}
	c.wantEnd()
	silent.wantEnd()
	if n := d.Stats().Connections; n != 0 {
		t.Errorf("got %d connections, want none", n)
	}
	d.Server.Close()
	fd := listenUnix(t, t.TempDir(), "s", unix.SOCK_SEQPACKET, 1)
	if err := d.Serve(fd); err != nil {
		t.Errorf("Serve after Close: got %v, want nil at once", err)
	}
}

func TestServer_AKilledProcessTakesItsAnnouncementsAlong(t *testing.T) {
	if inChild(t) {
		c, err := (&Tree{Dir: os.Getenv("IPC_TEST_TREE")}).Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Announce(t.Context(), "dev/tcp/local/echo"); err != nil {
			t.Fatal(err)
		}
		os.Stdout.WriteString("announced\n")
		select {}
	}
	h := newFakeHost()
	d := startDaemon(t, h, ServerOpts{})
	cmd := child(t, d.Tree, nil)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64)
	if n, err := out.Read(buf); err != nil || string(buf[:n]) != "announced\n" {
		t.Fatalf("got %q, %v", buf[:n], err)
	}
	a := h.find(t, "dev/tcp/local/echo")
	cmd.Process.Kill()
	wait(t, a.closed, "the announcement ends")
	cmd.Wait()
}

func TestServer_TheIdentityIsThatOfTheConnect(t *testing.T) {
	if inChild(t) {
		c, err := (&Tree{Dir: os.Getenv("IPC_TEST_TREE")}).Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.OpenFD(t.Context(), "dev/tcp/web/other")
		wantErrno(t, err, unix.ECONNREFUSED)
		return
	}
	needRoot(t)
	h := newFakeHost()
	d := startDaemon(t, h, ServerOpts{})
	cmd := child(t, d.Tree, &syscall.Credential{Uid: 1000, Gid: 1001, Groups: []uint32{5000, 5001}})
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	got := h.caller(t)
	if got.UID != 1000 || got.GID != 1001 || !got.In(5000) || !got.In(5001) || got.In(0) || got.PID != cmd.Process.Pid || got.Caps != 0 {
		t.Errorf("got %+v, want uid 1000, gid 1001, groups 5000 and 5001, pid %d", got, cmd.Process.Pid)
	}
}

func TestServer_AChangeOfIdentityAfterTheConnectChangesNothing(t *testing.T) {
	if inChild(t) {
		c, err := (&Tree{Dir: os.Getenv("IPC_TEST_TREE")}).Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(syscall.Setgroups([]int{7}), syscall.Setresgid(1001, 1001, 1001), syscall.Setresuid(1000, 1000, 1000)); err != nil {
			t.Fatal(err)
		}
		_, err = c.OpenFD(t.Context(), "dev/tcp/web/other")
		wantErrno(t, err, unix.ECONNREFUSED)
		return
	}
	needRoot(t)
	h := newFakeHost()
	d := startDaemon(t, h, ServerOpts{})
	cmd := child(t, d.Tree, &syscall.Credential{Uid: 0, Gid: 5, Groups: []uint32{5000}})
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got := h.caller(t); got.UID != 0 || got.GID != 5 || !got.In(5000) || got.In(7) || got.In(1001) {
		t.Errorf("got %+v, want uid 0, gid 5, group 5000", got)
	}
}

// child returns a command that runs the calling test once more, in another process; there inChild tells it so.
func child(t *testing.T, tree *Tree, who *syscall.Credential) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, "/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.count=1")
	cmd.Env = append(os.Environ(), "IPC_TEST_CHILD="+t.Name(), "IPC_TEST_TREE="+tree.Dir)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: who}
	return cmd
}

func inChild(t *testing.T) bool { return os.Getenv("IPC_TEST_CHILD") == t.Name() }
