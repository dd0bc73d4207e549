package ipc

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/rendezvous"
)

func TestClient_OpenFDGivesASocketThatIsTheCallers(t *testing.T) {
	checkFDs(t)
	h := newFakeHost()
	c := startDaemon(t, h, ServerOpts{}).client(t)
	fd, err := c.OpenFD(soon(t), "dev/tcp/web/echo")
	if err != nil {
		t.Fatal(err)
	}
	other := <-h.opened
	wantTalk(t, fd, other)
	wantTalk(t, other, fd)
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK == 0 {
		t.Errorf("it blocks: %#x, %v", flags, err)
	}
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("it is inherited: %#x, %v", flags, err)
	}
	c.Close()
	wantTalk(t, fd, other)
	unix.Close(fd)
	wantClosed(t, other)
	unix.Close(other)
}

func TestClient_OpenGivesAConn(t *testing.T) {
	checkFDs(t)
	h := newFakeHost()
	c := startDaemon(t, h, ServerOpts{}).client(t)
	conn, err := c.Open(soon(t), "dev/tcp/web/echo")
	if err != nil {
		t.Fatal(err)
	}
	other := <-h.opened
	if _, err := conn.Write([]byte("hello")); err != nil {
		t.Error(err)
	}
	buf := make([]byte, 8)
	if n, err := unix.Read(other, buf); err != nil || string(buf[:n]) != "hello" {
		t.Errorf("got %q, %v", buf[:max(n, 0)], err)
	}
	conn.Close()
	wantClosed(t, other)
	unix.Close(other)
}

func TestClient_ErrorsAreTheDaemons(t *testing.T) {
	c := startDaemon(t, newFakeHost(), ServerOpts{}).client(t)
	_, err := c.OpenFD(soon(t), "/dev/tcp/web/other/now")
	wantErrno(t, err, unix.ECONNREFUSED)
	if got, want := err.Error(), "open dev/tcp/web/other,now: connection refused"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	_, err = c.Announce(soon(t), "dev/tcp/local/mine")
	wantErrno(t, err, unix.EACCES)
	if got, want := err.Error(), "announce dev/tcp/local/mine: it is another user's"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if _, err = c.OpenFD(soon(t), "dev/tcp/web"); rendezvous.KindOf(err) != rendezvous.Invalid {
		t.Errorf("no path of a stream: got %v", err)
	}
	_, err = c.OpenFD(soon(t), "dev/tcp/local/echo,create")
	wantErrno(t, err, unix.EINVAL)
}

func TestClient_TheEndOfCtxCancelsInTheDaemon(t *testing.T) {
	h := newFakeHost()
	c := startDaemon(t, h, ServerOpts{}).client(t)
	for _, tc := range []struct {
		name string
		end  func(context.Context) (context.Context, context.CancelCauseFunc)
		want unix.Errno
	}{
		{"cancelled", context.WithCancelCause, unix.EINTR},
		{"with an errno", func(ctx context.Context) (context.Context, context.CancelCauseFunc) {
			ctx, cancel := context.WithCancelCause(ctx)
			return ctx, func(error) { cancel(unix.ECANCELED) }
		}, unix.ECANCELED},
		{"out of time", func(ctx context.Context) (context.Context, context.CancelCauseFunc) {
			ctx, cancel := context.WithDeadline(ctx, time.Now().Add(20*time.Millisecond))
			return ctx, func(error) { cancel() }
		}, unix.ETIMEDOUT},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ctx, cancel := tc.end(soon(t))
			result := make(chan error, 1)
			go func() {
				_, err := c.OpenFD(ctx, "dev/tcp/web/slow")
				result <- err
			}()
			wait(t, h.begun, "the dial begins")
			if tc.want == unix.ETIMEDOUT {
				<-ctx.Done()
			}
			cancel(nil)
			wantErrno(t, wait(t, result, "OpenFD returns"), tc.want)
		})
	}
	// All of them have been cancelled in the daemon, so all places are free.
	for range 2 * maxRequests {
		if _, err := c.OpenFD(soon(t), "dev/tcp/web/other"); !errors.Is(err, unix.ECONNREFUSED) {
			t.Fatal(err)
		}
	}
}

