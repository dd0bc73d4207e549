package supervisor

import (
	"bytes"
	"errors"
	"strconv"

	"golang.org/x/sys/unix"
)

// identity is everything about a thread by which the kernel decides what an open(2) of its may do: its uids, gids,
// groups and capabilities, and its namespaces, as text of /proc.
type identity struct{ text []byte }

// namespaces are asked for one by one. That of pids is in the status: see NStgid below.
var namespaces = [...]string{"user", "mnt", "net"}

// statusParts are the parts of proc_pid_status(5) that tell who a thread is, from the first key up to before the second,
// in their order there. A thread's name is in there too, with newlines escaped by the kernel, so it cannot pass for one
// of them.
var statusParts = [...]struct{ from, to string }{
	{"\nUid:", "\nFDSize:"}, // and Gid
	{"\nGroups:", "\n"},
	{"\nCapInh:", "\nNoNewPrivs:"}, // and CapPrm, CapEff, CapBnd, CapAmb
}

// credentials appends what status says of a thread's identity to to. It is false when something is missing.
func credentials(to, status []byte) ([]byte, bool) {
	for _, part := range statusParts {
		begin := bytes.Index(status, []byte(part.from))
		if begin < 0 {
			return to, false
		}
		rest := status[begin+1:]
		end := bytes.Index(rest, []byte(part.to))
		if end < 0 {
			return to, false
		}
		to = append(append(to, rest[:end]...), '\n')
		status = rest[end:]
	}
	return to, true
}

// innerPIDs tells whether a thread is in a pid namespace below that of /proc: it has a number in each.
func innerPIDs(status []byte) bool {
	_, rest, ok := bytes.Cut(status, []byte("\nNStgid:\t"))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	return ok && bytes.ContainsAny(line, "\t ")
}

var (
	errIncomplete = errors.New("status is incomplete")
	errInnerPIDs  = errors.New("it is in another pid namespace")
)

// who asks /proc about a thread, whose identity this becomes. scratch is grown as needed.
func (id *identity) who(tid uint32, scratch *[]byte) error {
	var buf [64]byte
	dir := append(strconv.AppendUint(append(buf[:0], "/proc/"...), uint64(tid), 10), '/')
	status, err := readStatus(string(append(dir, "status"...)), scratch)
	if err != nil {
		return err
	}
	var ok bool
	if id.text, ok = credentials(id.text[:0], status); !ok {
		return errIncomplete
	}
	if innerPIDs(status) {
		return errInnerPIDs
	}
	// The text of the link has the number of the namespace, and is had for less than half of what stat(2) costs.
	for _, name := range namespaces {
		var link [64]byte
		n, err := unix.Readlink(string(append(append(dir, "ns/"...), name...)), link[:])
		if err != nil {
			return err
		}
		id.text = append(append(id.text, link[:n]...), '\n')
	}
	return nil
}

// same tells whether two identities are the same.
func (id *identity) same(other *identity) bool { return bytes.Equal(id.text, other.text) }

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
		if n == 0 || bytes.Contains(b, []byte(statusParts[len(statusParts)-1].to)) {
			return b, nil
		}
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
	}
}
