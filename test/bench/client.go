package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// tripSize is how many bytes go each way in a round trip.
const tripSize = 64

// A target is what a client opens: a stream file, "tcp:PORT", a socket connected to 127.0.0.1, or "unix:PATH", one
// connected to PATH.
type target string

func (t target) open() (int, error) {
	if path, ok := strings.CutPrefix(string(t), "unix:"); ok {
		return connectTo(unix.AF_UNIX, &unix.SockaddrUnix{Name: path})
	}
	s, ok := strings.CutPrefix(string(t), "tcp:")
	if !ok {
		for {
			fd, err := unix.Open(string(t), unix.O_RDWR|unix.O_CLOEXEC, 0)
			if err == unix.EINTR {
				continue
			}
			if err != nil {
				return -1, &os.PathError{Op: "open", Path: string(t), Err: err}
			}
			return fd, nil
		}
	}
	port, err := strconv.Atoi(s)
	if err != nil {
		return -1, err
	}
	return connectTo(unix.AF_INET, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: port})
}

func connectTo(family int, to unix.Sockaddr) (int, error) {
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.Connect(fd, to); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("connect: %w", err)
	}
	return fd, nil
}

// clientSend: TARGET BLOCK BYTES. The peer takes the time.
func clientSend(args []string, _ io.Writer) error {
	block, size, err := twoNumbers(args[1:])
	if err != nil {
		return err
	}
	buf := make([]byte, block)
	fd, err := target(args[0]).open()
	if err != nil {
		return err
	}
	if _, err := writeBlocks(fd, buf, size); err != nil {
		return err
	}
	return unix.Close(fd)
}

// clientRecv: TARGET BLOCK BYTES. The peer takes the time.
func clientRecv(args []string, _ io.Writer) error {
	block, size, err := twoNumbers(args[1:])
	if err != nil {
		return err
	}
	buf := make([]byte, block)
	fd, err := target(args[0]).open()
	if err != nil {
		return err
	}
	var total int64
	for {
		n, err := unix.Read(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		if n == 0 {
			break
		}
		total += int64(n)
	}
	if total != size {
		return fmt.Errorf("%d bytes came, want %d", total, size)
	}
	return unix.Close(fd)
}

// clientTrips: TARGET N. Prints N and the nanoseconds of N round trips.
func clientTrips(args []string, out io.Writer) error {
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	fd, err := target(args[0]).open()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	buf := make([]byte, tripSize)
	nanos, err := timed(n, func() error {
		if err := writeFull(fd, buf); err != nil {
			return err
		}
		return readFull(fd, buf)
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, n, nanos)
	return err
}

// timed returns the nanoseconds of n calls.
func timed(n int, f func() error) (int64, error) {
	start := time.Now()
	for range n {
		if err := f(); err != nil {
			return 0, err
		}
	}
	return time.Since(start).Nanoseconds(), nil
}

// clientConns: TARGET N THREADS. Prints N and the nanoseconds of N connections, made and closed by so many threads.
func clientConns(args []string, out io.Writer) error {
	n, threads, err := twoNumbers(args[1:])
	if err != nil {
		return err
	}
	each := n / int(threads)
	errs := make([]error, threads)
	var wg sync.WaitGroup
	start := time.Now()
	for i := range errs {
		wg.Go(func() {
			runtime.LockOSThread()
			for range each {
				fd, err := target(args[0]).open()
				if err != nil {
					errs[i] = err
					return
				}
				unix.Close(fd)
			}
		})
	}
	wg.Wait()
	took := time.Since(start)
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	_, err = fmt.Fprintln(out, each*int(threads), took.Nanoseconds())
	return err
}

// clientHold: TARGET N SIZE. Opens the target N times, prints a line, blocks in N reads of SIZE bytes, and ends with
// its standard input. All reads share one buffer: the kernel pins the pages of a read that waits, and N buffers would
// be the memory of the whole machine.
func clientHold(args []string, out io.Writer) error {
	n, size, err := twoNumbers(args[1:])
	if err != nil {
		return err
	}
	debug.SetMaxThreads(n + 1000)
	buf := make([]byte, size)
	failed := make(chan error, n+1)
	for range n {
		fd, err := target(args[0]).open()
		if err != nil {
			return err
		}
		go func() {
			n, err := unix.Read(fd, buf)
			failed <- fmt.Errorf("a read that should wait returned %d: %w", n, err)
		}()
	}
	fmt.Fprintln(out, n)
	go func() {
		_, err := io.Copy(io.Discard, os.Stdin)
		failed <- err
	}()
	return <-failed
}

func twoNumbers(args []string) (int, int64, error) {
	a, err := strconv.Atoi(args[0])
	if err != nil {
		return 0, 0, err
	}
	b, err := strconv.ParseInt(args[1], 10, 64)
	return a, b, err
}

// writeBlocks writes size bytes in blocks of len(buf) and returns how many it has written.
func writeBlocks(fd int, buf []byte, size int64) (done int64, err error) {
	for done < size {
		block := buf[:min(int64(len(buf)), size-done)]
		if err := writeFull(fd, block); err != nil {
			return done, err
		}
		done += int64(len(block))
	}
	return done, nil
}

func writeFull(fd int, b []byte) error {
	for len(b) > 0 {
		n, err := unix.Write(fd, b)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("write: %w", err)
		}
		b = b[n:]
	}
	return nil
}

func readFull(fd int, b []byte) error {
	for len(b) > 0 {
		n, err := unix.Read(fd, b)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		if n == 0 {
			return io.ErrUnexpectedEOF
		}
		b = b[n:]
	}
	return nil
}
