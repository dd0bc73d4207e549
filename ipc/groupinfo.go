package ipc

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// GroupInfo is what cluster/groups/NAME tells of a process group.
type GroupInfo struct {
	Name string `json:"name"` // as it stands in the tree, see [EscapeGroup]
	UID  uint32 `json:"uid"`
	GID  uint32 `json:"gid"`
	Feed Mode   `json:"feed"` // of the file by which members join
	Send Mode   `json:"send"` // of the file by which others send

	// Members are sorted; nil where the caller may not see them.
	Members []GroupMember `json:"members"`
}

// GroupMember is a member of a group, on any node.
type GroupMember struct {
	Process
	NodeName string `json:"name,omitempty"`
	Joined   string `json:"joined"` // RFC 3339, UTC, by the clock of its node
}

// Mode are the permissions of a file.
type Mode iofs.FileMode

func (m Mode) String() string { return fmt.Sprintf("%04o", uint32(m)&0o7777) }

// MarshalText makes JSON hold the octal number.
func (m Mode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// Groups returns all process groups, by name. One that ends meanwhile may be missing.
func (t *Tree) Groups() ([]GroupInfo, error) {
	groups := []GroupInfo{}
	err := within(AnswerTime, func() error {
		dir := t.path("cluster/groups")
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, entry := range entries {
			g, err := readGroup(dir, entry.Name())
			switch {
			case errors.Is(err, syscall.ENOENT):
				// Ended since the folder was read.
			case err != nil:
				return fmt.Errorf("%s: %w", entry.Name(), err)
			default:
				groups = append(groups, g)
			}
		}
		return nil
	})
	if err != nil {
		return nil, failed("read", "cluster/groups", err)
	}
	return groups, nil
}

// Group returns one process group, whose name is as it stands in the tree. A caller who may not see the members gets
// EACCES.
func (t *Tree) Group(name string) (GroupInfo, error) {
	var g GroupInfo
	err := within(AnswerTime, func() error {
		var err error
		if g, err = readGroup(t.path("cluster/groups"), name); err == nil && g.Members == nil {
			err = syscall.EACCES
		}
		return err
	})
	if err != nil {
		return GroupInfo{}, failed("read", "cluster/groups/"+name, err)
	}
	return g, nil
}

func readGroup(dir, name string) (GroupInfo, error) {
	g := GroupInfo{Name: name}
	for _, file := range []struct {
		name string
		to   *Mode
	}{{"feed", &g.Feed}, {"send", &g.Send}} {
		info, err := os.Stat(filepath.Join(dir, name, file.name))
		if err != nil {
			return GroupInfo{}, err
		}
		*file.to = Mode(info.Mode().Perm())
		owner := info.Sys().(*syscall.Stat_t)
		g.UID, g.GID = owner.Uid, owner.Gid
	}
	text, err := readFile(filepath.Join(dir, name, "members"))
	if errors.Is(err, syscall.EACCES) {
		return g, nil
	}
	if err != nil {
		return GroupInfo{}, err
	}
	g.Members = []GroupMember{}
	for line := range strings.Lines(text) {
		m, err := parseGroupMember(strings.TrimSuffix(line, "\n"))
		if err != nil {
			return GroupInfo{}, err
		}
		g.Members = append(g.Members, m)
	}
	return g, nil
}

// parseGroupMember reads a line of a file members:
//
//	NODEID PID[.N] NODE JOINED
//
// Fields behind these are left alone, so that an older client reads a newer daemon.
func parseGroupMember(line string) (GroupMember, error) {
	fields := strings.Split(line, " ")
	if len(fields) < 4 {
		return GroupMember{}, fmt.Errorf("member %q has fewer than four fields", line)
	}
	m := GroupMember{NodeName: fields[2], Joined: fields[3]}
	if m.NodeName == "-" {
		m.NodeName = ""
	}
	pid, n, ok := strings.Cut(fields[1], ".")
	if !ok {
		n = "1"
	}
	for _, number := range []struct {
		text string
		to   *uint32
	}{{fields[0], &m.Node}, {pid, &m.PID}, {n, &m.N}} {
		v, err := strconv.ParseUint(number.text, 10, 32)
		if err != nil {
			return GroupMember{}, fmt.Errorf("member %q: %w", line, err)
		}
		*number.to = uint32(v)
	}
	return m, nil
}
