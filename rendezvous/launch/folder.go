package launch

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/rendezvous"
)

// Folder is the folder of each --lib directory that holds PROTO/SERVICE.
const Folder = "cs"

// The files of a service's folder.
const (
	serverFile = "server"       // inherits the listening sockets
	inetdFile  = "server.inetd" // a process for each client
	hostsFile  = "hosts"        // the members that may start it
)

// nobody is the uid that stands for those that cannot be told, as in a user namespace or behind a squashing NFS server.
// What it owns is owned by no one in particular.
const nobody = 65534

// A server is a program that may be started, open for being run.
type server struct {
	path  string // as it was found, for people: what is run is fd
	fd    int    // O_PATH
	owner uint32
	inetd bool
	hosts []string // nil: any member
}

func (s *server) close() { unix.Close(s.fd) }

// here tells whether the member self may start it.
func (s *server) here(self string) bool {
	return s.hosts == nil || slices.Contains(s.hosts, "share") || slices.Contains(s.hosts, self)
}

// errUnsafe is what a folder is refused for: somebody else could have put the server there.
var errUnsafe = errors.New("not safe to run")

// find opens the server of a service in the first of the directories that has a folder for it. It returns nil and nil
// when there is none, and nil when its file is empty, which is how an administrator says that it is never to be started.
// An error says what is wrong with the folder. Directories that cannot be trusted are left out, and told to warn: who
// may write there must not decide which services this host has.
func find(dirs []string, self uint32, proto rendezvous.Proto, service string, warn func(dir string, err error)) (*server, error) {
	for _, dir := range dirs {
		// Each open of a path that nobody announces comes here, and hardly any has a server: so one call before twenty.
		at := dir + "/" + Folder + "/" + proto.String()
		if absent(unix.Faccessat(unix.AT_FDCWD, at+"/"+service, unix.F_OK, unix.AT_SYMLINK_NOFOLLOW)) {
			continue
		}
		w := walk{self: self, fd: -1}
		err := w.enter(at)
		if err == nil {
			err = w.down(service)
			switch {
			case err == nil:
				s, err := w.server()
				w.close()
				return s, err
			case !absent(err):
				w.close()
				return nil, err
			}
		}
		w.close()
		if !absent(err) {
			warn(dir, err)
		}
	}
	return nil, nil
}

// names lists the services of proto that have a folder in one of the directories, in no order.
func names(dirs []string, self uint32, proto rendezvous.Proto) []string {
	var list []string
	for _, dir := range dirs {
		w := walk{self: self, fd: -1}
		if w.enter(filepath.Join(dir, Folder, proto.String())) == nil {
			// The descriptor of the walk cannot be read; the link leads to the same folder whatever its name is now.
			entries, _ := os.ReadDir(fmt.Sprintf("/proc/self/fd/%d", w.fd))
			for _, e := range entries {
				if rendezvous.ValidName(e.Name()) && !slices.Contains(list, e.Name()) {
					list = append(list, e.Name())
				}
			}
		}
		w.close()
	}
	return list
}

func absent(err error) bool { return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) }

// A walk goes down from the root by descriptors, so that what was looked at is what is used, whatever is renamed
// meanwhile. Each step must belong to root, or, below the first that is another user's, to that user: else he could
// bring root's files to where they were not meant to be. None may be writable by others; a sticky folder is no help,
// since names that are not there yet can be made in it.
type walk struct {
	self  uint32 // whom this process can run servers as, if it is not root
	fd    int    // where it is, O_PATH; -1: nowhere yet
	path  string
	owner uint32 // of the last step
}

func (w *walk) close() {
	if w.fd >= 0 {
		unix.Close(w.fd)
		w.fd = -1
	}
}

// enter goes from the root to an absolute path.
func (w *walk) enter(path string) error {
	fd, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	w.fd, w.path = fd, "/"
	if _, err := w.admit(fd, "/"); err != nil {
		return err
	}
	for elem := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		if err := w.down(elem); err != nil {
			return err
		}
	}
	return nil
}

// down goes to a folder in the present one.
func (w *walk) down(elem string) error {
	fd, _, owner, err := w.open(elem, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	unix.Close(w.fd)
	w.fd, w.path, w.owner = fd, filepath.Join(w.path, elem), owner
	return nil
}

// open opens a name in the present folder.
func (w *walk) open(elem string, flags uint64) (fd int, st unix.Stat_t, owner uint32, err error) {
	path := filepath.Join(w.path, elem)
	fd, err = unix.Openat2(w.fd, elem, &unix.OpenHow{
		Flags:   flags | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_BENEATH,
	})
	switch {
	case err == unix.ELOOP:
		return -1, st, 0, fmt.Errorf("%s is a symbolic link: %w", path, errUnsafe)
	case err != nil:
		return -1, st, 0, fmt.Errorf("%s: %w", path, err)
	}
	if st, err = w.admit(fd, path); err != nil {
		unix.Close(fd)
		return -1, st, 0, err
	}
	return fd, st, st.Uid, nil
}

// admit looks whether a step may be trusted.
func (w *walk) admit(fd int, path string) (st unix.Stat_t, err error) {
	if err := unix.Fstat(fd, &st); err != nil {
		return st, fmt.Errorf("%s: %w", path, err)
	}
	switch {
	case st.Mode&0o022 != 0:
		err = fmt.Errorf("%s is writable by others than its owner: %w", path, errUnsafe)
	case st.Uid == nobody:
		err = fmt.Errorf("%s belongs to nobody: %w", path, errUnsafe)
	case w.owner != 0 && st.Uid != w.owner:
		err = fmt.Errorf("%s belongs to uid %d, and what it is in to uid %d: %w", path, st.Uid, w.owner, errUnsafe)
	case w.self != 0 && st.Uid != 0 && st.Uid != w.self:
		err = fmt.Errorf("%s belongs to uid %d, as whom this daemon cannot run it: %w", path, st.Uid, errUnsafe)
	}
	return st, err
}

// server opens what the present folder, a service's, has to run.
func (w *walk) server() (*server, error) {
	name := serverFile
	fd, st, owner, err := w.open(name, unix.O_PATH)
	if errors.Is(err, unix.ENOENT) {
		name = inetdFile
		fd, st, owner, err = w.open(name, unix.O_PATH)
	}
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	s := &server{path: filepath.Join(w.path, name), fd: fd, owner: owner, inetd: name == inetdFile}
	if st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size == 0 {
		s.close()
		return nil, nil
	}
	if err := runnable(st); err != nil {
		s.close()
		return nil, fmt.Errorf("%s %w", s.path, err)
	}
	if s.hosts, err = w.hosts(); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// runnable refuses what is no plain program. A second link could be one that a user has made to somebody's file; a
// set-id program would not be who it is started as.
func runnable(st unix.Stat_t) error {
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return fmt.Errorf("is no regular file: %w", errUnsafe)
	case st.Nlink != 1:
		return fmt.Errorf("has %d links, want one: %w", st.Nlink, errUnsafe)
	case st.Mode&(unix.S_ISUID|unix.S_ISGID) != 0:
		return fmt.Errorf("is set-id: %w", errUnsafe)
	case st.Mode&0o111 == 0:
		return errors.New("is not executable")
	}
	return nil
}
