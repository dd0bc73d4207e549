// Client opens streams under convoke run in ways that need more than a script.
//
//	client talk PATH             say hello and print the answer and what it was opened as
//	client openat2 PATH          open by openat2(2) and print what that gave
//	client many PATH             open from many threads at once
//	client race PATH MINE SECRET open while another thread writes one of the paths into the memory of the other
package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func main() {
	do := map[string]func(args []string) error{"talk": talk, "openat2": openat2, "many": many, "race": race}[os.Args[1]]
	if err := do(os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// kind tells what a descriptor is.
func kind(fd int) string {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err.Error()
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFSOCK:
		return "socket"
	case unix.S_IFREG:
		return "file"
	}
	return fmt.Sprintf("%#o", st.Mode)
}

func talk(args []string) error {
	f, err := os.OpenFile(args[0], os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(f, "hello"); err != nil {
		return err
	}
	line, err := bufio.NewReader(f).ReadString('\n')
	fmt.Print(line)
	fmt.Println(kind(int(f.Fd())))
	return err
}

func openat2(args []string) error {
	dir, err := unix.Open(filepath.Dir(args[0]), unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	fd, err := unix.Openat2(dir, filepath.Base(args[0]), &unix.OpenHow{Flags: unix.O_RDWR | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH})
	if err != nil {
		return err
	}
	fmt.Println(kind(fd))
	return nil
}

func many(args []string) error {
	var sockets atomic.Int64
	var all sync.WaitGroup
	failed := make(chan error, 50)
	for range 50 {
		all.Go(func() {
			for range 20 {
				f, err := os.OpenFile(args[0], os.O_RDWR, 0)
				if err != nil {
					failed <- err
					return
				}
				if _, err := f.WriteString("x"); err != nil {
					failed <- err
				}
				if n, err := f.Read(make([]byte, 9)); n != 1 {
					failed <- fmt.Errorf("read %d: %w", n, err)
				}
				if kind(int(f.Fd())) == "socket" {
					sockets.Add(1)
				}
				f.Close()
			}
		})
	}
	all.Wait()
	fmt.Println(sockets.Load(), "sockets")
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

// raceTime is how long the memory is raced.
const raceTime = 2 * time.Second

func race(args []string) error {
	var buf [unix.PathMax]byte
	var stop atomic.Bool
	var writer sync.WaitGroup
	writer.Go(func() {
		runtime.LockOSThread()
		for i := 0; !stop.Load(); i++ {
			path := args[i%len(args)]
			for j := range len(path) {
				store(&buf[j], path[j])
			}
			store(&buf[len(path)], 0)
		}
	})
	secret, err := inode(args[2])
	if err != nil {
		return err
	}
	own, err := inode(args[1])
	if err != nil {
		return err
	}
	got := map[string]int{}
	for end := time.Now().Add(raceTime); time.Now().Before(end); {
		fd, _, errno := unix.Syscall6(unix.SYS_OPENAT, uintptr(unix.AT_FDCWD&(1<<64-1)), uintptr(unsafe.Pointer(&buf[0])), unix.O_RDONLY|unix.O_CLOEXEC, 0, 0, 0)
		if errno != 0 {
			got[errno.Error()]++
			continue
		}
		var st unix.Stat_t
		if err := unix.Fstat(int(fd), &st); err != nil {
			return err
		}
		var fs unix.Statfs_t
		if err := unix.Fstatfs(int(fd), &fs); err != nil {
			return err
		}
		switch k := kind(int(fd)); {
		case st.Ino == secret && k == "file" && fs.Type != unix.FUSE_SUPER_MAGIC:
			return fmt.Errorf("the secret was opened")
		case k == "socket":
			got["socket"]++
		case k == "file" && fs.Type == unix.FUSE_SUPER_MAGIC:
			got["stream file"]++
		case k == "file" && st.Ino == own:
			got["own file"]++
		case k != "file":
			got["folder"]++ // a path cut short
		default:
			return fmt.Errorf("opened %s, inode %d", k, st.Ino)
		}
		unix.Close(int(fd))
	}
	stop.Store(true)
	writer.Wait()
	if got["socket"] == 0 || got["own file"] == 0 || got[unix.EACCES.Error()] == 0 {
		return fmt.Errorf("not raced: %v", got)
	}
	fmt.Println("ok", got)
	return nil
}

// store writes a byte that the kernel reads meanwhile.
//
//go:noinline
func store(p *byte, b byte) { *p = b }

func inode(path string) (uint64, error) {
	var st unix.Stat_t
	err := unix.Stat(path, &st)
	return st.Ino, err
}
