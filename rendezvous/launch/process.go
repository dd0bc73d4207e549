package launch

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// execTime is how long a helper may take until it has become the server.
const execTime = 10 * time.Second

// A process is a server's, or one of those that server.inetd gets for each client.
type process struct {
	pid   int
	began time.Time
	ended chan struct{}   // closed when it has ended
	exit  unix.WaitStatus // how; valid once ended is closed

	mu     sync.Mutex
	reaped bool // guarded by mu: the pid may be somebody else's
}

// signal sends a signal to all processes of its process group, which is also its session's.
func (p *process) signal(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.reaped {
		_ = unix.Kill(-p.pid, s)
	}
}

// A spawn says what to run.
type spawn struct {
	request
	program int   // O_PATH descriptor of it
	client  int   // inetd style: the socket that becomes descriptors 0 and 1; -1: /dev/null
	output  int   // what becomes stderr, and stdout unless there is a client
	listen  []int // what becomes the descriptors from 3 on
}

// run starts the process, and returns when it runs the program. All descriptors stay the caller's.
func (s spawn) run() (*process, error) {
	s.Parent, s.Listen = os.Getpid(), len(s.listen)
	order, err := s.request.seal()
	if err != nil {
		return nil, err
	}
	defer unix.Close(order)
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("pipe: %w", err)
	}
	if err := unix.SetNonblock(pipe[0], true); err != nil { // so that it takes a deadline
		unix.Close(pipe[0])
		unix.Close(pipe[1])
		return nil, err
	}
	status := os.NewFile(uintptr(pipe[0]), "status")
	defer status.Close()
	p, err := s.fork(order, pipe[1])
	unix.Close(pipe[1])
	if err != nil {
		return nil, err
	}
	_ = status.SetReadDeadline(time.Now().Add(execTime))
	text, err := io.ReadAll(io.LimitReader(status, 512))
	reason, placed := strings.CutPrefix(string(text), inPlace)
	switch {
	case err != nil:
		err = errors.New("did not come to run within " + execTime.String())
	case reason != "":
		err = errors.New(reason)
	case !placed:
		err = errors.New("the helper that starts servers has died")
	default:
		return p, nil
	}
	p.signal(unix.SIGKILL)
	<-p.ended
	return nil, err
}

// fork makes the helper.
func (s spawn) fork(order, status int) (*process, error) {
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("/dev/null: %w", err)
	}
	defer unix.Close(null)
	files := []uintptr{uintptr(null), uintptr(s.output), uintptr(s.output)}
	if s.client >= 0 {
		files[0], files[1] = uintptr(s.client), uintptr(s.client)
	}
	for _, fd := range s.listen {
		files = append(files, uintptr(fd))
	}
	extra := [helperFDs]int{requestFD: order, statusFD: status, programFD: s.program}
	for _, fd := range extra {
		files = append(files, uintptr(fd))
	}
	attr := &syscall.ProcAttr{Dir: "/", Env: []string{}, Files: files, Sys: &syscall.SysProcAttr{Setsid: true}}
	p := &process{began: time.Now(), ended: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		// The parent-death signal comes when the thread ends that has forked, so that thread stays until the server has ended.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		pid, err := syscall.ForkExec("/proc/self/exe", []string{helperName, strconv.Itoa(len(s.listen))}, attr)
		p.pid = pid
		started <- err
		if err == nil {
			p.wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("fork: %w", err)
	}
	return p, nil
}

// wait waits for the end. The process is let go of only behind the lock, so that signal cannot meet another one of the same number.
func (p *process) wait() {
	for unix.Waitid(unix.P_PID, p.pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
	p.mu.Lock()
	p.reaped = true
	for {
		_, err := unix.Wait4(p.pid, &p.exit, 0, nil)
		if err != unix.EINTR {
			break
		}
	}
	p.mu.Unlock()
	close(p.ended)
}

// outcome tells how it has ended, for people.
func (p *process) outcome() string {
	switch {
	case p.exit.Signaled():
		return "killed by " + unix.SignalName(p.exit.Signal())
	default:
		return "exit status " + strconv.Itoa(p.exit.ExitStatus())
	}
}
