package supervisor

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// identity is everything about a thread by which the kernel decides what an open(2) of its may do.
type identity struct {
	rights
	namespaces [len(namespaces)]uint64
	groups     string // supplementary groups; "" where they have not been asked for
}

// rights are uids, gids and capabilities.
type rights struct {
	uids, gids                        [4]uint32 // real, effective, saved, and that of the file system
	inheritable, permitted, effective uint64    // sets of capabilities
}

var namespaces = [...]string{"user", "mnt", "net", "pid"}

// who asks the kernel about a thread, whose identity this becomes. Its supplementary groups cost most of the time and
// are asked for only if groups is set.
func (id *identity) who(tid uint32, groups bool, scratch *[]byte) error {
	id.groups = ""
	var buf [64]byte
	dir := append(strconv.AppendUint(append(buf[:0], "/proc/"...), uint64(tid), 10), '/')
	if groups || !id.rights.quick(tid) {
		status, err := readStatus(string(append(dir, "status"...)), scratch)
		if err != nil {
			return err
		}
		if id.groups, err = id.rights.parse(status); err != nil {
			return err
		}
		if !groups {
			id.groups = ""
		}
	}
	for i, name := range namespaces {
		// The text of the link, "net:[4026531840]", is had for less than half of what stat(2) costs.
		var link [64]byte
		n, err := unix.Readlink(string(append(append(dir, "ns/"...), name...)), link[:])
		if err != nil {
			return err
		}
		if id.namespaces[i], err = number(link[:n]); err != nil {
			return err
		}
	}
	return nil
}

// same tells whether a thread that has been asked for without groups, or with them, is who id is.
func (id *identity) same(its *identity, groups bool) bool {
	return id.rights == its.rights && id.namespaces == its.namespaces && (!groups || id.groups == its.groups)
}

// number reads the number in the text of a namespace's link.
func number(link []byte) (uint64, error) {
	_, rest, _ := bytes.Cut(link, []byte(":["))
	digits, ok := bytes.CutSuffix(rest, []byte("]"))
	if !ok {
		return 0, fmt.Errorf("%q is no namespace", link)
	}
	return strconv.ParseUint(string(digits), 10, 64)
}

var errIncomplete = errors.New("status is incomplete")

// parse reads proc_pid_status(5). A thread's name is in there too, with newlines escaped by the kernel, so it cannot
// pass for another line.
func (r *rights) parse(status []byte) (groups string, err error) {
	*r = rights{}
	seen := 0
	for line := range bytes.Lines(status) {
		key, value, ok := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte(":\t"))
		if !ok {
			continue
		}
		err = nil
		switch string(key) {
		case "Uid":
			err = four(&r.uids, value)
		case "Gid":
			err = four(&r.gids, value)
		case "Groups":
			groups = string(value)
		case "CapInh":
			r.inheritable, err = strconv.ParseUint(string(value), 16, 64)
		case "CapPrm":
			r.permitted, err = strconv.ParseUint(string(value), 16, 64)
		case "CapEff":
			r.effective, err = strconv.ParseUint(string(value), 16, 64)
		default:
			continue
		}
		if err != nil {
			return "", fmt.Errorf("status line %s: %w", key, err)
		}
		seen++
	}
	if seen != 6 {
		return "", errIncomplete
	}
	return groups, nil
}

// four reads four numbers.
func four(to *[4]uint32, value []byte) error {
	fields := bytes.Fields(value)
	if len(fields) != len(to) {
		return errIncomplete
	}
	for i, field := range fields {
		n, err := strconv.ParseUint(string(field), 10, 32)
		if err != nil {
			return err
		}
		to[i] = uint32(n)
	}
	return nil
}

// statusEnd is behind all that is read of the status.
const statusEnd = "\nCapBnd:"

// readStatus reads a thread's status as far as it is of interest.
func readStatus(path string, scratch *[]byte) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	b := *scratch
	if cap(b) == 0 {
		b = make([]byte, 0, 4096)
	}
	b = b[:0]
	for {
		n, err := unix.Read(fd, b[len(b):cap(b)])
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return nil, err
		}
		b = b[:len(b)+n]
		*scratch = b
		if i := bytes.Index(b, []byte(statusEnd)); n == 0 || i >= 0 {
			if i >= 0 {
				b = b[:i]
			}
			return b, nil
		}
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
	}
}
