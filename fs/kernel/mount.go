package kernel

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// fsType is how the mount shows in /proc/mounts; fusermount3 is given the part behind the dot.
const fsType = "fuse.convoke"

// A MountPoint is a mounted tree.
type MountPoint struct {
	Dir     string
	made    bool // the folder was made for it
	conn    *connection
	aborter int // see openAbort; -1: none
}

// Mount mounts a connection to the kernel at dir and returns the connection's descriptor, from which requests can be
// read. Root mounts by mount(2), everybody else through fusermount3. The dead mount of a daemon that is gone is
// removed first; a living one is an error. A folder that is missing is made, and goes with the mount.
//
// Whoever mounts, the kernel checks modes (default_permissions): without that anybody could connect(2) to a socket of
// mode 0600 on the mount, since connect sends no request.
func Mount(dir string) (fd int, mp *MountPoint, err error) {
	dir, err = realDir(dir)
	if err != nil {
		return -1, nil, fmt.Errorf("mount point: %w", err)
	}
	if err := clearDead(dir); err != nil {
		return -1, nil, err
	}
	made := os.Mkdir(dir, 0o755) == nil
	st, err := os.Stat(dir)
	if err != nil {
		return -1, nil, fmt.Errorf("mount point: %w", err)
	}
	if !st.IsDir() {
		return -1, nil, fmt.Errorf("mount point %s: %w", dir, unix.ENOTDIR)
	}
	if os.Geteuid() == 0 {
		fd, err = mountDirect(dir)
	} else {
		fd, err = mountHelper(dir)
	}
	if err != nil {
		if made {
			os.Remove(dir)
		}
		return -1, nil, fmt.Errorf("mount %s: %w", dir, err)
	}
	mp = &MountPoint{Dir: dir, made: made, conn: &connection{fd: fd}, aborter: -1}
	if m, ok := findMount(dir); ok {
		mp.aborter = openAbort(m.minor)
	}
	handOver(mp.conn)
	return fd, mp, nil
}

// realDir gives dir as /proc/self/mountinfo spells it, without symbolic links. The last component is not looked at
// unless it is a link, for it may be a dead mount.
func realDir(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil || dir == "/" {
		return dir, err
	}
	if st, err := os.Lstat(dir); err == nil && st.Mode()&os.ModeSymlink != 0 {
		return filepath.EvalSymlinks(dir)
	}
	parent, err := filepath.EvalSymlinks(filepath.Dir(dir))
	return filepath.Join(parent, filepath.Base(dir)), err
}

func mountDirect(dir string) (int, error) {
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("/dev/fuse: %w", err)
	}
	opts := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,max_read=%d,default_permissions,allow_other", fd, MaxWrite)
	if err := unix.Mount("convoke", dir, fsType, unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, opts); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// mountHelper has fusermount3 mount for us. It sends the connection over the socket whose number it finds in
// _FUSE_COMMFD (fusermount3(1)).
func mountHelper(dir string) (int, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "fusermount"), os.NewFile(uintptr(pair[1]), "fusermount")
	defer ours.Close()
	defer theirs.Close()
	cmd := exec.Command("fusermount3", "-o", fmt.Sprintf("fsname=convoke,subtype=convoke,default_permissions,nosuid,nodev,noexec,max_read=%d", MaxWrite), "--", dir)
	cmd.Env = append(os.Environ(), "_FUSE_COMMFD=3")
	cmd.ExtraFiles = []*os.File{theirs}
	if err := runHelper(cmd); err != nil {
		return -1, err
	}
	return receiveFD(ours)
}

// runHelper runs fusermount3 and makes what it says on stderr the error.
func runHelper(cmd *exec.Cmd) error {
	out, err := cmd.CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		return errors.New("fusermount3 is not installed (Debian's package fuse3), and only root mounts without it")
	}
	if err != nil {
		return fmt.Errorf("%s (%w)", strings.TrimSpace(string(out)), err)
	}
	return nil
}

