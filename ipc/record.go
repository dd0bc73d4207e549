package ipc

import (
	"bytes"
	"encoding/json"
	"strconv"
	"unicode/utf8"
)

// Process is a member of a process group.
type Process struct {
	Node uint32 `json:"node"` // number of its node
	PID  uint32 `json:"pid"`  // 0 for a node's own daemon
	N    uint32 `json:"n"`    // which of the process's memberships in the group it is, from 1; 0: it is no member
}

// AppendText appends NODE:PID, with .N behind it when that is not 1.
func (p Process) AppendText(b []byte) ([]byte, error) {
	b = strconv.AppendUint(b, uint64(p.Node), 10)
	return p.appendPID(append(b, ':')), nil
}

func (p Process) appendPID(b []byte) []byte {
	b = strconv.AppendUint(b, uint64(p.PID), 10)
	if p.N != 1 {
		b = append(b, '.')
		b = strconv.AppendUint(b, uint64(p.N), 10)
	}
	return b
}

func (p Process) String() string {
	b, _ := p.AppendText(nil)
	return string(b)
}

// Reason is why a process has joined or left; the numbers are those of CPG.
type Reason uint8

// The reasons. A group may know more in a later version.
const (
	Joined   Reason = 1 // it asked to
	Left     Reason = 2 // it asked to
	NodeDown Reason = 3 // its node is not in the ring any more
	NodeUp   Reason = 4 // its node has come into the ring
	ProcDown Reason = 5 // it has ended, or was put out
)

var reasons = [...]string{Joined: "JOIN", Left: "LEAVE", NodeDown: "NODEDOWN", NodeUp: "NODEUP", ProcDown: "PROCDOWN"}

func (r Reason) String() string {
	if int(r) < len(reasons) && reasons[r] != "" {
		return reasons[r]
	}
	return "UNDEFINED"
}

// MarshalText makes JSON hold the name.
func (r Reason) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// Change is a process that has joined or left.
type Change struct {
	Process
	Reason Reason `json:"reason"`
}

// RingID names a ring: a set of nodes that have one log. Rings of a node have ascending Seq.
type RingID struct {
	Seq uint64
	Rep uint32 // the node that has formed it
}

// AppendText appends SEQ.REP.
func (r RingID) AppendText(b []byte) ([]byte, error) {
	b = strconv.AppendUint(b, r.Seq, 10)
	b = append(b, '.')
	return strconv.AppendUint(b, uint64(r.Rep), 10), nil
}

// MarshalText makes JSON hold the text.
func (r RingID) MarshalText() ([]byte, error) { return r.AppendText(nil) }

func (r RingID) String() string {
	b, _ := r.AppendText(nil)
	return string(b)
}

// RecordKind is what a Record tells.
type RecordKind uint8

// The kinds of records.
const (
	ConfRecord    RecordKind = iota + 1 // who is a member has changed
	MessageRecord                       // a message to the group
	RingRecord                          // the ring has changed
)

// Record is what a member of a group gets, in the order that all members see.
type Record struct {
	Kind RecordKind
	Ring RingID // in which it happened
	// Pos is its place in the log of the ring; 0 where the ring itself is the cause.
	Pos uint64

	Members []Process // of a ConfRecord, sorted: all members from now on
	Joined  []Change  // of a ConfRecord
	Left    []Change  // of a ConfRecord

	From Process // of a MessageRecord
	Data []byte  // of a MessageRecord

	Nodes []uint32 // of a RingRecord, sorted: the nodes of the ring
}

// AppendText appends the line of the record, as the file cluster/groups/NAME/feed has it, with its newline.
func (r *Record) AppendText(b []byte) []byte {
	switch r.Kind {
	case ConfRecord:
		b = append(b, "conf members="...)
		b = appendList(b, r.Members, Process.AppendText)
		b = append(b, " joined="...)
		b = appendList(b, r.Joined, appendChange)
		b = append(b, " left="...)
		b = appendList(b, r.Left, appendChange)
	case MessageRecord:
		b = append(b, "msg "...)
		b = strconv.AppendUint(b, uint64(r.From.Node), 10)
		b = append(b, ' ')
		b = append(r.From.appendPID(b), ' ')
		b = appendPayload(b, r.Data)
	case RingRecord:
		b = append(b, "ring "...)
		b, _ = r.Ring.AppendText(b)
		b = append(b, " members="...)
		b = appendList(b, r.Nodes, func(n uint32, b []byte) ([]byte, error) { return strconv.AppendUint(b, uint64(n), 10), nil })
	}
	return append(b, '\n')
}

func appendChange(c Change, b []byte) ([]byte, error) {
	b, _ = c.Process.AppendText(b)
	b = append(b, ':')
	return append(b, c.Reason.String()...), nil
}

// appendList appends what list holds, with commas between, or "-".
func appendList[T any](b []byte, list []T, one func(T, []byte) ([]byte, error)) []byte {
	if len(list) == 0 {
		return append(b, '-')
	}
	for i, v := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b, _ = one(v, b)
	}
	return b
}

// appendPayload appends data such that it is one line that can be shown.
func appendPayload(b, data []byte) []byte {
	const hex = "0123456789ABCDEF"
	for _, c := range data {
		switch {
		case c == '\\':
			b = append(b, `\\`...)
		case c == '\n':
			b = append(b, `\n`...)
		case c == '\t':
			b = append(b, `\t`...)
		case c < ' ' || c > '~':
			b = append(b, '\\', 'x', hex[c>>4], hex[c&15])
		default:
			b = append(b, c)
		}
	}
	return b
}

// MarshalJSON makes an object of the record: "kind", which is conf, msg or ring, and what this kind has. The payload of
// a message is "text" where it is UTF-8, else "base64".
func (r Record) MarshalJSON() ([]byte, error) {
	var v any
	switch r.Kind {
	case ConfRecord:
		v = struct {
			Kind    string    `json:"kind"`
			Ring    RingID    `json:"ring"`
			Pos     uint64    `json:"pos"`
			Members []Process `json:"members"`
			Joined  []Change  `json:"joined"`
			Left    []Change  `json:"left"`
		}{"conf", r.Ring, r.Pos, notNil(r.Members), notNil(r.Joined), notNil(r.Left)}
	case MessageRecord:
		m := struct {
			Kind string `json:"kind"`
			Ring RingID `json:"ring"`
			Pos  uint64 `json:"pos"`
			Process
			Text   *string `json:"text,omitempty"`
			Base64 []byte  `json:"base64,omitempty"`
		}{Kind: "msg", Ring: r.Ring, Pos: r.Pos, Process: r.From}
		if utf8.Valid(r.Data) {
			text := string(r.Data)
			m.Text = &text
		} else {
			m.Base64 = r.Data
		}
		v = m
	case RingRecord:
		v = struct {
			Kind  string   `json:"kind"`
			Ring  RingID   `json:"ring"`
			Nodes []uint32 `json:"nodes"`
		}{"ring", r.Ring, notNil(r.Nodes)}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return b.Bytes(), err
}

// notNil makes JSON of an empty list, not null.
func notNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
