package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// The files of a state folder.
const (
	identityFile = "node"  // number and boot counter
	ringFile     = "ring"  // ceiling of the ring numbers
	peersFile    = "peers" // whom we have met
	lockFile     = "lock"  // held by the daemon that uses the folder
)

// identity is what a node keeps over its restarts.
type identity struct {
	ID   uint32 // never 0
	Boot uint64 // how often the node has been started, from 1
}

// stateDir is an open state folder, held against a second daemon. The zero
// value keeps nothing.
type stateDir struct {
	path string
	lock *os.File
}

// openState opens the folder, makes it when it is missing, and locks it. With
// an empty path nothing is kept.
func openState(path string) (*stateDir, error) {
	if path == "" {
		return &stateDir{}, nil
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("state folder: %w", err)
	}
	fi, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("state folder: %w", err)
	}
	if !fi.IsDir() {
		return nil, fmt.Errorf("state folder %s: %w", path, syscall.ENOTDIR)
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok || int(st.Uid) != os.Geteuid() && st.Uid != 0 || fi.Mode().Perm()&0o022 != 0 {
		return nil, fmt.Errorf("state folder %s: %w: others may write to it, want mode 0700 and our own", path, ErrInvalid)
	}
	lock, err := os.OpenFile(filepath.Join(path, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("state folder: %w", err)
	}
	// flock goes with the open file: it ends with the process, however that dies.
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		holder := make([]byte, 32)
		n, _ := lock.ReadAt(holder, 0)
		lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("state folder %s: %w by process %s", path, ErrInUse, pidOf(holder[:n]))
		}
		return nil, fmt.Errorf("state folder %s: lock: %w", path, err)
	}
	// The number in it is for the message above only.
	if err := lock.Truncate(0); err == nil {
		fmt.Fprintf(lock, "%d\n", os.Getpid())
	}
	return &stateDir{path: path, lock: lock}, nil
}

func pidOf(b []byte) string {
	if _, err := strconv.ParseUint(string(bytes.TrimSpace(b)), 10, 32); err != nil {
		return "unknown"
	}
	return string(bytes.TrimSpace(b))
}

// close lets another daemon have the folder.
func (s *stateDir) close() {
	if s.lock != nil {
		s.lock.Close()
	}
}

// start reads the identity, counts this start and makes that durable before it
// returns: no peer may ever see one boot number twice. The first start chooses
// the node's number.
func (s *stateDir) start(addr netip.Addr) (identity, error) {
	if s.path == "" {
		return identity{ID: randomID(), Boot: 1}, nil
	}
	var me identity
	text, err := os.ReadFile(filepath.Join(s.path, identityFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		me.ID = firstID(addr)
	case err != nil:
		return identity{}, fmt.Errorf("state: %w", err)
	default:
		if me, err = parseIdentity(text); err != nil {
			return identity{}, fmt.Errorf("state %s: %w", filepath.Join(s.path, identityFile), err)
		}
	}
	if me.Boot == math.MaxUint64 {
		return identity{}, fmt.Errorf("state %s: %w: the boot counter is at its end", filepath.Join(s.path, identityFile), ErrInvalid)
	}
	me.Boot++
	return me, s.save(me)
}

// save writes the identity.
func (s *stateDir) save(me identity) error {
	return s.write(identityFile, formatIdentity(me))
}

// ceiling reads the highest ring number that this node may have used or promised
// in its lives before; 0 when there is none. It is read once, at the start.
func (s *stateDir) ceiling() (uint64, error) {
	if s.path == "" {
		return 0, nil
	}
	path := filepath.Join(s.path, ringFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("state: %w", err)
	}
	ceiling, err := parseCeiling(text)
	if err != nil {
		return 0, fmt.Errorf("state %s: %w", path, err)
	}
	return ceiling, nil
}

// saveCeiling makes a ceiling durable before it returns. After an error the file
// holds the one before, or this one; the caller tries again. It is called from
// one goroutine at a time.
func (s *stateDir) saveCeiling(ceiling uint64) error {
	return s.write(ringFile, formatCeiling(ceiling))
}

// write replaces a file of the folder as a whole: after a crash it is the old
// one or the new one.
func (s *stateDir) write(name string, text []byte) error {
	if s.path == "" {
		return nil
	}
	path := filepath.Join(s.path, name)
	if err := writeSynced(path+".new", text); err != nil {
		return fmt.Errorf("state: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("state: %w", err)
	}
	dir, err := os.Open(s.path)
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil {
		return fmt.Errorf("state: %w", err)
	}
	return nil
}

func writeSynced(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Sync(), f.Close())
}

// The identity file is text of exactly this form; the last line shows that it
// is whole.
const identityForm = "convoke node 1\nid %d\nboot %d\nend\n"

func formatIdentity(me identity) []byte {
	return fmt.Appendf(nil, identityForm, me.ID, me.Boot)
}

// parseIdentity reads what formatIdentity writes and nothing else. A damaged
// file is an error, not a new identity: the old number may still be known to
// others, with a higher boot.
func parseIdentity(text []byte) (identity, error) {
	var me identity
	n, err := fmt.Sscanf(string(text), identityForm, &me.ID, &me.Boot)
	if err != nil || n != 2 || me.ID == 0 || me.Boot == 0 || !bytes.Equal(formatIdentity(me), text) {
		return identity{}, fmt.Errorf("%w: the file is damaged; restore it, or remove it to start as a new member", ErrInvalid)
	}
	return me, nil
}

// The file of the ceiling has the same kind of form.
const ceilingForm = "convoke ring 1\nceiling %d\nend\n"

func formatCeiling(ceiling uint64) []byte {
	return fmt.Appendf(nil, ceilingForm, ceiling)
}

// parseCeiling reads what formatCeiling writes and nothing else. A damaged file
// is an error and not 0: the node would give old rings' numbers to new ones.
func parseCeiling(text []byte) (uint64, error) {
	var ceiling uint64
	n, err := fmt.Sscanf(string(text), ceilingForm, &ceiling)
	if err != nil || n != 1 || !bytes.Equal(formatCeiling(ceiling), text) {
		return 0, fmt.Errorf("%w: the file is damaged; restore it, or remove it while other members run, of whom its content is learned", ErrInvalid)
	}
	return ceiling, nil
}

// firstID chooses a node's number: the last 16 bits of its address, which are
// short, easy to recognise and differ within a network of up to 65,536
// addresses. When they are 0, or clash with a member's (see redrawID), a random
// number takes their place.
func firstID(addr netip.Addr) uint32 {
	b := addr.AsSlice()
	if len(b) >= 4 {
		if id := uint32(b[len(b)-2])<<8 | uint32(b[len(b)-1]); id != 0 {
			return id
		}
	}
	return randomID()
}

// randomID gives a number that no address gives.
func randomID() uint32 {
	return 1<<16 + rand.Uint32N(math.MaxUint32-1<<16)
}
