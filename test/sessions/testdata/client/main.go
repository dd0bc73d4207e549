// Client opens a stream file by os.OpenFile, as any Go program would, and as one that has the runtime's poller wait.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

func main() {
	if err := run(os.Args[1]); err != nil {
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
func talk(f *os.File, text string) error {
	if _, err := fmt.Fprintln(f, text); err != nil {
		return err
	}
	line, err := bufio.NewReader(f).ReadString('\n')
	fmt.Print(line)
	return err
}
