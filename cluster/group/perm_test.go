package group

import (
	"slices"
	"testing"
)

func TestAttrs_AllowAsTheKernelDoes(t *testing.T) {
	const owner, group = 1000, 100
	tests := []struct {
		name  string
		c     cred
		mode  uint32
		want  uint32
		allow bool
	}{
		{"root", credFor(0), 0, mayRead | mayWrite, true},
		{"owner", credFor(owner), 0o600, mayRead | mayWrite, true},
		{"owner, half of it", credFor(owner), 0o400, mayRead | mayWrite, false},
		{"owner, who is in the group, is judged as owner", credFor(owner, group), 0o060, mayRead, false},
		{"owner is not one of the others", credFor(owner), 0o006, mayRead, false},
		{"gid", credFor(group), 0o060, mayRead | mayWrite, true},
		{"supplementary group", credFor(7, 5, group), 0o060, mayRead | mayWrite, true},
		{"group is not one of the others", credFor(7, group), 0o006, mayRead, false},
		{"others", credFor(7, 5), 0o006, mayRead | mayWrite, true},
		{"others, half of it", credFor(7), 0o004, mayRead | mayWrite, false},
		{"others against owner's and group's bits", credFor(7), 0o660, mayRead, false},
	}
	for _, tt := range tests {
		a := attrs{uid: owner, gid: group}
		a.modes[Folder], a.modes[Feed] = 0o755, tt.mode
		if got := a.allows(tt.c, Feed, tt.want); got != tt.allow {
			t.Errorf("%s: mode %03o, want %d: allowed is %v, want %v", tt.name, tt.mode, tt.want, got, tt.allow)
		}
	}
}

func TestAttrs_FolderMustLetThrough(t *testing.T) {
	a := attrs{uid: 1000, modes: openModes}
	a.modes[Folder] = 0o700
	if a.allows(credFor(7), Feed, mayRead) {
		t.Error("a folder of mode 0700 lets others through")
	}
	if !a.allows(credFor(1000), Feed, mayRead) || !a.allows(credFor(0), Feed, mayRead) {
		t.Error("a folder of mode 0700 does not let its owner and root through")
	}
}

// What the table of modes in the manual says.
func TestModes_AreTheDocumentedOnes(t *testing.T) {
	if want := [5]uint32{0o600, 0o200, 0o400, 0o200, 0o755}; closedModes != want {
		t.Errorf("closed: got %o, want %o", closedModes, want)
	}
	if want := [5]uint32{0o666, 0o222, 0o444, 0o200, 0o755}; openModes != want {
		t.Errorf("open: got %o, want %o", openModes, want)
	}
}

func TestCred_KeepsTheGroupThatMatters(t *testing.T) {
	many := make([]uint32, 100)
	for i := range many {
		many[i] = uint32(1000 + i)
	}
	tests := []struct {
		matters uint32
		in      bool
	}{{1000, true}, {1009, true}, {1010, true}, {1099, true}, {1100, false}}
	for _, tt := range tests {
		c := credOf(user(1, 7, many...), 10, tt.matters)
		if len(c.groups) != 40 {
			t.Errorf("got %d bytes of groups, want 40", len(c.groups))
		}
		if c.in(tt.matters) != tt.in {
			t.Errorf("in(%d) is %v, want %v", tt.matters, !tt.in, tt.in)
		}
	}
	if c := credOf(user(1, 7, 5, 6), 10, 5); !slices.Equal(c.groups, []byte{5, 0, 0, 0, 6, 0, 0, 0}) {
		t.Errorf("few groups: got % x", c.groups)
	}
}
