package supervisor

import (
	"bytes"
	"strings"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/rendezvous"
)

// wanted is a stream that a thread opens.
type wanted struct {
	path              string // canonical
	nonblock, cloexec bool
	probe             bool // it is no stream: the thread asks whether this supervisor answers for the tree
}

// walker finds out what threads ask for. It is for one goroutine.
type walker struct {
	mounts  *mounts
	moved   *atomic.Bool // some thread may have another root
	view    view
	path    [unix.PathMax]byte
	link    [unix.PathMax]byte
	length  int // of what stands in link
	scratch []byte
}

// maxLinks is how many symbolic links lead to the slash form of options, one to another.
const maxLinks = 8

// want tells which stream a notification asks for. It is false for all that is to be left to the kernel, which are
// errors too: the kernel meets them again and tells them to the thread.
func (w *walker) want(n *notification) (wanted, bool) {
	o, ok := opening(n.Nr, n.Args)
	if !ok || n.Arch != machine || n.TID == 0 {
		return wanted{}, false
	}
	if o.how != 0 && !o.readHow(n.TID) {
		return wanted{}, false
	}
	if o.flags&never != 0 || o.flags&anew == anew || o.flags&unix.O_ACCMODE == unix.O_ACCMODE {
		return wanted{}, false
	}
	path, ok := readPath(n.TID, o.path, &w.path)
	if !ok || len(path) == 0 {
		return wanted{}, false
	}
	w.view.begin(n.TID, &o, !w.moved.Load())
	defer w.view.end()
	if o.flags == probeFlags {
		return wanted{probe: w.isRoot(path)}, false
	}
	stream, ok := w.stream(path, o.flags&unix.O_NOFOLLOW)
	if !ok {
		return wanted{}, false
	}
	p, err := rendezvous.Parse(stream)
	if err != nil || p.Options.Create || p.Options.Sock {
		return wanted{}, false
	}
	return wanted{path: p.String(), nonblock: o.flags&unix.O_NONBLOCK != 0, cloexec: o.flags&unix.O_CLOEXEC != 0}, true
}

// readHow reads the flags of openat2(2). One with RESOLVE_CACHED does not want to wait for a connection.
func (o *opened) readHow(tid uint32) bool {
	var how unix.OpenHow
	const size = int(unsafe.Sizeof(how))
	if o.howSize != uint64(size) {
		return false // a later version's, or an error
	}
	b := unsafe.Slice((*byte)(unsafe.Pointer(&how)), size)
	// In two steps where it lies across the end of a page, which need not be there.
	first := min(size, int(pageSize-o.how%pageSize))
	if !readMemory(tid, o.how, b[:first]) || first < size && !readMemory(tid, o.how+uint64(first), b[first:]) {
		return false
	}
	const known = ownRules | unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_SYMLINKS
	if how.Resolve&^known != 0 || how.Flags>>32 != 0 && how.Flags != probeFlags {
		return false
	}
	o.flags, o.resolve = how.Flags, how.Resolve
	return true
}

// isRoot tells whether path leads to the root of the tree.
func (w *walker) isRoot(path []byte) bool {
	fd, errno := w.view.open(path, unix.O_DIRECTORY)
	if errno != 0 {
		return false
	}
	defer unix.Close(fd)
	at, ok := w.inTree(fd, unix.S_IFDIR)
	return ok && at == ""
}

// stream walks a path of the thread. It returns the path in the tree of the stream that it leads to, its options in
// either form.
func (w *walker) stream(path []byte, nofollow uint64) (string, bool) {
	// The shorter way. In dev/tcp/HOST every name is a stream: the daemon need not be asked for it.
	if dir, rest, ok := guess(path); ok {
		if fd, errno := w.view.open(dir, unix.O_DIRECTORY); errno == 0 {
			at, ok := w.inTree(fd, unix.S_IFDIR)
			unix.Close(fd)
			if ok && isHost(at) {
				return at + "/" + string(rest), true
			}
		}
	}
	if w.elsewhere(path, nofollow) {
		return "", false
	}
	fd, errno := w.view.open(path, nofollow)
	if errno == unix.ENOTDIR {
		return w.slashes(path)
	}
	if errno != 0 {
		return "", false
	}
	defer unix.Close(fd)
	return w.inTree(fd, unix.S_IFREG)
}

// elsewhere tells of a path that it leads to no stream, by one call. Most do, and each open of a program waits for this.
//
// The walk is the same as view's but that links of /proc are followed, which lead where this process has files and
// folders and not the thread. That changes nothing: what they lead to is the kernel's in any case.
func (w *walker) elsewhere(path []byte, nofollow uint64) bool {
	v := &w.view
	if !v.rooted || v.root != noFD || v.resolve != 0 {
		return false // it may have another root, or rules of its own
	}
	var flags uintptr
	if nofollow != 0 {
		flags = unix.AT_SYMLINK_NOFOLLOW
	}
	var st unix.Statx_t
	errno := statx(unix.AT_FDCWD, v.fromHere(path), flags, &st)
	switch {
	case errno == unix.ENOTDIR, errno == unix.ENAMETOOLONG:
		return false
	case errno != 0, st.Mode&unix.S_IFMT != unix.S_IFREG:
		return true
	}
	_, ok := w.mounts.find(device{st.Dev_major, st.Dev_minor}, st.Mnt_id)
	return !ok
}

