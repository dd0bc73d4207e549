package main

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/rendezvous"
)

// pair returns the two ends of a connection: a socket as connect has it, and
// the server's.
func pair(t *testing.T) (*socket, *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fds[1]), "server")
	conn, err := net.FileConn(f)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(testTime))
	t.Cleanup(func() {
		conn.Close()
		unix.Close(fds[0])
	})
	p, err := rendezvous.Parse("dev/tcp/web2/x")
	if err != nil {
		t.Fatal(err)
	}
	return &socket{fd: fds[0], path: p}, conn.(*net.UnixConn)
}

// pipe returns a pipe whose ends block, as a shell makes it.
func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	r, w = os.NewFile(uintptr(fds[0]), "pipe"), os.NewFile(uintptr(fds[1]), "pipe")
	t.Cleanup(func() {
		r.Close()
		w.Close()
	})
	return r, w
}

// inputs are the kinds of standard input, each with the same text.
func inputs(t *testing.T, text string) map[string]io.Reader {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	regular, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { regular.Close() })
	r, w := pipe(t)
	go func() {
		io.WriteString(w, text)
		w.Close()
	}()
	return map[string]io.Reader{"pipe": r, "file": regular, "reader": strings.NewReader(text)}
}

func TestRelay_InputOfAnyKindEndsTheWrittenSide(t *testing.T) {
	text := strings.Repeat("0123456789abcdef", 1<<16) // more than the buffers hold
	for kind, input := range inputs(t, text) {
		t.Run(kind, func(t *testing.T) {
			s, server := pair(t)
			got := make(chan int, 1)
			go func() {
				b, _ := io.ReadAll(server)
				got <- len(b)
				io.WriteString(server, "thanks\n")
				server.Close()
			}()
			var out bytes.Buffer
			if err := relay(&call{stdin: input, stdout: &out}, s, false); err != nil {
				t.Error(err)
			}
			if n := <-got; n != len(text) || out.String() != "thanks\n" {
				t.Errorf("server got %d bytes, want %d; output %q", n, len(text), &out)
			}
		})
	}
}

func TestRelay_OutputOfAnyKindGetsAll(t *testing.T) {
	const size = 3 << 20
	appended, err := os.OpenFile(filepath.Join(t.TempDir(), "out"), os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer appended.Close()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	r, w := pipe(t)
	piped := make(chan int64, 1)
	go func() {
		n, _ := io.Copy(io.Discard, r)
		piped <- n
	}()
	for kind, output := range map[string]*os.File{"pipe": w, "appended": appended, "null": null} {
		t.Run(kind, func(t *testing.T) {
			s, server := pair(t)
			go func() {
				server.Write(make([]byte, size))
				server.Close()
			}()
			if err := relay(&call{stdin: strings.NewReader(""), stdout: output}, s, false); err != nil {
				t.Error(err)
			}
		})
	}
	w.Close()
	if n := <-piped; n != size {
		t.Errorf("the pipe got %d bytes, want %d", n, size)
	}
	if info, err := appended.Stat(); err != nil || info.Size() != size {
		t.Errorf("the file got %v, %v, want %d bytes", info.Size(), err, size)
	}
}

func TestRelay_EndOfTheStreamEndsItThoughInputGoesOn(t *testing.T) {
	for _, kind := range []string{"pipe", "reader"} {
		s, server := pair(t)
		r, _ := pipe(t)
		input := io.Reader(r)
		if kind == "reader" {
			input, _ = io.Pipe()
		}
		io.WriteString(server, "bye\n")
		server.Close()
		var out bytes.Buffer
		if err := relay(&call{stdin: input, stdout: &out}, s, false); err != nil || out.String() != "bye\n" {
			t.Errorf("%s: got %q, %v", kind, &out, err)
		}
	}
}

func TestRelay_CloseEndsWithTheInput(t *testing.T) {
	s, server := pair(t)
	input, typed := io.Pipe()
	answer, shown := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- relay(&call{stdin: input, stdout: shown}, s, true) }()
	go io.Copy(server, server)
	if _, err := typed.Write([]byte("hello\n")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 6)
	if _, err := io.ReadFull(answer, buf); err != nil || string(buf) != "hello\n" {
		t.Errorf("got %q, %v", buf, err)
	}
	typed.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestRelay_SaysThatTheConnectionWasCut(t *testing.T) {
	for _, kind := range []string{"pipe", "reader"} {
		s, server := pair(t)
		// Closed with something unread, an AF_UNIX socket is reset.
		if _, err := s.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		server.Close()
		var output io.Writer = &bytes.Buffer{}
		if kind == "pipe" {
			_, output = pipe(t)
		}
		input, _ := io.Pipe()
		err := relay(&call{stdin: input, stdout: output}, s, false)
		if want := "read dev/tcp/web2/x: connection reset by peer"; err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", kind, err, want)
		}
	}
}

