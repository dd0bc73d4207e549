package ipc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"
)

// Conn is what conn/ID tells of one open connection.
type Conn struct {
	ID     uint64  `json:"id"`
	State  string  `json:"state"` // open, or shut: the written side is shut down
	Path   string  `json:"path"`  // as it was opened: dev/tcp/HOST/SERVICE
	Local  string  `json:"local"` // ADDRESS!PORT
	Remote string  `json:"remote"`
	UID    uint32  `json:"uid"` // the opener
	PID    int     `json:"pid"`
	In     uint64  `json:"in"`  // bytes read by the opener
	Out    uint64  `json:"out"` // bytes written by the opener
	Age    float64 `json:"age"` // seconds since the open
	Peer   Peer    `json:"peer"`
}

// Peer is who is at the other end of a connection, as far as that is proved.
// What is not known is empty.
type Peer struct {
	Host string `json:"host,omitempty"`
	Node string `json:"node,omitempty"`
	PID  string `json:"pid,omitempty"`
	UID  string `json:"uid,omitempty"`
	GID  string `json:"gid,omitempty"`
}

// Conns returns the open connections that the caller may see, by ascending ID:
// root sees all, a user his own. One that is closed meanwhile may be missing.
func (t *Tree) Conns() ([]Conn, error) {
	var conns []Conn
	err := within(AnswerTime, func() error {
		var err error
		conns, err = readConns(t.path("conn"))
		return err
	})
	if err != nil {
		return nil, failed("read", "conn", err)
	}
	return conns, nil
}

func readConns(dir string) ([]Conn, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	conns := make([]Conn, 0, len(entries))
	for _, entry := range entries {
		c, err := readConn(filepath.Join(dir, entry.Name()))
		switch {
		case errors.Is(err, syscall.ENOENT):
			// Closed since the folder was read.
		case err != nil:
			return nil, fmt.Errorf("%s: %w", entry.Name(), err)
		default:
			conns = append(conns, c)
		}
	}
	sort.Slice(conns, func(i, j int) bool { return conns[i].ID < conns[j].ID })
	return conns, nil
}

func readConn(dir string) (Conn, error) {
	status, err := readValue(filepath.Join(dir, "status"))
	if err != nil {
		return Conn{}, err
	}
	c, err := parseConn(status)
	if err != nil {
		return Conn{}, err
	}
	if c.Local, err = readValue(filepath.Join(dir, "local")); err != nil {
		return Conn{}, err
	}
	if c.Remote, err = readValue(filepath.Join(dir, "remote")); err != nil {
		return Conn{}, err
	}
	peer, err := readValue(filepath.Join(dir, "peer"))
	if err != nil {
		return Conn{}, err
	}
	c.Peer, err = parsePeer(peer)
	return c, err
}

// parseConn reads the line of a status file:
//
//	ID STATE PATH uid=U pid=P in=BYTES out=BYTES age=SECONDS
//
// Fields behind the first three may be missing, and unknown ones are left
// alone, so that an older client reads a newer daemon.
func parseConn(line string) (Conn, error) {
	fields := strings.Split(line, " ")
	if len(fields) < 3 {
		return Conn{}, fmt.Errorf("status %q has no ID, state and path", line)
	}
	c := Conn{State: fields[1], Path: fields[2]}
	var err error
	if c.ID, err = strconv.ParseUint(fields[0], 10, 64); err != nil {
		return Conn{}, fmt.Errorf("status %q: %w", line, err)
	}
	for _, field := range fields[3:] {
		key, value, _ := strings.Cut(field, "=")
		var err error
		switch key {
		case "uid":
			var uid uint64
			uid, err = strconv.ParseUint(value, 10, 32)
			c.UID = uint32(uid)
		case "pid":
			c.PID, err = strconv.Atoi(value)
		case "in":
			c.In, err = strconv.ParseUint(value, 10, 64)
		case "out":
			c.Out, err = strconv.ParseUint(value, 10, 64)
		case "age":
			c.Age, err = parseSeconds(value)
		}
		if err != nil {
			return Conn{}, fmt.Errorf("status field %q: %w", field, err)
		}
	}
	return c, nil
}

// parseSeconds reads a duration. Infinities and NaN, which ParseFloat takes,
// are none: JSON has no way to write them.
func parseSeconds(text string) (float64, error) {
	s, err := strconv.ParseFloat(text, 64)
	if err == nil && !(s >= 0 && s < 1e15) {
		err = strconv.ErrRange
	}
	return s, err
}

// parsePeer reads `HOST NODE PID UID GID`, in which "-" is not known.
func parsePeer(line string) (Peer, error) {
	fields := strings.Split(line, " ")
	if len(fields) < 5 {
		return Peer{}, fmt.Errorf("peer %q has fewer than five fields", line)
	}
	for i, field := range fields {
		if field == "-" {
			fields[i] = ""
		}
	}
	return Peer{Host: fields[0], Node: fields[1], PID: fields[2], UID: fields[3], GID: fields[4]}, nil
}
