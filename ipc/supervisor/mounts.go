package supervisor

import (
	"bytes"
	"io"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// A device is the number of a file system, by which its files are known.
type device struct{ major, minor uint32 }

// A mount is a line of proc_pid_mountinfo(5).
type mount struct {
	dev   device
	root  string // the folder of the file system that it shows
	point string // where
	kind  string
	ro    bool // mounted read-only: the kernel refuses to open for writing there
}

// mounts knows where the tree is mounted: at dir, and wherever it or a folder of it is bound. It may be used from many
// goroutines.
type mounts struct {
	dir  string
	file int // /proc/self/mountinfo

	anyDevice bool // for tests on other file systems: find does not look at the table

	mu   sync.Mutex
	tree device           // guarded by mu: the file system that is mounted at dir; zero: none
	byID map[uint64]mount // guarded by mu: its mounts
}

// watchMounts looks for the tree that is mounted at dir, a path without symbolic links. No tree there is no error: it
// may come.
func watchMounts(dir string) (*mounts, error) {
	fd, err := unix.Open("/proc/self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	m := &mounts{dir: dir, file: fd}
	if err := m.read(); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return m, nil
}

func (m *mounts) close() { unix.Close(m.file) }

// find returns the mount of that number if dev is the tree's device.
//
// A daemon that is started again makes a new file system at dir, which must be known at the very next open. The kernel
// tells a change by poll(2), which is asked each time; that costs less than half a microsecond, and only for devices
// that are made up, as a FUSE mount's is.
func (m *mounts) find(dev device, id uint64) (mount, bool) {
	if dev.major != 0 && !m.anyDevice {
		return mount{}, false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	p := []unix.PollFd{{Fd: int32(m.file), Events: unix.POLLPRI}}
	if n, err := unix.Poll(p, 0); !m.anyDevice && (n > 0 || err != nil) {
		if m.read() != nil {
			return mount{}, false
		}
	}
	if dev != m.tree {
		return mount{}, false
	}
	at, ok := m.byID[id]
	return at, ok
}

// read takes the table anew. m.mu is held, or m is not known to others yet.
func (m *mounts) read() error {
	if _, err := unix.Seek(m.file, 0, io.SeekStart); err != nil {
		return err
	}
	text := make([]byte, 0, 16<<10)
	for {
		n, err := unix.Read(m.file, text[len(text):cap(text)])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		text = text[:len(text)+n]
		if len(text) == cap(text) {
			text = append(text, 0)[:len(text)]
		}
	}
	m.tree, m.byID = parseMounts(text, m.dir)
	return nil
}

// parseMounts returns the device of the FUSE file system on top at dir, and its mounts by number.
func parseMounts(text []byte, dir string) (tree device, byID map[uint64]mount) {
	all := map[uint64]mount{}
	for line := range bytes.Lines(text) {
		id, m, ok := parseMount(strings.TrimSuffix(string(line), "\n"))
		if !ok {
			continue
		}
		all[id] = m
		if m.point == dir { // a later line lies on top
			tree = device{}
			if m.kind == "fuse" || strings.HasPrefix(m.kind, "fuse.") {
				tree = m.dev
			}
		}
	}
	byID = map[uint64]mount{}
	for id, m := range all {
		if m.dev == tree && tree != (device{}) && !m.ro { // what is read-only has rules of its own
			byID[id] = m
		}
	}
	return tree, byID
}

// parseMount reads "36 35 98:0 /root /mnt opts tags... - fstype source opts".
func parseMount(line string) (id uint64, m mount, ok bool) {
	f := strings.Split(line, " ")
	if len(f) < 8 {
		return 0, mount{}, false
	}
	id, err := strconv.ParseUint(f[0], 10, 64)
	if err != nil {
		return 0, mount{}, false
	}
	major, minor, _ := strings.Cut(f[2], ":")
	a, err1 := strconv.ParseUint(major, 10, 32)
	b, err2 := strconv.ParseUint(minor, 10, 32)
	if err1 != nil || err2 != nil {
		return 0, mount{}, false
	}
	m = mount{dev: device{uint32(a), uint32(b)}, root: unescape(f[3]), point: unescape(f[4])}
	m.ro = strings.HasPrefix(f[5]+",", "ro,")
	for i := 6; i+1 < len(f); i++ {
		if f[i] == "-" {
			m.kind = f[i+1]
			return id, m, true
		}
	}
	return 0, mount{}, false
}

// unescape undoes what the kernel does to blanks and the like: \ooo.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
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

// inTree returns the path in the tree, "dev/tcp/web/http", of a file whose path in this process's view is path, on m.
func (m mount) inTree(path string) (string, bool) {
	// The name may have come to lead elsewhere since it was looked up, as a stream's does after each open.
	path = strings.TrimSuffix(path, " (deleted)")
	rest, ok := strings.CutPrefix(path, strings.TrimSuffix(m.point, "/"))
	if !ok || rest != "" && rest[0] != '/' {
		return "", false
	}
	return strings.Trim(strings.TrimSuffix(m.root, "/")+rest, "/"), true
}
