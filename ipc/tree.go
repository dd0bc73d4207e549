package ipc

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Tree is the mounted tree of one convoked. Dir is its mount point. The
// methods may be called from many goroutines.
type Tree struct{ Dir string }

// path returns the path of a file of the tree, given by its name below Dir.
func (t *Tree) path(name string) string { return filepath.Join(t.Dir, name) }

// Self returns the name of the member that this daemon is.
func (t *Tree) Self() (string, error) {
	var self string
	err := within(AnswerTime, func() error {
		link, err := os.Readlink(t.path("cluster/self"))
		self = filepath.Base(link)
		return err
	})
	if err != nil {
		return "", failed("read", "cluster/self", err)
	}
	return self, nil
}

// value returns a state file of one value without its newline.
func (t *Tree) value(name string) (string, error) {
	var text string
	err := within(AnswerTime, func() error {
		var err error
		text, err = readValue(t.path(name))
		return err
	})
	if err != nil {
		return "", failed("read", name, err)
	}
	return text, nil
}

// Ctl gives one line, a verb and its arguments, to cluster/ctl. It returns
// when the daemon has done it: nil, or what the daemon answered, as an errno
// (EINVAL for a verb or argument that it does not know, EACCES for a caller
// who may not). A join may take as long as the network needs.
func (t *Tree) Ctl(line string) error {
	verb, args, _ := strings.Cut(line, " ")
	return failed(verb, args, writeLine(t.path("cluster/ctl"), line))
}

// open opens a file for blocking system calls.
//
// os.OpenFile would set O_NONBLOCK and register the file with Go's poller,
// which costs two more requests to the daemon and helps only where a read has
// to be waited for. State and control files are never waited for like that.
func open(path string, flags int) (*os.File, error) {
	for {
		fd, err := syscall.Open(path, flags|syscall.O_CLOEXEC, 0)
		if err == nil {
			return os.NewFile(uintptr(fd), path), nil
		}
		if err != syscall.EINTR {
			return nil, &os.PathError{Op: "open", Path: path, Err: err}
		}
	}
}

// readFile returns a whole state file.
func readFile(path string) (string, error) {
	f, err := open(path, syscall.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	return string(b), err
}

// readValue returns a state file without its last newline.
func readValue(path string) (string, error) {
	text, err := readFile(path)
	return strings.TrimSuffix(text, "\n"), err
}

// writeLine gives a control file one line in one write(2).
func writeLine(path, line string) error {
	if line == "" || strings.ContainsAny(line, "\n\x00") {
		return syscall.EINVAL
	}
	f, err := open(path, syscall.O_WRONLY)
	if err != nil {
		return err
	}
	_, err = f.WriteString(line + "\n")
	return errors.Join(err, f.Close())
}
