package faults

import (
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/test/daemon"
)

func TestPeer_ResetsWhileReadAndWriteAreBlocked(t *testing.T) {
	n := start(t)
	s := daemon.Serve(t)
	f := n.MustOpen(s.Path, unix.O_RDWR)
	peer := s.Accept()
	read, write := f.Read(100), f.Fill()
	waitMetric(t, n, "convoke_parked_requests", 2)
	peer.SetLinger(0) // so that close(2) resets
	peer.Close()
	r, w := daemon.Wait(t, daemon.Bound, "read", read), daemon.Wait(t, daemon.Bound, "write", write)
	// The socket tells the reset to whoever asks first; the other one gets what is true behind it.
	reset := errors.Is(r.Err, unix.ECONNRESET) || errors.Is(w.Err, unix.ECONNRESET)
	if !reset || r.Err != nil && !errors.Is(r.Err, unix.ECONNRESET) || r.N > 0 {
		t.Errorf("read: got %d, %v, want ECONNRESET here or at the writer", r.N, r.Err)
	}
	if !errors.Is(w.Err, unix.ECONNRESET) && !errors.Is(w.Err, unix.EPIPE) {
		t.Errorf("write: got %v, want ECONNRESET or EPIPE", w.Err)
	}
	waitMetric(t, n, "convoke_parked_requests", 0)
}

// both opens a stream, blocks a thread in read and one in write, and says so before.
const both = `
import os, sys, threading
fd = os.open(sys.argv[1], os.O_RDWR)
def fill():
    while True: os.write(fd, bytes(262144))
threading.Thread(target=fill, daemon=True).start()
print("open", flush=True)
os.read(fd, 1)`

// gone tells when the peer sees the end of the connection; what was sent before is read.
func gone(c *net.TCPConn) <-chan time.Time {
	end := make(chan time.Time, 1)
	go func() {
		_, _ = io.Copy(io.Discard, c)
		end <- time.Now()
	}()
	return end
}

func TestClient_KilledWithBlockedReadAndWrite(t *testing.T) {
	n := start(t)
	s := daemon.Serve(t)
	c := n.Spawn(daemon.U1000, "python3", "-c", both, s.Path)
	peer := s.Accept()
	c.Expect("open")
	waitMetric(t, n, "convoke_parked_requests", 2)
	began := time.Now()
	c.Signal(syscall.SIGKILL)
	if end := daemon.Wait(t, daemon.Bound, "end at the server", gone(peer)); end.Sub(began) > quick {
		t.Errorf("the server has seen the end after %v, want within a second", end.Sub(began))
	}
	waitMetric(t, n, "convoke_parked_requests", 0)
	waitMetric(t, n, "convoke_connections", 0)
}

func TestClient_StoppedDisturbsNobody(t *testing.T) {
	n := start(t)
	s := daemon.Serve(t)
	c := n.Spawn(daemon.U1000, "python3", "-c", both, s.Path)
	stoppedPeer := s.Accept()
	c.Expect("open")
	waitMetric(t, n, "convoke_parked_requests", 2)
	c.Signal(syscall.SIGSTOP)
	go io.WriteString(stoppedPeer, strings.Repeat("x", 1<<20)) // it does not take it
	f := n.MustOpen(s.Path, unix.O_RDWR)
	peer := s.Accept()
	for range 100 {
		f.Echo(peer, "hello")
	}
	c.Signal(syscall.SIGCONT)
	c.Ends(daemon.Bound) // of its own: the read has got its byte, and the writer's thread is all that is left
}

func TestPeer_FullBlocksItsWriterOnly(t *testing.T) {
	n := start(t)
	s := daemon.Serve(t)
	c := n.Spawn(daemon.U1000, "dd", "if=/dev/zero", "bs=65536", "of="+s.Path, "conv=notrunc")
	full := s.Accept()
	waitMetric(t, n, "convoke_parked_requests", 1)
	f := n.MustOpen(s.Path, unix.O_RDWR)
	f.Echo(s.Accept(), "others work")
	c.Signal(syscall.SIGKILL)
	if status := c.Ends(daemon.Bound); status != 128+9 {
		t.Errorf("status %d", status)
	}
	daemon.Wait(t, daemon.Bound, "end at the server", gone(full))
}

// Two writers share one descriptor, as a shell and its background job do. Both wait in the daemon, not one for the
// other's lock in the kernel, so each can be killed without the other.
func TestWriters_OfOneDescriptorCanEachBeKilled(t *testing.T) {
	n := start(t)
	s := daemon.Serve(t)
	c := n.Spawn(daemon.Root, "sh", "-c", `exec 3>"$1"
dd if=/dev/zero bs=1048576 >&3 & echo $!
read -r go
dd if=/dev/zero bs=1048576 >&3 & second=$!; echo $second
wait $second; echo "second ended"
wait; echo "both ended"`, "sh", s.Path)
	full := s.Accept()
	first := atoi(t, c.Line())
	waitMetric(t, n, "convoke_parked_requests", 1)
	c.Say("go")
	second := atoi(t, c.Line())
	waitMetric(t, n, "convoke_parked_requests", 2)
	kill := func(pid int) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	kill(second)
	c.Expect("second ended")
	waitMetric(t, n, "convoke_parked_requests", 1)
	kill(first)
	c.Expect("both ended")
	daemon.Wait(t, daemon.Bound, "end at the server", gone(full))
	waitMetric(t, n, "convoke_connections", 0)
}

// Of writers that append (>>) the kernel lets one in at a time, and the others wait for the inode's lock
// (fuse_file_write_iter in fs/fuse/file.c), where no signal reaches them. They must go when the first one does.
func TestWriters_AppendingToOneDescriptorGoWithTheFirst(t *testing.T) {
	n := start(t)
	s := daemon.Serve(t)
	c := n.Spawn(daemon.Root, "sh", "-c", `exec 3>>"$1"
dd if=/dev/zero bs=1048576 >&3 & echo $!
read -r go
dd if=/dev/zero bs=1048576 >&3 & echo $!
wait`, "sh", s.Path)
	full := s.Accept()
	first := atoi(t, c.Line())
	waitMetric(t, n, "convoke_parked_requests", 1)
	c.Say("go")
	second := atoi(t, c.Line())
	for _, pid := range []int{second, first} {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	c.Ends(daemon.Bound)
	daemon.Wait(t, daemon.Bound, "end at the server", gone(full))
	waitMetric(t, n, "convoke_connections", 0)
}

func atoi(t *testing.T, s string) int {
	t.Helper()
	i, err := strconv.Atoi(strings.TrimSpace(s))
	if err != nil {
		t.Fatal(err)
	}
	return i
}
