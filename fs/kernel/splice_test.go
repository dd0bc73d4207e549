package kernel

import (
	"bytes"
	"encoding/binary"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// moving is a server whose replies come out of a pipe, and the stream of a TCP connection to peer.
func moving(t *testing.T) (s *Server, k *Socket, peer *net.TCPConn, replies *os.File) {
	h := newHarness(t)
	to, err := newPipeline(pipeSize)
	if err != nil {
		t.Fatal(err)
	}
	s = h.s
	s.fd = to.in
	s.writeTo = func(b []byte) syscall.Errno { _, e := rawWrite(s.fd, b); return e }
	replies = os.NewFile(uintptr(to.out), "replies")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	a, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	f, err := a.(*net.TCPConn).File()
	a.Close()
	if err != nil {
		t.Fatal(err)
	}
	k = s.NewSocket(int(f.Fd()), false)
	if err := unix.SetNonblock(k.fd, true); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(to.in); replies.Close(); c.Close(); f.Close(); s.pipes.close() })
	return s, k, c.(*net.TCPConn), replies
}

// waiting waits until n bytes lie in the socket.
func waiting(t *testing.T, k *Socket, n int) {
	t.Helper()
	end := time.Now().Add(20 * time.Second)
	for {
		got, err := unix.IoctlGetInt(k.fd, unix.SIOCINQ)
		if err != nil {
			t.Fatal(err)
		}
		if got >= n {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d bytes lie in the socket, want %d", got, n)
		}
		time.Sleep(time.Millisecond)
	}
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 7 >> 3)
	}
	return b
}

// reply reads one reply and checks its header.
func reply(t *testing.T, replies *os.File, unique uint64) []byte {
	t.Helper()
	b := make([]byte, outSize)
	n, err := replies.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	if l := int(binary.NativeEndian.Uint32(b)); l != n {
		t.Fatalf("a reply of %d bytes says that it has %d", n, l)
	}
	if u := binary.NativeEndian.Uint64(b[8:]); u != unique {
		t.Fatalf("the reply is to %d, want %d", u, unique)
	}
	return b[sizeOutHeader:n]
}

func TestSocket_MovesWhatLiesInIt(t *testing.T) {
	s, k, peer, replies := moving(t)
	data := pattern(100_001)
	if _, err := peer.Write(data); err != nil {
		t.Fatal(err)
	}
	waiting(t, k, len(data))
	buf := make([]byte, outSize)
	if !k.move(s, 7, 60_000, buf) {
		t.Fatal("60,000 of 100,001 bytes were not moved")
	}
	got := bytes.Clone(reply(t, replies, 7))
	if len(got) != 60_000 {
		t.Errorf("the reply has %d bytes, want 60000", len(got))
	}
	if k.move(s, 8, 60_000, buf) {
		t.Error("40,001 bytes were moved, fewer than pays")
	}
	n, errno := k.Read(buf)
	if errno != 0 {
		t.Fatal(errno)
	}
	if got = append(got, buf[:n]...); !bytes.Equal(got, data) {
		t.Error("what was moved and what was read are not what was sent")
	}
	if in := k.In.Load(); in != uint64(len(data)) {
		t.Errorf("%d bytes were counted, want %d", in, len(data))
	}
}

// Where data lies in more pieces than a pipe has places, the reply says what there is, nothing is lost, and the next
// reads copy.
func TestSocket_CopiesSmallPieces(t *testing.T) {
	for _, size := range []int{4096, 4 * 4096} {
		s, k, peer, replies := moving(t)
		data := pattern(120_000)
		if _, err := peer.Write(data); err != nil {
			t.Fatal(err)
		}
		waiting(t, k, len(data))
		small, err := newPipeline(size) // with one place for each page
		if err != nil {
			t.Fatal(err)
		}
		s.pipes.put(small)
		buf := make([]byte, outSize)
		var got []byte
		if k.move(s, 9, maxReply, buf) {
			got = bytes.Clone(reply(t, replies, 9))
		}
		if len(got) == len(data) || !bytes.HasPrefix(data, got) {
			t.Fatalf("a pipe of %d bytes: the reply has %d bytes that are not the first of %d", size, len(got), len(data))
		}
		if k.move(s, 10, maxReply, buf) {
			t.Errorf("a pipe of %d bytes: the next read was moved too", size)
		}
		for len(got) < len(data) {
			n, errno := k.Read(buf)
			if errno != 0 {
				t.Fatal(errno)
			}
			got = append(got, buf[:n]...)
		}
		if !bytes.Equal(got, data) {
			t.Errorf("a pipe of %d bytes: what came is not what was sent", size)
		}
	}
}

// The caller of a READ that was moved has been killed: the pipe's rest is nobody's, above all not the next caller's.
func TestSocket_MovesForNobody(t *testing.T) {
	s, k, peer, replies := moving(t)
	data := pattern(120_000)
	if _, err := peer.Write(data); err != nil {
		t.Fatal(err)
	}
	waiting(t, k, len(data))
	kernel := s.fd
	gone, err := newPipeline(pipeSize)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(gone.in)
	unix.Close(gone.out) // every reply is EPIPE
	s.fd = gone.in
	buf := make([]byte, outSize)
	if !k.move(s, 11, 60_000, buf) {
		t.Fatal("nothing was moved")
	}
	s.fd = kernel
	if !k.move(s, 12, 60_000, buf) {
		t.Fatal("nothing was moved after a killed caller")
	}
	if got := reply(t, replies, 12); !bytes.Equal(got, data[60_000:]) {
		t.Error("the second caller got other bytes than the second 60,000")
	}
}

// An error that comes with the end of the data is told by the next read.
func TestSocket_TellsALateError(t *testing.T) {
	_, k, _, _ := moving(t)
	k.late = syscall.ECONNRESET
	if _, errno := k.Read(make([]byte, 10)); errno != syscall.ECONNRESET {
		t.Errorf("read: %v, want ECONNRESET", errno)
	}
	if _, errno := k.Read(make([]byte, 10)); errno != syscall.EAGAIN {
		t.Errorf("the read after it: %v, want EAGAIN", errno)
	}
}
