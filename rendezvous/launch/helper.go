package launch

import (
	"errors"
	"fmt"
	"math"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// helperName is argv[0] of a helper, and so what ps(1) shows until it has become the server.
const helperName = "convoked: start"

// backlog is how many clients may wait at an AF_UNIX socket for the server.
const backlog = 1024

// MaybeHelper becomes a server if that is what this process was made for, and then does not return. The main function of
// a program that makes a Launcher calls it before all else.
//
// A helper is the daemon's own program: between fork and exec a server needs more done than Go's fork can do, and only a process of
// its own can call listen(2) as the server. It takes its orders from a descriptor that it inherits, and has the rights that
// it was started with: whoever starts it himself gains nothing.
func MaybeHelper() {
	if len(os.Args) != 2 || os.Args[0] != helperName {
		return
	}
	h, err := newHelper(os.Args[1])
	if err == nil {
		err = h.become()
		fmt.Fprint(h.status, err)
	}
	os.Exit(127)
}

// A helper's descriptors begin with standard input and output, and the listening sockets. These follow.
const (
	requestFD = iota
	statusFD  // a pipe: it is closed by a successful exec, or takes the reason why there was none
	programFD // the program, O_PATH
	helperFDs
)

// inPlace is what a helper writes to the pipe before it execs. When the pipe is closed without it, the helper has died.
const inPlace = "."

type helper struct {
	request
	status  *os.File
	program int
}

func newHelper(listen string) (*helper, error) {
	// The set-id calls of package syscall act on all threads; the mask of signals and the parent-death signal are the thread's that execs.
	runtime.LockOSThread()
	n, err := strconv.Atoi(listen)
	if err != nil || n < 0 || n > math.MaxInt16 {
		return nil, unix.EINVAL
	}
	first := 3 + n
	// A server gets nothing but standard input and output and the listening sockets.
	if err := unix.CloseRange(uint(first), math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return nil, err
	}
	h := &helper{status: os.NewFile(uintptr(first+statusFD), "status"), program: first + programFD}
	if h.request, err = readRequest(first + requestFD); err != nil {
		return nil, err
	}
	if h.Listen != n {
		return nil, unix.EINVAL
	}
	return h, nil
}

// become returns only if it fails.
func (h *helper) become() error {
	// The daemon sees to it that its servers end with it; this is for one that is killed. It must come after the ids, whose
	// change takes it back, and before the look at the parent, which may have gone already.
	unix.Umask(0o022)
	if err := unix.Chdir("/"); err != nil {
		return fmt.Errorf("chdir: %w", err)
	}
	if err := h.takeIDs(); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGTERM), 0, 0, 0); err != nil {
		return fmt.Errorf("prctl: %w", err)
	}
	if unix.Getppid() != h.Parent {
		return errors.New("the daemon has gone")
	}
	env := h.Env
	if h.Listen > 0 {
		env = append(env, "LISTEN_PID="+strconv.Itoa(os.Getpid()))
	}
	if err := h.listen(); err != nil {
		return err
	}
	if err := defaultSignals(); err != nil {
		return err
	}
	fd, err := h.place()
	if err != nil {
		return err
	}
	// By the link of the descriptor the kernel runs the file that was looked at, whatever its name leads to now.
	if _, err := h.status.WriteString(inPlace); err != nil {
		return err
	}
	err = syscall.Exec("/proc/self/fd/"+strconv.Itoa(fd), []string{h.Name}, env)
	return fmt.Errorf("exec %s: %w", h.Name, err)
}

// takeIDs becomes the server's user for good.
func (h *helper) takeIDs() error {
	if !h.SetIDs {
		return nil
	}
	groups := make([]int, len(h.Groups))
	for i, g := range h.Groups {
		groups[i] = int(g)
	}
	uid, gid := int(h.UID), int(h.GID)
	// The uid is last, for with it go the capabilities that the others need.
	if err := syscall.Setgroups(groups); err != nil {
		return fmt.Errorf("setgroups: %w", err)
	}
	if err := syscall.Setresgid(gid, gid, gid); err != nil {
		return fmt.Errorf("setresgid %d: %w", gid, err)
	}
	if err := syscall.Setresuid(uid, uid, uid); err != nil {
		return fmt.Errorf("setresuid %d: %w", uid, err)
	}
	r, e, s := unix.Getresuid()
	if r != uid || e != uid || s != uid {
		return errors.New("the uid is not taken")
	}
	if r, e, s = unix.Getresgid(); r != gid || e != gid || s != gid {
		return errors.New("the gid is not taken")
	}
	got, err := unix.Getgroups()
	if err != nil {
		return fmt.Errorf("getgroups: %w", err)
	}
	slices.Sort(groups)
	slices.Sort(got)
	if !slices.Equal(slices.Compact(groups), slices.Compact(got)) {
		return errors.New("the groups are not taken")
	}
	return nil
}

// listen calls listen(2) for AF_UNIX sockets once more: clients see as SO_PEERCRED who has called it last.
func (h *helper) listen() error {
	for fd := 3; fd < 3+h.Listen; fd++ {
		domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
		if err == nil && domain == unix.AF_UNIX {
			err = unix.Listen(fd, backlog)
		}
		if err != nil {
			return fmt.Errorf("listen: %w", err)
		}
	}
	return nil
}

// defaultSignals makes exec leave no signal ignored or blocked that the daemon ignores, or was started with. A signal for which Go has a
// handler is at its default after exec; one that is ignored would stay so.
func defaultSignals() error {
	c := make(chan os.Signal, 1)
	for s := syscall.Signal(1); s < 65; s++ {
		if signal.Ignored(s) {
			signal.Notify(c, s)
		}
	}
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &unix.Sigset_t{}, nil); err != nil {
		return fmt.Errorf("sigmask: %w", err)
	}
	return nil
}

// place puts the program's descriptor where it is run from. A script's must stay open, for its interpreter is given the
// link's name and opens it after exec: it is the one right behind the listening sockets.
func (h *helper) place() (int, error) {
	if !h.script() {
		return h.program, nil
	}
	fd := 3 + h.Listen // where the request was
	if err := unix.Dup3(h.program, fd, 0); err != nil {
		return -1, fmt.Errorf("dup3: %w", err)
	}
	return fd, nil
}

// script tells whether the program begins with #!. One that cannot be read by the server's user is none that could be run.
func (h *helper) script() bool {
	fd, err := unix.Open("/proc/self/fd/"+strconv.Itoa(h.program), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var head [2]byte
	n, err := unix.Pread(fd, head[:], 0)
	return err == nil && n == 2 && string(head[:]) == "#!"
}
