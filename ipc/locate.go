package ipc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/convoke-fs/convoke/rendezvous"
)

// MountEnv names the environment variable that holds the mount point when no
// flag gives it.
const MountEnv = "CONVOKE_MOUNT"

// fuseMagic is f_type of a FUSE mount (linux/magic.h: FUSE_SUPER_MAGIC).
const fuseMagic = 0x65735546

// Locate finds the tree of a running convoked: at mount if that is not empty,
// else at $CONVOKE_MOUNT, else at /n for root and at $XDG_RUNTIME_DIR/n for
// everybody else.
//
// It checks that a convoke mount answers there, within [AnswerTime], so that a
// command never hangs on a dead one. The error says what to do; it wraps the
// errno where there is one, and is of kind Unavailable where nothing is
// mounted.
func Locate(mount string) (*Tree, error) {
	dir, err := mountPoint(mount)
	if err != nil {
		return nil, err
	}
	return locate(dir, AnswerTime, fsType)
}

// mountPoint returns the folder where the tree must be.
func mountPoint(mount string) (string, error) {
	if mount == "" {
		mount = os.Getenv(MountEnv)
	}
	if mount != "" {
		return filepath.Clean(mount), nil
	}
	if os.Geteuid() == 0 {
		return "/n", nil
	}
	if run := os.Getenv("XDG_RUNTIME_DIR"); run != "" {
		return filepath.Join(run, "n"), nil
	}
	return "", &rendezvous.Error{Op: "find", Path: "the mount", Kind: rendezvous.Invalid,
		Err: fmt.Errorf("XDG_RUNTIME_DIR is not set: give --mount DIR or set %s", MountEnv)}
}

// fsType returns the f_type of the file system that dir lies on.
func fsType(dir string) (int64, error) {
	var st syscall.Statfs_t
	for {
		err := syscall.Statfs(dir, &st)
		if err != syscall.EINTR {
			return int64(st.Type), err
		}
	}
}

// locate checks that a convoke tree answers at dir within limit. typeOf tells
// the kind of a file system.
func locate(dir string, limit time.Duration, typeOf func(string) (int64, error)) (*Tree, error) {
	t := &Tree{Dir: dir}
	err := within(limit, func() error { return t.probe(typeOf) })
	if err == nil {
		return t, nil
	}
	var known *rendezvous.Error
	if errors.As(err, &known) {
		return nil, known
	}
	return nil, &rendezvous.Error{Op: "find the mount", Path: dir, Kind: rendezvous.Unavailable,
		Err: worded{bare(err).Error() + locateHint(err, limit), err}}
}

// probe looks whether t is a convoke tree whose daemon answers.
func (t *Tree) probe(typeOf func(string) (int64, error)) error {
	kind, err := typeOf(t.Dir)
	if err != nil {
		return err
	}
	if kind != fuseMagic {
		return &rendezvous.Error{Op: "find the mount", Path: t.Dir, Kind: rendezvous.Unavailable,
			Err: errors.New("nothing is mounted there: start convoked, or give --mount DIR")}
	}
	_, err = readFile(t.path("cluster/version"))
	if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ENOTDIR) {
		return &rendezvous.Error{Op: "find the mount", Path: t.Dir, Kind: rendezvous.Unavailable,
			Err: errors.New("it is the mount of another program, not of convoked")}
	}
	return err
}

// locateHint says what to do about a mount point that does not answer, behind
// a colon.
func locateHint(err error, limit time.Duration) string {
	switch {
	case errors.Is(err, syscall.ENOTCONN), errors.Is(err, syscall.ECONNABORTED):
		return ": " + Explain(syscall.ENOTCONN)
	case errors.Is(err, syscall.ENOENT):
		return ": start convoked, or give --mount DIR"
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return ": it is another user's"
	case errors.Is(err, syscall.ETIMEDOUT):
		return fmt.Sprintf(": the daemon has not answered for %v", limit)
	}
	return ""
}
