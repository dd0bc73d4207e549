package launch

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// A request is all that a helper must know to become a server. It is decided by the daemon; the helper does what it says.
type request struct {
	Parent int    // the daemon's process: a helper that has lost it ends
	SetIDs bool   // take the ids; else they are the daemon's already
	UID    uint32 `json:",omitempty"`
	GID    uint32 `json:",omitempty"`
	Groups []uint32
	Listen int      // how many listening sockets there are, from descriptor 3 on
	Name   string   // argv[0]
	Env    []string // without LISTEN_PID, which only the helper knows
}

// seals keep a request from being changed by anybody, whoever gets hold of its descriptor.
const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE

// seal returns a descriptor from which the request can be read.
func (r request) seal() (fd int, err error) {
	text, err := json.Marshal(r)
	if err != nil {
		return -1, err
	}
	fd, err = unix.MemfdCreate("convoke-start", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return -1, fmt.Errorf("memfd_create: %w", err)
	}
	if _, err = unix.Pwrite(fd, text, 0); err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals)
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("write the request: %w", err)
	}
	return fd, nil
}

// readRequest reads what seal has made; it closes fd.
func readRequest(fd int) (r request, err error) {
	f := os.NewFile(uintptr(fd), "request")
	if f == nil {
		return r, unix.EBADF
	}
	defer f.Close()
	got, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	if err != nil {
		return r, err
	}
	if got&seals != seals {
		return r, errors.New("not sealed")
	}
	text, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<20))
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(text, &r)
}
