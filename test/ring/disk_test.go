package ring

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/ipc"
	"github.com/convoke-fs/convoke/test/daemon"
)

// smallDisk makes the state folder of a node that has not been started a file system of its own.
func (c *cluster) smallDisk(i int) {
	c.t.Helper()
	dir := c.nodes[i].State
	if err := os.Mkdir(dir, 0o700); err != nil {
		c.t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k,mode=0700"); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			c.t.Error(err)
		}
	})
}

// fillDisk leaves no room in a node's state folder, and returns what gives it back.
func (c *cluster) fillDisk(i int) (free func()) {
	c.t.Helper()
	name := filepath.Join(c.nodes[i].State, "filler")
	f, err := os.Create(name)
	if err != nil {
		c.t.Fatal(err)
	}
	defer f.Close()
	for page := make([]byte, 4096); err == nil; {
		_, err = f.Write(page)
	}
	if !errors.Is(err, unix.ENOSPC) {
		c.t.Fatal(err)
	}
	return func() {
		if err := os.Remove(name); err != nil {
			c.t.Fatal(err)
		}
	}
}

// readOnly makes a node's state folder read-only, and returns what makes it writable again. The file system itself stays as
// it is: that cannot become read-only while the daemon has a file open there.
func (c *cluster) readOnly(i int) (undo func()) {
	c.t.Helper()
	dir := c.nodes[i].State
	must := func(err error) {
		c.t.Helper()
		if err != nil {
			c.t.Fatal(err)
		}
	}
	must(unix.Mount(dir, dir, "", unix.MS_BIND, ""))
	must(unix.Mount("", dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	return sync.OnceFunc(func() { must(unix.Unmount(dir, unix.MNT_DETACH)) })
}

// says has a node send to the group g, and each of the members read it.
func (c *cluster) says(i int, text string, to ...*ipc.Group) {
	c.t.Helper()
	c.nodes[i].Want("echo "+text+" >cluster/groups/g/send", "")
	for _, g := range to {
		if r := receive(c.t, g); string(r.Data) != text {
			c.t.Errorf("got %q, want %q", r.Data, text)
		}
	}
}

// The ring changes and groups go on while the disk of a member is full or read-only, since it has reserved some numbers.
func TestDisk_FullWhileTheRingGoesOn(t *testing.T) {
	t.Parallel()
	c := prepare(t, 3, clusterOpts{})
	c.smallDisk(1)
	for i := range c.nodes {
		c.startNode(i)
	}
	c.together(0, 1, 2)
	c.mkdir(0, "g")
	a, b := c.client(0, "g"), c.client(1, "g")
	for name, spoil := range map[string]func() func(){
		"full":     func() func() { return c.fillDisk(1) },
		"readonly": func() func() { return c.readOnly(1) },
	} {
		mend := spoil()
		c.nodes[2].Kill()
		c.together(0, 1)
		c.says(1, name, a, b)
		mend()
		c.startNode(2)
		c.together(0, 1, 2)
		c.says(2, "all", a, b)
	}
}

// A node whose disk takes nothing does not start, since nobody could tell this life of it from the one before, and says why.
func TestDisk_FullAtTheStart(t *testing.T) {
	t.Parallel()
	c := prepare(t, 2, clusterOpts{})
	c.smallDisk(1)
	c.startNode(0)
	c.startNode(1)
	c.together(0, 1)
	c.nodes[1].Stop()
	c.together(0)
	for name, spoil := range map[string]func() func(){
		"no space":  func() func() { return c.fillDisk(1) },
		"read-only": func() func() { return c.readOnly(1) },
	} {
		mend := spoil()
		before := len(c.nodes[1].Stderr())
		c.nodes[1].Exec()
		if status := c.nodes[1].Wait(); status == 0 {
			t.Errorf("%s: the daemon ended with success", name)
		}
		if text := strings.ToLower(c.nodes[1].Stderr()[before:]); !strings.Contains(strings.ReplaceAll(text, " ", "-"), strings.ReplaceAll(name, " ", "-")) {
			t.Errorf("%s: it says %q", name, text)
		}
		mend()
	}
	c.startNode(1)
	c.together(0, 1)
}

// A ring with a number that a member cannot make safe has to do without it; what it has goes on, and it comes when it can.
func TestDisk_ReadOnlyForANumberFarAbove(t *testing.T) {
	t.Parallel()
	c := prepare(t, 2, clusterOpts{})
	c.smallDisk(0)
	c.startNode(0)
	c.startNode(1)
	c.together(0, 1)
	c.mkdir(0, "g")
	a := c.client(0, "g")
	c.nodes[1].Stop()
	c.together(0)
	// Its next ring has a number that the other one has not reserved.
	now, err := parseRing(c.quorum(0, "ring"))
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("convoke ring 1\nceiling %d\nend\n", now.Seq+1_000_000)
	if err := os.WriteFile(filepath.Join(c.nodes[1].State, "ring"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	undo := c.readOnly(0)
	alone := c.quorum(0, "ring")
	c.startNode(1)
	daemon.Eventually(t, longTime, "the first node says that it cannot", func() bool {
		return strings.Contains(c.nodes[0].Log(), "state folder cannot be written")
	})
	c.says(0, "alone", a)
	if now := c.quorum(0, "ring"); now != alone && c.quorum(0, "votes") != "1" {
		t.Errorf("the first node is in ring %s with %s votes", now, c.quorum(0, "votes"))
	}
	undo()
	c.together(0, 1)
	c.says(1, "together", a)
}
