package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Descriptors with which the supervisor is started.
const (
	listenerFD = 3
	readyFD    = 4 // a pipe: "ready", or why not
)

const readyWord = "ready\n"

// probeFlags are flags of openat2(2) that no kernel knows. It says EINVAL to them, and a supervisor of the tree
// EALREADY.
const probeFlags = 0x636f6e76_00000000 | unix.O_RDONLY

// ErrOther says that another program, or a supervisor of another tree, has the open(2) of this process. The kernel
// takes one only.
var ErrOther = errors.New("another program supervises the opens of this process")

// Start starts a supervisor for the calling thread, which must be locked to its goroutine and execute a program soon
// after: mount is the tree's mount point, a path without symbolic links. Under a supervisor of the same tree it does
// nothing.
//
// argv returns the command line of this program with which main calls Detach and Serve. The process that calls Start
// has no child when it returns. After an error it must exit.
func Start(mount string, argv func(step string) []string) error {
	l, err := install()
	if errors.Is(err, unix.EBUSY) {
		if supervised(mount) {
			return nil
		}
		return ErrOther
	}
	if err != nil {
		return err
	}
	// Not on this thread, whose children would have the filter too.
	type outcome struct {
		pid int
		err error
	}
	c := make(chan outcome, 1)
	go func() {
		pid, err := spawn(l, argv("detach"))
		c <- outcome{pid, err}
	}()
	got := <-c
	unix.Close(l.fd) // it must have one owner only: what is opened when that is dead is to fail
	if got.err != nil {
		return got.err
	}
	// Where kernel.yama.ptrace_scope is 1, a process is looked into by whom it lets. EINVAL elsewhere.
	_ = unix.Prctl(unix.PR_SET_PTRACER, uintptr(got.pid), 0, 0, 0)
	return nil
}

// spawn starts the supervisor and returns its process when it is ready.
func spawn(l listener, argv []string) (pid int, err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer r.Close()
	// A descriptor of its own, for the File closes it.
	fd, err := unix.FcntlInt(uintptr(l.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		w.Close()
		return 0, err
	}
	listening := os.NewFile(uintptr(fd), "listener")
	cmd := self(argv, listening, w)
	// A signal that interrupts it while a thread takes a descriptor would have the kernel answer the thread with 0,
	// which is a descriptor of its. The runtime sends itself signals to preempt goroutines, so it must not.
	cmd.Env = []string{"GODEBUG=asyncpreemptoff=1"}
	// No signal of a terminal is meant for it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	w.Close()
	listening.Close()
	if err != nil {
		return 0, fmt.Errorf("start the supervisor: %w", err)
	}
	word, err := io.ReadAll(r)
	// The child has made a child and is gone.
	if ended := cmd.Wait(); err == nil {
		err = ended
	}
	text := string(word)
	if rest, ok := strings.CutPrefix(text, readyWord); ok && err == nil {
		_, err = fmt.Sscan(rest, &pid)
		return pid, err
	}
	if text == "" {
		text = "it has ended"
		if err != nil {
			text = err.Error()
		}
	}
	return 0, fmt.Errorf("supervisor: %s", strings.TrimSuffix(text, "\n"))
}

// self is this program again. It has nothing of the caller's but who he is: no descriptor, so that nobody waits for
// the end of a pipe that it holds, no environment and no folder.
func self(argv []string, files ...*os.File) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Args, cmd.Dir, cmd.ExtraFiles = argv, "/", files
	return cmd
}

// supervised tells whether the calling thread has a supervisor of the tree at mount.
func supervised(mount string) bool {
	path, err := unix.BytePtrFromString(mount)
	if err != nil {
		return false
	}
	how := unix.OpenHow{Flags: probeFlags}
	_, _, errno := unix.Syscall6(unix.SYS_OPENAT2, uintptr(unix.AT_FDCWD&math.MaxUint64), uintptr(unsafe.Pointer(path)),
		uintptr(unsafe.Pointer(&how)), unsafe.Sizeof(how), 0, 0)
	return errno == unix.EALREADY
}

// Detach is the first step of a supervisor: it starts the second, which is nobody's child when this process ends, as
// it must at once.
func Detach(argv []string) error {
	ready := os.NewFile(readyFD, "ready")
	err := detach(ready, argv)
	if err != nil {
		fmt.Fprintln(ready, err)
	}
	return err
}

func detach(ready *os.File, argv []string) error {
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	// What else the caller has without close-on-exec.
	if err := unix.CloseRange(readyFD+1, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return err
	}
	cmd := self(argv, os.NewFile(listenerFD, "listener"), ready)
	cmd.Env = os.Environ() // and nothing that is put into nil
	return cmd.Start()
}

// Serve is the second step: it supervises the tree that is mounted at mount until no thread needs it any more. dial
// makes a connection to the tree's daemon.
func Serve(mount string, dial func(context.Context) (Client, error)) error {
	unix.CloseOnExec(listenerFD)
	unix.CloseOnExec(readyFD)
	// It ends by itself, after the last of the programs that it serves: at the end of a session too.
	signal.Ignore(unix.SIGHUP, unix.SIGINT, unix.SIGTERM, unix.SIGPIPE)
	name()
	// Whoever waits in the kernel for a notification keeps a place among the running, as long as there are enough;
	// else the runtime wakes and stops threads all the time to take the places away and give them back.
	runtime.GOMAXPROCS(max(4*idleReceivers, runtime.GOMAXPROCS(0)))
	ready := os.NewFile(readyFD, "ready")
	s, err := newSupervisor(context.Background(), listener{listenerFD}, mount, dial)
	if err != nil {
		fmt.Fprintln(ready, err)
		return err
	}
	_, err = fmt.Fprintf(ready, "%s%d\n", readyWord, os.Getpid())
	if err != nil {
		return err // who has started it is gone
	}
	ready.Close()
	s.run()
	return nil
}

// name has ps(1) call the process what it is, and not "exe".
func name() {
	if f, err := os.OpenFile("/proc/self/comm", os.O_WRONLY, 0); err == nil {
		_, _ = f.WriteString("convoke-run")
		f.Close()
	}
}
