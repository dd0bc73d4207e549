package ipc

import (
	"encoding/json"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// layGroup makes the files of a group.
func layGroup(t *testing.T, tree *Tree, name, members string) {
	t.Helper()
	dir := tree.path("cluster/groups/" + name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for file, f := range map[string]struct {
		text string
		mode os.FileMode
	}{"feed": {"", 0o600}, "send": {"", 0o222}, "members": {members, 0o400}} {
		path := filepath.Join(dir, file)
		if err := os.WriteFile(path, []byte(f.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, f.mode); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTree_Groups(t *testing.T) {
	tree := newTree(t)
	if _, err := tree.Groups(); err == nil {
		t.Error("groups of no tree")
	}
	layGroup(t, tree, "chat", "1 4242 web1 2026-01-31T10:00:00.123Z\n2 77.2 - 2026-01-31T10:00:01.000Z more\n")
	layGroup(t, tree, "a%20b", "")
	groups, err := tree.Groups()
	if err != nil || len(groups) != 2 {
		t.Fatalf("got %+v, %v", groups, err)
	}
	groups[1].UID, groups[1].GID = 0, 0 // whoever runs the test
	got, err := json.Marshal(groups[1])
	const want = `{"name":"chat","uid":0,"gid":0,"feed":"0600","send":"0222","members":[` +
		`{"node":1,"pid":4242,"n":1,"name":"web1","joined":"2026-01-31T10:00:00.123Z"},{"node":2,"pid":77,"n":2,"joined":"2026-01-31T10:00:01.000Z"}]}`
	if err != nil || string(got) != want {
		t.Errorf("got  %s, %v\nwant %s", got, err, want)
	}
	if groups[0].Name != "a%20b" || groups[0].Members == nil || len(groups[0].Members) != 0 {
		t.Errorf("got %+v", groups[0])
	}
	if g, err := tree.Group("chat"); err != nil || len(g.Members) != 2 {
		t.Errorf("got %+v, %v", g, err)
	}
	_, err = tree.Group("none")
	wantErrno(t, err, unix.ENOENT)
}

func TestTree_MalformedMembersAreAnError(t *testing.T) {
	for _, line := range []string{"", "1 2 web1", "x 2 web1 now", "1 2. web1 now", "1 .2 web1 now", "1 -2 web1 now"} {
		if m, err := parseGroupMember(line); err == nil {
			t.Errorf("%q: got %+v", line, m)
		}
	}
}

// Members are kept from others than the owner, and the group is listed all the same.
func TestTree_MembersThatOneMayNotSee(t *testing.T) {
	if inChild(t) {
		tree := &Tree{Dir: os.Getenv("IPC_TEST_TREE")}
		groups, err := tree.Groups()
		if err != nil || len(groups) != 1 || groups[0].Members != nil {
			t.Errorf("got %+v, %v", groups, err)
		}
		_, err = tree.Group("chat")
		wantErrno(t, err, unix.EACCES)
		return
	}
	needRoot(t)
	tree := newTree(t)
	layGroup(t, tree, "chat", "1 4242 web1 2026-01-31T10:00:00.123Z\n")
	cmd := child(t, tree, &syscall.Credential{Uid: 1000, Gid: 1000})
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
