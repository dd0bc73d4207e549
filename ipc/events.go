package ipc

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/convoke-fs/convoke/rendezvous"
)

// Event is one record of cluster/events.
type Event struct {
	Seq   uint64 `json:"seq"`  // counts the records of this open, from 1
	Time  string `json:"time"` // RFC 3339, UTC, milliseconds
	Kind  string `json:"kind"` // SNAP, SNAPEND, MEMBER_JOINED, MEMBER_LEFT, LOST, ...
	ID    uint32 `json:"id,omitempty"`
	Name  string `json:"name,omitempty"`
	State string `json:"state,omitempty"`
	Role  string `json:"role,omitempty"`
	Lost  uint64 `json:"lost,omitempty"` // records that this reader was too slow for

	// Fields holds what the record has beyond the above, as it stands there.
	Fields []string `json:"fields,omitempty"`
}

// Events opens the notifications of the cluster: the present members first,
// then each change. With kinds only these are told, and without SNAP among
// them there is no beginning state. Each record is a line for [ParseEvent]. A
// read waits for the next record until Close, which may be called from any
// goroutine.
//
// A kind that the daemon does not know is an error of kind Invalid.
func (t *Tree) Events(kinds ...string) (io.ReadCloser, error) {
	name := "cluster/events"
	for _, kind := range kinds {
		if !validKind(kind) {
			return nil, &rendezvous.Error{Op: "events", Path: kind, Kind: rendezvous.Invalid,
				Err: errors.New("not a kind of event")}
		}
		name += "," + kind
	}
	f, err := t.openStream(name, os.O_RDONLY)
	if len(kinds) > 0 && errors.Is(err, syscall.ENOENT) {
		return nil, &rendezvous.Error{Op: "events", Path: strings.Join(kinds, " "), Kind: rendezvous.Invalid,
			Err: errors.New("not a kind of event")}
	}
	if err != nil {
		return nil, failed("events", strings.Join(kinds, " "), err)
	}
	return reader{polled{f}, name}, nil
}

// validKind tells whether kind may stand in a file name as a filter. What the
// daemon knows is its own affair.
func validKind(kind string) bool {
	for _, c := range kind {
		if (c < 'A' || c > 'Z') && c != '_' {
			return false
		}
	}
	return kind != ""
}

// ParseEvent reads one record of cluster/events, without its newline.
func ParseEvent(line string) (Event, error) {
	fields := strings.Split(line, " ")
	if len(fields) < 3 {
		return Event{}, fmt.Errorf("event %q has no number, time and kind", line)
	}
	e := Event{Time: fields[1], Kind: fields[2]}
	var err error
	if e.Seq, err = strconv.ParseUint(fields[0], 10, 64); err != nil {
		return Event{}, fmt.Errorf("event %q: %w", line, err)
	}
	rest := fields[3:]
	next := func() (field string) {
		if len(rest) > 0 && !strings.Contains(rest[0], "=") {
			field, rest = rest[0], rest[1:]
		}
		return field
	}
	switch {
	case e.Kind == "LOST":
		e.Lost, err = parseCount(next(), 64)
	case e.Kind == "SNAP" || strings.HasPrefix(e.Kind, "MEMBER_") ||
		strings.HasSuffix(e.Kind, "_ELECTED") || strings.HasSuffix(e.Kind, "_DEMOTED"):
		var id uint64
		id, err = parseCount(next(), 32)
		e.ID, e.Name = uint32(id), next()
		if e.Kind == "SNAP" {
			e.State, e.Role = next(), next()
		}
	}
	if err != nil {
		return Event{}, fmt.Errorf("event %q: %w", line, err)
	}
	for _, field := range rest {
		if value, ok := strings.CutPrefix(field, "state="); ok {
			e.State = value
		} else if field != "" {
			e.Fields = append(e.Fields, field)
		}
	}
	return e, nil
}

// parseCount reads a number of at most bits bits.
func parseCount(text string, bits int) (uint64, error) {
	return strconv.ParseUint(text, 10, bits)
}
