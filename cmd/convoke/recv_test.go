package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/ipc"
	"github.com/convoke-fs/convoke/rendezvous"
)

// receiving runs recv with a shell script, which may write to the file $OUT.
func receiving(t *testing.T, opts attendOpts, most int, script string) (s *attended, r *receiver, out string) {
	t.Helper()
	out = filepath.Join(t.TempDir(), "out")
	t.Setenv("OUT", out)
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { null.Close() })
	made := make(chan *receiver, 1)
	s = serving(t, opts, func(a *attendant) func(context.Context) error {
		r := newReceiver(a, most, null.Fd())
		made <- r
		return r.serve
	}, "sh", "-c", script)
	return s, <-made, out
}

// fdOf returns the descriptor of a file, which keeps it.
func fdOf(t *testing.T, f *os.File) int {
	t.Helper()
	t.Cleanup(func() { f.Close() })
	return int(f.Fd())
}

// file makes a file with a text and opens it.
func file(t *testing.T, text string) int {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return fdOf(t, f)
}

// pass sends descriptors as convoke send does.
func pass(t *testing.T, l fakeListener, fds ...int) error {
	t.Helper()
	p, err := rendezvous.Parse("dev/fdp/local/x")
	if err != nil {
		t.Fatal(err)
	}
	return send(&call{
		locate: func(string) (*ipc.Tree, error) { return &ipc.Tree{}, nil },
		dial:   func(*ipc.Tree) (client, error) { return fakeClient{l}, nil },
	}, p, fds, testTime)
}

// fakeClient connects to a fake listener whatever the path is.
type fakeClient struct{ l fakeListener }

func (c fakeClient) OpenFD(context.Context, string) (int, error) {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: c.l.path, Net: "unix"})
	if err != nil {
		return -1, err
	}
	defer conn.Close()
	return dupConn(conn)
}

func (c fakeClient) Announce(context.Context, string) (listener, error) {
	return nil, errors.New("not announced")
}

func (c fakeClient) Close() error { return nil }

// outcome returns what the script has written when convoke has ended.
func outcome(t *testing.T, s *attended, out string) string {
	t.Helper()
	s.stop()
	if err := s.end(t); err != nil {
		t.Errorf("recv: %v", err)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatalf("%v; stderr %s", err, s.stderr)
	}
	return string(text)
}

