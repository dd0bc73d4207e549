package cluster

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/serf/serf"

	"github.com/convoke-fs/convoke/cluster/watch"
)

// State is how a member stands to the cluster.
type State uint8

// The states of a member.
const (
	Alive   State = iota + 1
	Leaving       // it has said that it goes; it still takes part
	Left          // it went in good order
	Failed        // it does not answer
)

// String gives the word that the files show: alive, leaving, left, failed.
func (s State) String() string {
	switch s {
	case Alive:
		return "alive"
	case Leaving:
		return "leaving"
	case Left:
		return "left"
	case Failed:
		return "failed"
	}
	return "unknown"
}

// In tells whether a member in this state takes part.
func (s State) In() bool { return s == Alive || s == Leaving }

// Member is one line of the table of members.
type Member struct {
	ID      uint32            // its number, not 0; unique among those that take part
	Name    string            // its name, unique
	Addr    netip.AddrPort    // where it can be reached; port 0 when it listens nowhere
	State   State             // how it stands
	Boot    uint64            // how often it has been started, from 1
	Tags    map[string]string // the user's own; not to be changed by who reads it
	Version string            // of its daemon, "" when it tells none
	Since   time.Time         // when it came into this state, by this node's clock

	Sessions uint16 // the port of its sessions, 0 when it has none
	In       bool   // it is in the ring: it takes part in what the cluster decides
}

// watched is the member as the notifications know it.
func (m Member) watched() watch.Member {
	return watch.Member{ID: m.ID, Name: m.Name, State: m.State.String(), Boot: m.Boot}
}

// same tells whether two lines differ in nothing but Since.
func (m Member) same(o Member) bool {
	return m.ID == o.ID && m.Name == o.Name && m.Addr == o.Addr && m.State == o.State &&
		m.Boot == o.Boot && m.Version == o.Version && m.Sessions == o.Sessions && maps.Equal(m.Tags, o.Tags)
}

// view is the table at one moment. It never changes, so it can be read without
// a lock, in serf's delegates too.
type view struct {
	list   []Member // sorted by ID, then by name
	byName map[string]Member
}

// newView makes the view of a table of members as they are shown.
func newView(table map[string]Member) *view {
	return &view{
		byName: maps.Clone(table),
		list: slices.SortedFunc(maps.Values(table), func(a, b Member) int {
			return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Name, b.Name))
		}),
	}
}

// The tags by which nodes know each other. They are short: gossip carries 512
// bytes a node in all.
const (
	tagID       = "id" // the number
	tagBoot     = "b"  // the boot counter: it makes a quick restart visible
	tagProtocol = "v"  // oldest and newest version of the protocol, MIN-MAX
	tagCluster  = "c"  // hash of the cluster's name
	tagRelease  = "r"  // the daemon's version
	tagLeaving  = "l"  // set when the node is about to leave
	tagSessions = "p"  // the port of its sessions
	userPrefix  = "."  // before the names of the user's tags
)

// Versions of the protocol that this node speaks.
const (
	protocolMin = 1
	protocolMax = 1
)

// maxVersion is the longest text of a daemon's version that is carried.
const maxVersion = 32

// tagsOf gives the tags under which m is known to the others.
func tagsOf(m Member, clusterHash string) map[string]string {
	tags := map[string]string{
		tagID:       strconv.FormatUint(uint64(m.ID), 10),
		tagBoot:     strconv.FormatUint(m.Boot, 10),
		tagProtocol: fmt.Sprintf("%d-%d", protocolMin, protocolMax),
		tagCluster:  clusterHash,
	}
	if m.Version != "" {
		tags[tagRelease] = m.Version
	}
	if m.Sessions != 0 {
		tags[tagSessions] = strconv.FormatUint(uint64(m.Sessions), 10)
	}
	for k, v := range m.Tags {
		tags[userPrefix+k] = v
	}
	return tags
}

func hashCluster(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:4])
}

// memberOf reads a member from what serf tells about it, and says what is wrong
// with it: all of it was written by another node. User tags and a version that
// we would not have written are left out.
func memberOf(sm *serf.Member) (Member, error) {
	m := Member{Name: sm.Name, State: stateOf(sm.Status), Tags: map[string]string{}}
	if err := checkNodeName(sm.Name); err != nil {
		return Member{}, err
	}
	ip, ok := netip.AddrFromSlice(sm.Addr)
	m.Addr = netip.AddrPortFrom(ip.Unmap(), sm.Port)
	if !ok || !validAddr(m.Addr) {
		return Member{}, fmt.Errorf("member %s: address %s: %w", sm.Name, m.Addr, ErrInvalid)
	}
	id, err := strconv.ParseUint(sm.Tags[tagID], 10, 32)
	if err != nil || id == 0 {
		return Member{}, fmt.Errorf("member %s: number %q: %w", sm.Name, sm.Tags[tagID], ErrInvalid)
	}
	m.ID = uint32(id)
	if m.Boot, err = strconv.ParseUint(sm.Tags[tagBoot], 10, 64); err != nil || m.Boot == 0 {
		return Member{}, fmt.Errorf("member %s: boot %q: %w", sm.Name, sm.Tags[tagBoot], ErrInvalid)
	}
	if p, err := strconv.ParseUint(sm.Tags[tagSessions], 10, 16); err == nil {
		m.Sessions = uint16(p)
	}
	if v := sm.Tags[tagRelease]; len(v) <= maxVersion && validTagValue(v) {
		m.Version = v
	}
	for k, v := range sm.Tags {
		if key, user := strings.CutPrefix(k, userPrefix); user && checkTag(key, v) == nil {
			m.Tags[key] = v
		}
	}
	// A node that has said that it goes has not failed when it is silent.
	if sm.Tags[tagLeaving] != "" {
		switch m.State {
		case Alive:
			m.State = Leaving
		case Failed:
			m.State = Left
		}
	}
	return m, nil
}

func stateOf(s serf.MemberStatus) State {
	switch s {
	case serf.StatusLeaving:
		return Leaving
	case serf.StatusLeft:
		return Left
	case serf.StatusFailed:
		return Failed
	}
	return Alive
}
