package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// killTime is how long a process that was asked to end may still take.
const killTime = 2 * time.Second

// A crew runs one command again and again, in a process for each client. The
// methods may be called from many goroutines, and none after wait but kill.
type crew struct {
	path string   // of the executable
	argv []string // its name as given, and its arguments

	places chan struct{} // holds an element for each process that may yet be started
	all    sync.WaitGroup

	mu      sync.Mutex
	running map[int]bool   // the processes that have not been waited for; guarded by mu
	killed  syscall.Signal // what all of them were sent, 0 if nothing; guarded by mu
}

// newCrew finds the command and returns the crew that runs at most most
// processes of it at once.
func newCrew(argv []string, most int) (*crew, error) {
	path, err := lookCommand(argv[0])
	if err != nil {
		return nil, err
	}
	w := &crew{path: path, argv: argv, places: make(chan struct{}, most), running: make(map[int]bool)}
	for range most {
		w.places <- struct{}{}
	}
	return w, nil
}

// start starts a process with these descriptors as 0, 1, 2, ..., and env
// besides the environment of convoke. The caller has taken an element of
// places, which is given back when the process has ended. It calls ended, if
// that is not nil, with the pid and how it ended, before wait returns. The
// descriptors stay the caller's. The error has the status of a shell.
//
// Each process is a group of its own: an interrupt from the terminal is for
// convoke, which lets it finish, and what a process has started can be ended
// with it.
func (w *crew) start(fds []uintptr, env []string, ended func(pid int, status syscall.WaitStatus)) (pid int, err error) {
	// Not by package os: it would ask each descriptor whether it can be
	// polled, and some are of people who need not answer.
	attr := &syscall.ProcAttr{
		Env:   append(ownEnv(), env...),
		Files: fds,
		Sys:   &syscall.SysProcAttr{Setpgid: true},
	}
	pid, err = syscall.ForkExec(w.path, w.argv, attr)
	if err == syscall.ENOEXEC {
		// A script without a first line that says whose. Shells run it.
		pid, err = syscall.ForkExec("/bin/sh", append([]string{"sh", w.path}, w.argv[1:]...), attr)
	}
	if err != nil {
		w.places <- struct{}{}
		return 0, cannotRun(w.argv[0], err)
	}
	w.all.Add(1)
	w.mu.Lock()
	w.running[pid] = true
	if w.killed != 0 {
		_ = syscall.Kill(-pid, w.killed) // it is there until reap
	}
	w.mu.Unlock()
	go func() {
		defer w.all.Done()
		status := w.reap(pid)
		w.places <- struct{}{}
		if ended != nil {
			ended(pid, status)
		}
	}()
	return pid, nil
}

// reap waits for a process. While it is in running it is not waited for, so
// its number is nobody else's.
func (w *crew) reap(pid int) (status syscall.WaitStatus) {
	for unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.running, pid)
	for {
		if _, err := syscall.Wait4(pid, &status, 0, nil); err != syscall.EINTR {
			return status
		}
	}
}

// kill ends all that runs: first they are asked, and killed when that does
// not help. It returns at once; wait tells when they have gone.
func (w *crew) kill() {
	w.signal(syscall.SIGTERM)
	time.AfterFunc(killTime, func() { w.signal(syscall.SIGKILL) })
}

func (w *crew) signal(sig syscall.Signal) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.killed = sig
	for pid := range w.running {
		// One that has just ended has no group any more.
		_ = syscall.Kill(-pid, sig)
	}
}

// wait returns when all processes have ended. Nothing is started any more.
func (w *crew) wait() { w.all.Wait() }

// ownEnv returns the environment of convoke without what it says of a client:
// a convoke that was itself started for one must not pass that off for its own.
func ownEnv() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "CONVOKE_PEER_") || strings.HasPrefix(v, "CONVOKE_FDS=")
	})
}

// describe says how a process ended.
func describe(status syscall.WaitStatus) string {
	if status.Signaled() {
		return "signal " + unix.SignalName(status.Signal())
	}
	return fmt.Sprintf("exit status %d", status.ExitStatus())
}

// shellStatus returns the exit status that a shell gives for how a process
// ended.
func shellStatus(status syscall.WaitStatus) int {
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}