func TestRecv_CommandHasTheDescriptorsInOrderAndKnowsTheSender(t *testing.T) {
	s, _, out := receiving(t, attendOpts{}, maxFDs,
		`{ echo $CONVOKE_FDS $CONVOKE_PEER_UID $CONVOKE_PEER_PID; cat <&3 <&4; cat <&3; cat; } >$OUT 2>&1`)
	if err := pass(t, s.l, file(t, "one\n"), file(t, "two\n")); err != nil {
		t.Fatal(err)
	}
	if got, want := outcome(t, s, out), "2 1000 42\ntwo\none\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestRecv_MostThatAMessageCanCarry(t *testing.T) {
	s, _, out := receiving(t, attendOpts{}, maxFDs, `ls /proc/$$/fd | grep -cx 255 >$OUT; cat /proc/$$/fd/255 >>$OUT`)
	fds := make([]int, maxFDs)
	for i := range fds {
		fds[i] = file(t, fmt.Sprintln("number", i))
	}
	if err := pass(t, s.l, fds...); err != nil {
		t.Fatal(err)
	}
	if got, want := outcome(t, s, out), "1\nnumber 252\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// openFDs counts the descriptors of this process.
func openFDs(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestRecv_RefusesWhatItDidNotAskForAndKeepsNothing(t *testing.T) {
	s, r, _ := receiving(t, attendOpts{}, 1, `exit 0`)
	one, two, three := file(t, "1"), file(t, "2"), file(t, "3")
	before := openFDs(t)
	for range 20 {
		// Two fit into the room for one; three do not.
		for _, fds := range [][]int{{one, two}, {one, two, three}} {
			if err := pass(t, s.l, fds...); !errors.Is(err, syscall.E2BIG) || !strings.Contains(explain(err), "--fds") {
				t.Fatalf("%d descriptors: got %v, want E2BIG", len(fds), err)
			}
		}
		if err := pass(t, s.l); !errors.Is(err, syscall.EINVAL) {
			t.Fatalf("none: got %v, want EINVAL", err)
		}
		if err := pass(t, s.l, one); err != nil {
			t.Fatalf("one: %v", err)
		}
	}
	waitFor(t, "all senders have been served", func() bool { return len(r.room) == 0 })
	if after := openFDs(t); after != before {
		t.Errorf("%d descriptors, before %d", after, before)
	}
}

func TestRecv_FurtherMessagesAreNotTaken(t *testing.T) {
	s, r, out := receiving(t, attendOpts{}, maxFDs, `echo $CONVOKE_FDS >>$OUT`)
	conn := s.l.dialTo(t)
	fd := file(t, "x")
	for range 3 {
		if _, _, err := conn.WriteMsgUnix([]byte("some words"), unix.UnixRights(fd), nil); err != nil && !errors.Is(err, syscall.EPIPE) {
			t.Fatal(err)
		}
	}
	if answer, err := io.ReadAll(conn); string(answer) != "\x00" || err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %q, %v", answer, err)
	}
	waitFor(t, "it is served", func() bool { return len(r.room) == 0 })
	if got := outcome(t, s, out); got != "1\n" {
		t.Errorf("got %q", got)
	}
}

func TestRecv_SenderNeedNotWait(t *testing.T) {
	s, r, out := receiving(t, attendOpts{}, maxFDs, `cat <&3 >>$OUT`)
	conn := s.l.dialTo(t)
	if _, _, err := conn.WriteMsgUnix([]byte("x"), unix.UnixRights(file(t, "mine\n")), nil); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	waitFor(t, "it is served", func() bool {
		text, _ := os.ReadFile(out)
		return len(text) > 0 && len(r.room) == 0
	})
	if got := outcome(t, s, out); got != "mine\n" {
		t.Errorf("got %q", got)
	}
}

func TestRecv_SilentSendersBlockNobodyAndTheOldestGoes(t *testing.T) {
	s, r, out := receiving(t, attendOpts{}, maxFDs, `cat <&3 >>$OUT`)
	silent := make([]*net.UnixConn, maxSenders)
	for i := range silent {
		silent[i] = s.l.dialTo(t)
		waitFor(t, "the sender is accepted", func() bool { return len(r.room) == i+1 })
	}
	fd := file(t, "served\n")
	if err := pass(t, s.l, fd); err != nil {
		t.Fatal(err)
	}
	if answer, err := io.ReadAll(silent[0]); err != nil || len(answer) != 1 || syscall.Errno(answer[0]) != syscall.EBUSY {
		t.Errorf("the oldest: got %v, %v, want EBUSY", answer, err)
	}
	// The others are still welcome.
	last := silent[maxSenders-1]
	if _, _, err := last.WriteMsgUnix([]byte("x"), unix.UnixRights(fd), nil); err != nil {
		t.Fatal(err)
	}
	if answer, err := io.ReadAll(last); err != nil || string(answer) != "\x00" {
		t.Errorf("the last: got %v, %v", answer, err)
	}
	if got := outcome(t, s, out); got != "served\n" {
		t.Errorf("got %q", got)
	}
	// At the end nobody is left in the dark.
	if answer, err := io.ReadAll(silent[1]); err != nil || len(answer) != 0 {
		t.Errorf("one that is silent at the end: got %v, %v", answer, err)
	}
}

func TestRecv_TakesNothingBeforeThereIsAPlace(t *testing.T) {
	s, r, out := receiving(t, attendOpts{most: 1}, maxFDs, `cat <&3 >>$OUT`)
	gate, open, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := pass(t, s.l, fdOf(t, gate)); err != nil {
		t.Fatal(err)
	}
	second := make(chan error, 1)
	go func() { second <- pass(t, s.l, file(t, "second\n")) }()
	waitFor(t, "the second waits", func() bool { return len(r.room) == 1 })
	select {
	case err := <-second:
		t.Fatalf("the second was answered: %v", err)
	default:
	}
	if _, err := io.WriteString(open, "first\n"); err != nil {
		t.Fatal(err)
	}
	open.Close()
	if err := <-second; err != nil {
		t.Error(err)
	}
	if got := outcome(t, s, out); got != "first\nsecond\n" {
		t.Errorf("got %q", got)
	}
}

func TestRecv_OnceServesOneAndEndsAsItDoes(t *testing.T) {
	s, _, _ := receiving(t, attendOpts{once: true, most: 1}, maxFDs, `exit 5`)
	if err := pass(t, s.l); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("none: got %v, want EINVAL", err)
	}
	if err := pass(t, s.l, file(t, "x")); err != nil {
		t.Error(err)
	}
	if got := exitStatus(s.end(t)); got != 5 {
		t.Errorf("got %d, want 5", got)
	}
}

