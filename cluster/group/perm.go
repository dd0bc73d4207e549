package group

import "encoding/binary"

// What a mode may allow.
const (
	mayRead  = 4
	mayWrite = 2
	maySeek  = 1 // of a folder: walk through it
)

// modeMask is what a mode may hold: a group's files know no set-id bits.
const modeMask = 0o777

var (
	closedModes = [files]uint32{Feed: 0o600, Send: 0o200, Members: 0o400, Ctl: 0o200, Folder: 0o755}
	openModes   = [files]uint32{Feed: 0o666, Send: 0o222, Members: 0o444, Ctl: 0o200, Folder: 0o755}
)

// cred is who acts. Groups stay as the entry has them: most are never looked
// at.
type cred struct {
	uid, gid uint32
	groups   []byte // u32s, little-endian
}

func (c cred) in(gid uint32) bool {
	if c.gid == gid {
		return true
	}
	for b := c.groups; len(b) >= 4; b = b[4:] {
		if binary.LittleEndian.Uint32(b) == gid {
			return true
		}
	}
	return false
}

// attrs are what a group is apart from its members. It is comparable.
type attrs struct {
	kept     bool
	need     bool // a quorum, to join and to send
	uid, gid uint32
	modes    [files]uint32
	created  int64  // milliseconds since 1970, by the clock of maker
	maker    uint32 // node that made it
	changed  int64  // the same of the last change of owner or modes; 0: none
	changer  uint32
}

// allows tells whether c may do want to the file f, the folder's x included.
func (a *attrs) allows(c cred, f File, want uint32) bool {
	return a.check(c, Folder, maySeek) && a.check(c, f, want)
}

// check is the kernel's rule: the first class that fits decides alone.
func (a *attrs) check(c cred, f File, want uint32) bool {
	mode := a.modes[f]
	switch {
	case c.uid == 0:
		return true
	case c.uid == a.uid:
		mode >>= 6
	case c.in(a.gid):
		mode >>= 3
	}
	return mode&want == want
}

// owns tells whether c may do what is the owner's.
func (a *attrs) owns(c cred) bool { return c.uid == 0 || c.uid == a.uid }

// sameRights tells whether a and b let the same callers do the same.
func (a *attrs) sameRights(b *attrs) bool {
	return a.uid == b.uid && a.gid == b.gid && a.modes == b.modes
}