func TestSplice_ReaderOfThePipeIsFreeWhileNothingComes(t *testing.T) {
	s, server := pair(t)
	r, w := pipe(t)
	ended := make(chan error, 1)
	go func() { ended <- splice(int(w.Fd()), s.fd) }()
	io.WriteString(server, "first")
	if _, err := io.ReadFull(r, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	// With the lock of the pipe held in splice(2) these would hang.
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(r.Fd()), Events: unix.POLLIN}}, 20); n != 0 || err != nil {
		t.Errorf("poll: got %d, %v", n, err)
	}
	if err := unix.SetNonblock(int(r.Fd()), true); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Read(int(r.Fd()), make([]byte, 1)); err != unix.EAGAIN {
		t.Errorf("read: got %v, want EAGAIN", err)
	}
	server.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestSplice_TwoThatCannotBeSplicedLoseNothing(t *testing.T) {
	s, server := pair(t)
	other, _ := pair(t)
	io.WriteString(server, "here")
	if err := splice(other.fd, s.fd); err != unix.EINVAL {
		t.Fatalf("got %v, want EINVAL", err)
	}
	buf := make([]byte, 10)
	if n, err := s.Read(buf); err != nil || string(buf[:n]) != "here" {
		t.Errorf("got %q, %v", buf[:n], err)
	}
}

func TestSocket_DatagramsStayWholeAndHaveNoEnd(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	defer unix.Close(fds[1])
	p, err := rendezvous.Parse("dev/udp/web2/x")
	if err != nil {
		t.Fatal(err)
	}
	s := &socket{fd: fds[0], path: p}
	for _, d := range []string{"one", "", "two"} {
		if err := unix.Sendto(fds[1], []byte(d), 0, nil); err != nil {
			t.Fatal(err)
		}
	}
	buf := make([]byte, 100)
	for _, want := range []string{"one", "two"} {
		if n, err := s.Read(buf); err != nil || string(buf[:n]) != want {
			t.Errorf("got %q, %v, want %q", buf[:n], err, want)
		}
	}
	r, w := pipe(t)
	go func() {
		w.Write(bytes.Repeat([]byte("x"), 3*maxDatagram))
		w.Close()
	}()
	sent := make(chan error, 1)
	go func() { sent <- sendInput(s, r, false) }()
	got, large := 0, make([]byte, 1<<20)
	for got < 3*maxDatagram {
		if err := wait(fds[1], unix.POLLIN); err != nil {
			t.Fatal(err)
		}
		n, err := unix.Read(fds[1], large)
		if err != nil || n > maxDatagram {
			t.Fatalf("got %d bytes, %v", n, err)
		}
		got += n
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

func TestConnectError_IsWhatConnectWouldSay(t *testing.T) {
	p, err := rendezvous.Parse("dev/tcp/db/5432")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		err  error
		want string
	}{
		{&rendezvous.Error{Op: "open", Path: "dev/tcp/db/5432", Kind: rendezvous.NotExist, Err: syscall.ENOENT}, "no such host or service"},
		{&rendezvous.Error{Op: "open", Path: "dev/tcp/db/5432", Kind: rendezvous.Refused, Err: syscall.ECONNREFUSED}, "connection refused"},
		{syscall.EAGAIN, "resource temporarily unavailable"},
		{errors.New("strange"), "strange"},
	} {
		if got := connectError(p, tc.err); got.Error() != "connect dev/tcp/db/5432: "+tc.want || exitStatus(got) != exitStatus(tc.err) {
			t.Errorf("%v: got %v, %d", tc.err, got, exitStatus(got))
		}
	}
}