func TestSend_NeedsAnAnswerInTime(t *testing.T) {
	l := announce(t)
	defer l.Close()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	sock := os.NewFile(uintptr(fds[0]), "sock")
	defer sock.Close()
	defer unix.Close(fds[1])
	sock.SetDeadline(time.Now().Add(10 * time.Millisecond))
	p, _ := rendezvous.Parse("dev/fdp/local/x")
	err = explainSend(p, time.Second, handOver(sock, []int{file(t, "x")}))
	if !errors.Is(err, syscall.ETIMEDOUT) || !strings.Contains(explain(err), "has not answered for 1s") {
		t.Errorf("got %v, %q", err, explain(err))
	}
}

func TestSend_ReceiverThatGoesWithoutAnswer(t *testing.T) {
	l := announce(t)
	defer l.Close()
	go func() {
		if conn, err := l.AcceptUnix(); err == nil {
			conn.Read(make([]byte, 1))
			conn.Close()
		}
	}()
	if err := pass(t, l, file(t, "x")); !errors.Is(err, syscall.ECONNRESET) || !strings.Contains(explain(err), "without an answer") {
		t.Errorf("got %v, %q", err, explain(err))
	}
}

func TestInherited_OnlyWhatConvokeWasStartedWith(t *testing.T) {
	fd := file(t, "x")
	number := fmt.Sprint(fd)
	if _, err := inherited([]string{number}); !errors.Is(err, syscall.EBADF) {
		t.Errorf("one that closes on exec: got %v, want EBADF", err)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
		t.Fatal(err)
	}
	if got, err := inherited([]string{"0", number, number}); err != nil || len(got) != 3 || got[1] != fd {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := inherited([]string{"1000000"}); !errors.Is(err, syscall.EBADF) || !strings.Contains(err.Error(), "descriptor 1000000: bad file descriptor") {
		t.Errorf("got %v, want EBADF", err)
	}
	for _, bad := range []string{"x", "-1", "", "99999999999", "0x3"} {
		if _, err := inherited([]string{bad}); exitStatus(err) != exitUsage {
			t.Errorf("%q: got %v, want wrong usage", bad, err)
		}
	}
}

func TestAnswer_IsAnErrnoOrEIO(t *testing.T) {
	for err, want := range map[error]byte{
		nil: 0, syscall.E2BIG: 7, cannotRun("x", syscall.ENOENT): 2, errors.New("x"): byte(syscall.EIO), syscall.Errno(512): byte(syscall.EIO),
	} {
		r, w, pipeErr := os.Pipe()
		if pipeErr != nil {
			t.Fatal(pipeErr)
		}
		answer(w, err)
		w.Close()
		if got, _ := io.ReadAll(r); len(got) != 1 || got[0] != want {
			t.Errorf("%v: got %v, want %d", err, got, want)
		}
		r.Close()
	}
}

func FuzzRights(f *testing.F) {
	f.Add([]byte{})
	f.Add(unix.UnixRights())
	f.Add(make([]byte, unix.CmsgSpace(8)))
	f.Add([]byte("\x11\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x000")) // a quarter of a descriptor
	f.Fuzz(func(t *testing.T, control []byte) {
		// Whatever it is, it does not panic. The numbers are not closed here.
		fds, _ := rights(control)
		if 4*len(fds) > len(control) {
			t.Errorf("%d descriptors in %d bytes", len(fds), len(control))
		}
	})
}
