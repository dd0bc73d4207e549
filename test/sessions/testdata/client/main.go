// Client opens a stream file by os.OpenFile, as any Go program would, and as one that has the runtime's poller wait. With
// --socket it expects that what it opens is a socket.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

func main() {
	how := run
	if os.Args[1] == "--socket" {
		how = runSocket
	}
	if err := how(os.Args[len(os.Args)-1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := talk(f, "by os.OpenFile"); err != nil {
		return err
	}

	// The runtime waits itself only where it has been given a descriptor that does not block.
	fd, err := syscall.Open(path, syscall.O_RDWR|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f = os.NewFile(uintptr(fd), path)
	if err := talk(f, "by os.NewFile"); err != nil {
		return err
	}
	return end(f)
}

// runSocket is for a path that opens as a socket, which the runtime waits for by itself.
func runSocket(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := talk(f, "by os.OpenFile"); err != nil {
		return err
	}
	c, err := net.FileConn(f)
	if err != nil {
		return err
	}
	if err := end(f); err != nil {
		return err
	}
	defer c.Close()
	if err := talk(c, "by net.FileConn"); err != nil {
		return err
	}
	fmt.Println("port", c.RemoteAddr().(*net.TCPAddr).Port == port(path))
	return nil
}

// port is the last element of a path.
func port(path string) int {
	n, err := strconv.Atoi(filepath.Base(path))
	if err != nil {
		return -1
	}
	return n
}

// end ends reads of an idle file by a deadline and by the close.
func end(f *os.File) error {
	if err := f.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		return err
	}
	if _, err := f.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("after the deadline: %w", err)
	}
	if err := f.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	ended := make(chan error)
	go func() {
		_, err := f.Read(make([]byte, 1))
		ended <- err
	}()
	if err := f.Close(); err != nil {
		return err
	}
	if err := <-ended; !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("after the close: %w", err)
	}
	fmt.Println("deadline and close end a read")
	return nil
}

// talk sends a line and prints the one that it gets.
func talk(f io.ReadWriter, text string) error {
	if _, err := fmt.Fprintln(f, text); err != nil {
		return err
	}
	line, err := bufio.NewReader(f).ReadString('\n')
	fmt.Print(line)
	return err
}