// inTree returns the path in the tree of what fd is, if it is there and of that kind. w.link holds its path in this
// process's view then.
func (w *walker) inTree(fd int, kind uint16) (string, bool) {
	at, is := w.look(fd)
	return at, is != 0 && is == kind
}

// look returns the path in the tree of what fd is, and its kind; 0: it is not there.
func (w *walker) look(fd int) (string, uint16) {
	var st unix.Statx_t
	if statx(fd, emptyPath[:], unix.AT_EMPTY_PATH, &st) != 0 {
		return "", 0
	}
	m, ok := w.mounts.find(device{st.Dev_major, st.Dev_minor}, st.Mnt_id)
	if !ok {
		return "", 0
	}
	n, err := readlink(fd, w.link[:])
	if err != nil {
		return "", 0
	}
	w.length = n
	at, ok := m.inTree(string(w.link[:n]))
	if !ok {
		return "", 0
	}
	return at, st.Mode & unix.S_IFMT
}

// slashes looks for a stream in a path that is longer than that: what follows are its options. The kernel has said
// ENOTDIR to the whole.
func (w *walker) slashes(path []byte) (string, bool) {
	if path[len(path)-1] == '/' {
		return "", false // a stream is no folder
	}
	for range maxLinks {
		fd, end, ok := w.longest(path)
		if !ok {
			return "", false
		}
		at, kind := w.look(fd)
		if kind == unix.S_IFREG || kind == unix.S_IFSOCK {
			unix.Close(fd)
			at += "/" + string(bytes.TrimLeft(path[end:], "/"))
			return at, !isLocal(at) || w.isStream(at)
		}
		// The name that follows may be a symbolic link to such a path itself.
		rest := bytes.TrimLeft(path[end:], "/")
		name, options, _ := bytes.Cut(rest, []byte("/"))
		n, err := unix.Readlinkat(fd, string(name), w.link[:])
		unix.Close(fd)
		if err != nil || n == 0 {
			return "", false
		}
		next := make([]byte, 0, unix.PathMax)
		if w.link[0] != '/' {
			next = append(next, path[:end]...)
			if end > 0 || path[0] == '/' {
				next = append(next, '/')
			}
		}
		next = append(next, w.link[:n]...)
		if len(options) > 0 {
			next = append(append(next, '/'), options...)
		}
		if len(next) >= unix.PathMax {
			return "", false
		}
		path = next
	}
	return "", false
}

// isStream tells whether there is a stream at, which has options after slashes, in the folder of the file whose path
// w.link holds. In dev/fdp/local a name need not be there, and one with options need not mean the same as without.
func (w *walker) isStream(at string) bool {
	p, err := rendezvous.Parse(at)
	if err != nil {
		return false
	}
	dir := w.link[:bytes.LastIndexByte(w.link[:w.length], '/')+1]
	fd, err := unix.Open(string(dir)+p.Element(), unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	_, ok := w.inTree(fd, unix.S_IFREG)
	return ok
}

// longest opens the longest part of path, cut at a slash, that the kernel does not call ENOTDIR. It ends at path[end].
func (w *walker) longest(path []byte) (fd, end int, ok bool) {
	for end = len(path); end > 0; {
		end = max(bytes.LastIndexByte(path[:end], '/'), 0)
		for end > 0 && path[end-1] == '/' {
			end--
		}
		part := path[:end]
		switch { // the first name may be a link
		case end == 0 && path[0] == '/':
			part = path[:1]
		case end == 0:
			part = []byte(".")
		}
		fd, errno := w.view.open(part, 0)
		if errno == unix.ENOTDIR {
			continue
		}
		return fd, end, errno == 0
	}
	return noFD, 0, false
}

// guess cuts a path behind the last PROTO/HOST in it, if it can be a stream's by its letters. That it is not cut says
// nothing.
func guess(path []byte) (dir, rest []byte, ok bool) {
	at := max(bytes.LastIndex(path, []byte("/tcp/")), bytes.LastIndex(path, []byte("/udp/")))
	if at < 0 {
		return nil, nil, false
	}
	host := at + len("/tcp/")
	n := bytes.IndexByte(path[host:], '/')
	if n <= 0 {
		return nil, nil, false
	}
	dir, rest = path[:host+n], path[host+n+1:]
	for elem := range bytes.SplitSeq(rest, []byte("/")) {
		if len(elem) == 0 || elem[0] == '.' {
			return nil, nil, false
		}
	}
	return dir, rest, true
}

// isLocal tells whether a path in the tree is below dev/fdp/local.
func isLocal(at string) bool { return strings.HasPrefix(at, "dev/fdp/local/") }

// isHost tells whether a path in the tree is dev/tcp/HOST or dev/udp/HOST.
func isHost(at string) bool {
	rest, ok := strings.CutPrefix(at, "dev/tcp/")
	if !ok {
		rest, ok = strings.CutPrefix(at, "dev/udp/")
	}
	return ok && rest != "" && !strings.Contains(rest, "/")
}
