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

// Member is what cluster/members/NODE tells of one member.
type Member struct {
	ID      uint32 `json:"id"`
	Name    string `json:"name"`
	Addr    string `json:"addr"`  // ADDRESS:PORT
	State   string `json:"state"` // alive, leaving, left or failed
	Role    string `json:"role"`
	Boot    uint64 `json:"boot"` // how often the member has been started
	Version string `json:"version"`

	// Tags are the member's own, written as its tags file has them: bytes
	// that would break a line are \xHH.
	Tags map[string]string `json:"tags"`
}

// Status is the cluster as one daemon sees it.
type Status struct {
	Cluster string   `json:"cluster"`
	Self    string   `json:"self"`    // the daemon's own name
	Version string   `json:"version"` // the daemon's version
	Quorum  string   `json:"quorum"`  // the line of cluster/quorum, "" from a daemon that has none
	Members []Member `json:"members"`
}

// Members returns the members, by ascending ID, this daemon's own included. A
// member that goes away meanwhile may be missing.
func (t *Tree) Members() ([]Member, error) {
	var members []Member
	err := within(AnswerTime, func() error {
		var err error
		members, err = readMembers(t.path("cluster/members"))
		return err
	})
	if err != nil {
		return nil, failed("read", "cluster/members", err)
	}
	return members, nil
}

// Status returns the cluster's name, this daemon and all members.
func (t *Tree) Status() (Status, error) {
	var s Status
	var err error
	if s.Cluster, err = t.value("cluster/name"); err != nil {
		return Status{}, err
	}
	if s.Version, err = t.value("cluster/version"); err != nil {
		return Status{}, err
	}
	if s.Self, err = t.Self(); err != nil {
		return Status{}, err
	}
	if s.Quorum, err = t.value("cluster/quorum"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return Status{}, err
	}
	s.Members, err = t.Members()
	return s, err
}

// Table returns cluster/status, the members as a table for people with a line
// of headings, as the daemon writes it.
func (t *Tree) Table() (string, error) {
	table, err := t.value("cluster/status")
	if err != nil {
		return "", err
	}
	return table + "\n", nil
}

func readMembers(dir string) ([]Member, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	members := make([]Member, 0, len(entries))
	for _, entry := range entries {
		m, err := readMember(dir, entry.Name())
		switch {
		case errors.Is(err, syscall.ENOENT):
			// Gone since the folder was read.
		case err != nil:
			return nil, err
		default:
			members = append(members, m)
		}
	}
	sort.Slice(members, func(i, j int) bool {
		a, b := members[i], members[j]
		return a.ID < b.ID || a.ID == b.ID && a.Name < b.Name
	})
	return members, nil
}

func readMember(dir, name string) (Member, error) {
	m := Member{Name: name}
	var id, boot, tags string
	for _, file := range []struct {
		name string
		to   *string
	}{
		{"id", &id}, {"addr", &m.Addr}, {"state", &m.State}, {"role", &m.Role},
		{"boot", &boot}, {"version", &m.Version}, {"tags", &tags},
	} {
		text, err := readValue(filepath.Join(dir, name, file.name))
		if err != nil {
			return Member{}, err
		}
		*file.to = text
	}
	if id == "" || boot == "" {
		// The folder of a member that is removed while it is read.
		return Member{}, syscall.ENOENT
	}
	n, err := strconv.ParseUint(id, 10, 32)
	if err != nil {
		return Member{}, fmt.Errorf("%s/id: %w", name, err)
	}
	m.ID = uint32(n)
	if m.Boot, err = strconv.ParseUint(boot, 10, 64); err != nil {
		return Member{}, fmt.Errorf("%s/boot: %w", name, err)
	}
	m.Tags, err = parseTags(tags)
	return m, err
}

// parseTags reads `key=value` lines. A value may be empty and may hold "=".
func parseTags(text string) (map[string]string, error) {
	tags := make(map[string]string)
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" {
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("tag %q is not key=value", line)
		}
		tags[key] = value
	}
	return tags, nil
}
