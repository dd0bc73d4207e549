package ipc

import (
	"errors"
	"os"
	"strconv"
	"syscall"

	"github.com/convoke-fs/convoke/rendezvous"
)

// Stream is one open connection: the file that Open has opened. One goroutine
// may read while another writes; Close ends both.
type Stream struct {
	// ID names the connection: its folder is conn/ID.
	ID uint64
	// Path is what was opened, in the canonical form.
	Path rendezvous.Path

	tree *Tree
	file polled
}

// Open connects to path, written in either form of rendezvous.Parse:
// dev/tcp/db/5432,test or /dev/tcp/db/5432/test. It returns when the
// connection is made.
//
// Errors are those of connect(2), ENOENT for a host or service that does not
// resolve, and EACCES where this user is refused. The daemon bounds the wait
// (30 s).
func (t *Tree) Open(path string) (*Stream, error) {
	p, err := rendezvous.Parse(path)
	if err != nil {
		return nil, err
	}
	// The file is in Go's poller: a read that waits holds no thread, and
	// Close ends it.
	f, err := os.OpenFile(t.path(p.String()), os.O_RDWR, 0)
	if errors.Is(err, syscall.ENOENT) {
		// "No such file" would be true, and no help.
		err = worded{rendezvous.NotExist.String(), bare(err)}
	}
	if err != nil {
		return nil, failed("connect", p.String(), err)
	}
	// Not by Fd(), which would take the file out of the poller.
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(failed("connect", p.String(), err), f.Close())
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil, errors.Join(failed("connect", p.String(), syscall.EOPNOTSUPP), f.Close())
	}
	return &Stream{ID: st.Ino, Path: p, tree: t, file: polled{f}}, nil
}

// Read reads what has come, at least one byte; io.EOF tells that the other
// side has closed or shut down. Over udp a read returns one datagram.
func (s *Stream) Read(p []byte) (int, error) {
	return reader{s.file, s.Path.String()}.Read(p)
}

// Write writes all of p. Over udp a write sends one datagram.
func (s *Stream) Write(p []byte) (int, error) {
	n, err := s.file.Write(p)
	return n, failed("write", s.Path.String(), err)
}

// CloseWrite tells the other side that nothing more will be written. Reading
// goes on.
func (s *Stream) CloseWrite() error {
	name := "conn/" + strconv.FormatUint(s.ID, 10) + "/ctl"
	return failed("shutdown", s.Path.String(), writeLine(s.tree.path(name), "shutdown"))
}

// Close closes the connection. It ends a Read or Write that waits.
func (s *Stream) Close() error { return s.file.Close() }