func TestClient_ADescriptorThatComesTooLateIsClosed(t *testing.T) {
	checkFDs(t)
	h := newFakeHost()
	c := startDaemon(t, h, ServerOpts{}).client(t)
	ctx, cancel := context.WithCancel(soon(t))
	result := make(chan error, 1)
	go func() {
		_, err := c.OpenFD(ctx, "dev/tcp/web/stuck")
		result <- err
	}()
	wait(t, h.begun, "the dial begins")
	cancel()
	wantErrno(t, wait(t, result, "OpenFD returns"), unix.EINTR)
	close(h.release)
	other := wait(t, h.opened, "the dial ends")
	wantClosed(t, other) // with nobody in a call
	unix.Close(other)
	if _, err := c.OpenFD(soon(t), "dev/tcp/web/other"); !errors.Is(err, unix.ECONNREFUSED) {
		t.Error(err)
	}
}

func TestClient_ManyRequestsAtOnceGetTheirOwnAnswers(t *testing.T) {
	checkFDs(t)
	h := newFakeHost()
	c := startDaemon(t, h, ServerOpts{}).client(t)
	go func() {
		for fd := range h.opened {
			unix.Close(fd)
		}
	}()
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			for n := range 100 {
				switch (i + n) % 4 {
				case 0:
					fd, err := c.OpenFD(soon(t), "dev/tcp/web/echo")
					if err != nil {
						t.Errorf("echo: %v", err)
						return
					}
					unix.Close(fd)
				case 1:
					if _, err := c.OpenFD(soon(t), "dev/tcp/web/other"); !errors.Is(err, unix.ECONNREFUSED) {
						t.Errorf("other: got %v", err)
					}
				case 2:
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(n)*time.Microsecond)
					if _, err := c.OpenFD(ctx, "dev/tcp/web/slow"); !errors.Is(err, unix.ETIMEDOUT) {
						t.Errorf("slow: got %v", err)
					}
					cancel()
				case 3:
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(n)*time.Microsecond)
					if fd, err := c.OpenFD(ctx, "dev/tcp/web/echo"); err == nil {
						unix.Close(fd)
					} else if !errors.Is(err, unix.ETIMEDOUT) {
						t.Errorf("echo in a hurry: got %v", err)
					}
					cancel()
				}
			}
		})
	}
	all.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended != nil {
		t.Errorf("the connection has ended: %v", c.ended)
	}
}

func TestClient_MoreRequestsThanPlacesWaitForTheirTurn(t *testing.T) {
	h := newFakeHost()
	c := startDaemon(t, h, ServerOpts{}).client(t)
	ctx, cancel := context.WithCancel(soon(t))
	results := make(chan error, maxRequests)
	for range maxRequests {
		go func() {
			_, err := c.OpenFD(ctx, "dev/tcp/web/slow")
			results <- err
		}()
	}
	for range maxRequests {
		wait(t, h.begun, "all dials begin")
	}
	short, stop := context.WithTimeout(soon(t), 10*time.Millisecond)
	defer stop()
	_, err := c.OpenFD(short, "dev/tcp/web/other")
	wantErrno(t, err, unix.ETIMEDOUT)
	turn := make(chan error, 1)
	go func() {
		_, err := c.OpenFD(soon(t), "dev/tcp/web/other")
		turn <- err
	}()
	cancel()
	for range maxRequests {
		wantErrno(t, wait(t, results, "OpenFD returns"), unix.EINTR)
	}
	wantErrno(t, wait(t, turn, "its turn comes"), unix.ECONNREFUSED)
}

func TestClient_TheDaemonsEndEndsAllRequests(t *testing.T) {
	checkFDs(t)
	h := newFakeHost()
	d := startDaemon(t, h, ServerOpts{})
	c := d.client(t)
	l, err := c.Announce(soon(t), "dev/tcp/local/echo")
	if err != nil {
		t.Fatal(err)
	}
	results := make(chan error, 3)
	for range 2 {
		go func() {
			_, err := c.OpenFD(soon(t), "dev/tcp/web/slow")
			results <- err
		}()
		wait(t, h.begun, "the dial begins")
	}
	go func() {
		_, err := l.Accept()
		results <- err
	}()
	d.Server.Close()
	for range 3 {
		err := wait(t, results, "the request ends")
		if !errors.Is(err, unix.ECANCELED) { // a request may hear of its own end first
			if !errors.Is(err, unix.EPIPE) { // as whoever sends at that moment has it
				wantErrno(t, err, unix.ECONNRESET)
			}
			if rendezvous.KindOf(err) != rendezvous.Unavailable || !strings.Contains(err.Error(), "the daemon has ended the connection") {
				t.Errorf("got %v", err)
			}
		}
	}
	_, err = c.OpenFD(soon(t), "dev/tcp/web/echo")
	if rendezvous.KindOf(err) != rendezvous.Unavailable {
		t.Errorf("after the daemon's end: got %v", err)
	}
	if err := l.Close(); err != nil {
		t.Errorf("Close of what has ended: got %v", err)
	}
	if c.alive() {
		t.Error("the connection counts as alive")
	}
}

