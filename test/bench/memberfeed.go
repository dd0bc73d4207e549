package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// feed is a membership by the file feed, with plain blocking system calls, as a shell has it. The file is text, so what a
// message begins with is written in digits.
type feed struct {
	fd    int
	lines *bufio.Scanner
	line  []byte // of send
	body  []byte // of receive
}

func joinFeed(mount, group string) (groupConn, error) {
	path := filepath.Join(mount, "cluster/groups", group, "feed")
	for {
		fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, &os.PathError{Op: "open", Path: path, Err: err}
		}
		f := &feed{fd: fd, lines: bufio.NewScanner(fdReader(fd))}
		f.lines.Buffer(make([]byte, 256<<10), 8<<20) // an escaped message takes up to four times its length
		return f, nil
	}
}

// fdReader reads a descriptor that Go's poller does not see.
type fdReader int

func (r fdReader) Read(p []byte) (int, error) {
	for {
		n, err := unix.Read(int(r), p)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("read: %w", err)
		}
		if n == 0 {
			return 0, errFeedEnd
		}
		return n, nil
	}
}

var errFeedEnd = fmt.Errorf("the feed has ended: %w", unix.EPIPE)

func (f *feed) send(b []byte) error {
	f.line = f.line[:0]
	for _, v := range []uint64{
		uint64(binary.LittleEndian.Uint32(b)), uint64(binary.LittleEndian.Uint32(b[4:])), uint64(binary.LittleEndian.Uint32(b[8:])),
		binary.LittleEndian.Uint64(b[16:]),
	} {
		f.line = append(strconv.AppendUint(f.line, v, 10), ' ')
	}
	for len(f.line) < len(b) {
		f.line = append(f.line, '.')
	}
	return writeFull(f.fd, f.line)
}

func (f *feed) receive() (groupEvent, error) {
	for f.lines.Scan() {
		line := f.lines.Bytes()
		if text, ok := bytes.CutPrefix(line, []byte("msg ")); ok {
			_, text, _ = bytes.Cut(text, []byte(" ")) // node
			_, text, _ = bytes.Cut(text, []byte(" ")) // process
			return groupEvent{message: f.decode(text)}, nil
		}
		if text, ok := bytes.CutPrefix(line, []byte("conf ")); ok {
			return parseConf(string(text)), nil
		}
	}
	return groupEvent{}, f.lines.Err()
}

// decode gives the message whose beginning is text again.
func (f *feed) decode(text []byte) []byte {
	size := max(len(text), headSize)
	if len(f.body) < size {
		f.body = make([]byte, size)
	}
	var v [4]uint64
	for i := range v {
		for len(text) > 0 && text[0] >= '0' && text[0] <= '9' {
			v[i] = 10*v[i] + uint64(text[0]-'0')
			text = text[1:]
		}
		if len(text) > 0 {
			text = text[1:]
		}
	}
	b := f.body[:size]
	binary.LittleEndian.PutUint32(b, uint32(v[0]))
	binary.LittleEndian.PutUint32(b[4:], uint32(v[1]))
	binary.LittleEndian.PutUint32(b[8:], uint32(v[2]))
	binary.LittleEndian.PutUint64(b[16:], v[3])
	return b
}

// parseConf counts what the line of a configuration change names.
func parseConf(text string) (e groupEvent) {
	for _, f := range strings.Fields(text) {
		key, list, _ := strings.Cut(f, "=")
		n := 0
		if list != "" && list != "-" {
			n = 1 + strings.Count(list, ",")
		}
		switch key {
		case "members":
			e.members = n
		case "joined":
			e.joined = n
		case "left":
			e.left = n
		}
	}
	return e
}

func (f *feed) leave() error { return unix.Close(f.fd) }