func receiveFD(f *os.File) (int, error) {
	c, err := net.FileConn(f)
	if err != nil {
		return -1, err
	}
	defer c.Close()
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	buf, oob := make([]byte, 8), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := c.(*net.UnixConn).ReadMsgUnix(buf, oob)
	if err != nil {
		return -1, fmt.Errorf("fusermount3 sent no connection: %w", err)
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(msgs) != 1 {
		return -1, errors.New("fusermount3 sent no connection")
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) != 1 {
		return -1, errors.New("fusermount3 sent no connection")
	}
	unix.CloseOnExec(fds[0])
	return fds[0], nil
}

// Unmount takes the mount away. When files are open it is detached, so that no new path leads to it. Its connection is
// aborted, also where another mount namespace has a copy of the mount: whoever waits in it gets ECONNABORTED, and every later
// call on it ENOTCONN.
func (m *MountPoint) Unmount() error {
	if m.made {
		defer os.Remove(m.Dir) // fails, rightly, where somebody has put something into it
	}
	err := unmount(m.Dir, 0)
	if err != nil && !errors.Is(err, unix.EINVAL) { // EINVAL: somebody has unmounted it already
		err = unmount(m.Dir, unix.MNT_DETACH)
	} else {
		err = nil
	}
	m.abort()
	return err
}

func unmount(dir string, flags int) error {
	if os.Geteuid() == 0 {
		return unix.Unmount(dir, flags|unix.UMOUNT_NOFOLLOW)
	}
	args := []string{"-u", "--", dir}
	if flags&unix.MNT_DETACH != 0 {
		args[0] = "-uz"
	}
	return runHelper(exec.Command("fusermount3", args...))
}

// abort ends the connection, if it has not ended with the mount.
func (m *MountPoint) abort() {
	if m.aborter >= 0 {
		_, _ = unix.Write(m.aborter, []byte("1"))
		unix.Close(m.aborter)
		m.aborter = -1
	}
}

// clearDead removes dead convoke mounts at dir, and says no if a living one is there.
func clearDead(dir string) error {
	for {
		m, ok := findMount(dir)
		if !ok || m.fstype != fsType {
			return nil
		}
		switch err := statSoon(dir, 2*time.Second); {
		case err == nil:
			return fmt.Errorf("mount point %s: another convoked has mounted its tree there: %w", dir, unix.EBUSY)
		case !errors.Is(err, unix.ENOTCONN) && !errors.Is(err, unix.ECONNABORTED):
			return fmt.Errorf("mount point %s: %w", dir, err)
		}
		if err := unmount(dir, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("mount point %s: the daemon of the mount there is dead, and the mount can't be removed: %w", dir, err)
		}
	}
}

// statSoon is statfs(2) with a bound: a stopped daemon answers nothing. The goroutine that waits for it in vain ends with
// that daemon. It is not stat(2), for the kernel answers that from memory for a while, of a dead daemon too; it keeps
// nothing for statfs(2) (fuse_statfs in fs/fuse/inode.c).
func statSoon(dir string, bound time.Duration) error {
	done := make(chan error, 1)
	go func() {
		var st unix.Statfs_t
		done <- unix.Statfs(dir, &st)
	}()
	select {
	case err := <-done:
		return err
	case <-time.After(bound):
		return fmt.Errorf("the convoked that has mounted its tree there does not answer: %w", unix.EBUSY)
	}
}

type mountInfo struct {
	fstype string
	minor  uint64
}

// findMount finds the topmost mount at dir in /proc/self/mountinfo; stat(2) of a dead one would fail.
func findMount(dir string) (mountInfo, bool) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return mountInfo{}, false
	}
	return parseMountInfo(string(b), dir)
}

// parseMountInfo reads proc_pid_mountinfo(5): "36 35 98:0 /root /mnt opts tags - fstype source opts".
func parseMountInfo(text, dir string) (found mountInfo, ok bool) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 10 || unescape(f[4]) != dir {
			continue
		}
		for i := 6; i < len(f)-1; i++ {
			if f[i] == "-" {
				_, minor, _ := strings.Cut(f[2], ":")
				n, _ := strconv.ParseUint(minor, 10, 32)
				found, ok = mountInfo{fstype: f[i+1], minor: n}, true // a later line lies on top
				break
			}
		}
	}
	return found, ok
}

// unescape undoes the kernel's \ooo for blanks, tabs, newlines and backslashes in mountinfo.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// Wait returns once the mount answers, or the reason why it does not.
func (m *MountPoint) Wait() error { return statSoon(m.Dir, 10*time.Second) }

// Ended waits, for a while, for the server of an unmounted tree to end, and returns what it ended with. Where the
// connection could not be aborted, and somebody keeps a file open or a copy of the mount in another mount namespace, it is
// cut off.
func (m *MountPoint) Ended(served <-chan error) error {
	for range 2 {
		select {
		case err := <-served:
			return err
		case <-time.After(endTime):
			m.conn.cut()
		}
	}
	return nil
}

// endTime is how long a server has to end by itself, and then again when it is cut off.
const endTime = 2 * time.Second

// Device returns the device number of the mount at dir, as the kernel has it in its own tables: of a FUSE mount, whose
// major number is 0, it is the minor one. It asks nothing of the mount.
func Device(dir string) (uint32, error) {
	m, ok := findMount(dir)
	if !ok {
		return 0, fmt.Errorf("%s is no mount point: %w", dir, unix.ENOENT)
	}
	return uint32(m.minor), nil
}
