package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// connPorts is on how many ports the peer takes and drops connections. Whoever closes first keeps the pair of ports
// for a minute (TIME-WAIT), so the measurements take turns with them.
const connPorts = 16

// ports are where the peer listens on 127.0.0.1.
type ports struct {
	sink   int // reads all
	source int // writes size bytes
	echo   int // sends back what comes
	hold   int // keeps connections and says nothing
	conns  [connPorts]int
}

// peerProcess is the peer as its parent sees it.
type peerProcess struct {
	*child
	ports
	turn int
}

func startPeer(ctx context.Context, size int64) (*peerProcess, error) {
	c, err := startChild(ctx, "peer", strconv.FormatInt(size, 10))
	if err != nil {
		return nil, err
	}
	p := &peerProcess{child: c}
	for _, port := range p.all() {
		if err := c.scan(port); err != nil {
			c.stop()
			return nil, err
		}
	}
	return p, nil
}

func (p *ports) all() []*int {
	l := []*int{&p.sink, &p.source, &p.echo, &p.hold}
	for i := range p.conns {
		l = append(l, &p.conns[i])
	}
	return l
}

// connPort gives the ports for connections in turn.
func (p *peerProcess) connPort() int {
	p.turn++
	return p.conns[p.turn%connPorts]
}

// bulk waits for the end of the transfer that is under way and returns its bytes and nanoseconds.
func (p *peerProcess) bulk() (n, nanos int64, err error) {
	err = p.scan(&n, &nanos)
	return n, nanos, err
}

// peer is the role of the other end: it prints its ports, then a line "bytes nanoseconds" for each bulk transfer, and
// ends with its standard input.
func peer(args []string, out io.Writer) error {
	size, err := strconv.ParseInt(args[0], 10, 64)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	timed := func(f func(fd int) int64) func(int) {
		return func(fd int) {
			start := time.Now()
			n := f(fd)
			took := time.Since(start)
			unix.Close(fd)
			mu.Lock()
			defer mu.Unlock()
			fmt.Fprintln(out, n, took.Nanoseconds())
		}
	}
	serve := []func(int){
		timed(readAll),
		timed(func(fd int) int64 { return writeZeros(fd, size) }),
		func(fd int) { go echo(fd) },
		func(int) {},
	}
	for range connPorts {
		serve = append(serve, func(fd int) { unix.Close(fd) })
	}
	for _, f := range serve {
		if err := listen(f, out); err != nil {
			return err
		}
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// listen serves one port with blocking system calls on a thread of its own, and prints the port.
func listen(serve func(fd int), out io.Writer) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return err
	}
	if err := unix.Listen(fd, 4096); err != nil {
		return err
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, sa.(*unix.SockaddrInet4).Port)
	acceptAll(fd, serve)
	return nil
}

// acceptAll serves what connects, one after the other, on a thread of its own.
func acceptAll(fd int, serve func(fd int)) {
	go func() {
		runtime.LockOSThread()
		for {
			c, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC)
			if err == nil {
				serve(c)
			}
		}
	}()
}

// readAll reads to the end of fd and returns how much that was.
func readAll(fd int) (total int64) {
	buf := make([]byte, 1<<20)
	for {
		n, err := unix.Read(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if n <= 0 {
			return total
		}
		total += int64(n)
	}
}

// writeZeros writes size bytes, closes the sending side and waits until the other end has closed too.
func writeZeros(fd int, size int64) int64 {
	n, err := writeBlocks(fd, make([]byte, 1<<20), size)
	if err != nil {
		return n
	}
	_ = unix.Shutdown(fd, unix.SHUT_WR)
	readAll(fd)
	return n
}

func echo(fd int) {
	runtime.LockOSThread()
	defer unix.Close(fd)
	buf := make([]byte, 64<<10)
	for {
		n, err := unix.Read(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if n <= 0 || writeFull(fd, buf[:n]) != nil {
			return
		}
	}
}