func TestClient_CloseEndsItsOwnRequests(t *testing.T) {
	checkFDs(t)
	h := newFakeHost()
	c := startDaemon(t, h, ServerOpts{}).client(t)
	results := make(chan error, 2)
	for range 2 {
		go func() {
			_, err := c.OpenFD(context.Background(), "dev/tcp/web/slow")
			results <- err
		}()
		wait(t, h.begun, "the dial begins")
	}
	c.Close()
	for range 2 {
		if err := wait(t, results, "OpenFD returns"); !errors.Is(err, net.ErrClosed) {
			t.Errorf("got %v, want %v", err, net.ErrClosed)
		}
	}
	if _, err := c.OpenFD(soon(t), "dev/tcp/web/echo"); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v, want %v", err, net.ErrClosed)
	}
	c.Close()
}

func TestDial_WithoutADaemonSaysSo(t *testing.T) {
	checkFDs(t)
	tree := newTree(t)
	_, err := tree.Dial(soon(t))
	wantErrno(t, err, unix.ENOENT)
	dir := tree.path("dev/fdp/local")
	unix.Close(listenUnix(t, dir, "convoke", unix.SOCK_SEQPACKET, 1))
	_, err = tree.Dial(soon(t))
	wantErrno(t, err, unix.ECONNREFUSED)
	if rendezvous.KindOf(err) != rendezvous.Unavailable {
		t.Errorf("got %v, want Unavailable", err)
	}
	os.Remove(filepath.Join(dir, "convoke"))
	fd := listenUnix(t, dir, "convoke", unix.SOCK_SEQPACKET, 1)
	defer unix.Close(fd)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err = tree.Dial(ctx) // connects, and nobody answers
	wantErrno(t, err, unix.ETIMEDOUT)
}

func TestDial_SomebodyElsesSocketIsNotTheDaemons(t *testing.T) {
	checkFDs(t)
	hello := appendHeader(nil, header{op: opHello | opAnswer})
	for name, reply := range map[string][]byte{
		"one byte":        {1},
		"another op":      helloAnswer{1, 1, 64, 16}.append(appendHeader(nil, header{op: opOpen | opAnswer})),
		"no body":         hello,
		"another magic":   append(hello, "xxxxxxxxxxxxxxxx"...),
		"another version": helloAnswer{2, 1, 64, 16}.append(hello),
		"descriptors":     helloAnswer{1, 1, 64, 16}.append(appendHeader(nil, header{op: opHello | opAnswer, count: 1})),
	} {
		t.Run(name, func(t *testing.T) {
			fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fds[1])
			if _, err := unix.Write(fds[1], reply); err != nil {
				t.Fatal(err)
			}
			if _, err := newClient(soon(t), &Tree{}, fds[0]); !errors.Is(err, unix.EPROTO) {
				t.Errorf("got %v, want %v", err, unix.EPROTO)
			}
		})
	}
}

// A client has room for so many descriptors and no more; the kernel drops the rest.
func TestParseAnswer_WithoutRoomForItsDescriptorsIsEMFILE(t *testing.T) {
	a, err := parseAnswer(appendHeader(nil, header{op: opOpen | opAnswer, count: 1, tag: 4}), nil, unix.MSG_CTRUNC)
	if err != nil || a.failure() != unix.EMFILE || a.tag != 4 {
		t.Errorf("got %+v, %v", a, err)
	}
	if a, err := parseAnswer(appendHeader(nil, header{op: opOpen | opAnswer, count: 1}), nil, 0); err == nil {
		t.Errorf("got %+v, want an error", a)
	}
}

func TestEscape_LeavesNothingForTerminals(t *testing.T) {
	err := answerError(uint32(unix.EACCES), "no\x1b[2J\n\xff", nil)
	if got, want := err.Error(), `no\x1b[2J\x0a\xff`; got != want || !errors.Is(err, unix.EACCES) {
		t.Errorf("got %q, want %q", got, want)
	}
}
