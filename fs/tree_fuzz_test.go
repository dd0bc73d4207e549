package fs

import (
	"strings"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/cluster/group"
)

// FuzzLookup walks the tree along any names. What is found has a true mode and a number, and once the kernel has
// forgotten all of it the table is as empty as before.
func FuzzLookup(f *testing.F) {
	for _, s := range []string{"dev/tcp/local/80", "dev/tcp/::1/http,user=5,nightly", "dev/udp/a.b-c_d/9,now", "dev/fdp/local/x,stream",
		"cluster/events,STAT,LOST", "cluster/members/web1/addr", "cluster/self", "conn/17/data",
		"dev/tcp/local/echo,create", "dev/udp/web1/0,create,user=1,night", "dev/fdp/local/svc,create", "dev/fdp/local/svc,user,sock", "dev/fdp/local/convoke", "dev/fdp/local/,sock", "dev/tcp/web1/echo,group=a@b", "dev/../dev", "cluster/groups/chat/feed", "cluster/groups/a%20b/packets", "cluster/groups/%/ctl", "cluster/groups/a%2", "cluster/quorum", "a\x00b", "dev/tcp/%2f/\xff"} {
		f.Add(s)
	}
	tr, _ := bareTree(f)
	_, groups := newGroups()
	tr.opts.Groups, tr.opts.Quorum = groups, func() string { return "quorate=yes" }
	for _, name := range []string{"chat", "a b", ""} {
		if _, err := groups.Join(f.Context(), name, group.Caller{}, group.JoinOpts{Create: true}); err != nil {
			f.Fatal(err)
		}
	}
	// Sockets as the daemon and as a server make them.
	for _, name := range []string{"svc,sock", "svc,user=5,night,sock", "convoke"} {
		s, err := tr.sockets.newSocket(caller{pid: uint32(unix.Gettid())}, name, 0755)
		if err == nil {
			err = tr.sockets.bind(s, caller{})
		}
		if err != nil {
			f.Fatal(err)
		}
	}
	f.Fuzz(func(t *testing.T, path string) {
		told := map[uint64]uint64{}
		at := uint64(rootIno)
		for name := range strings.SplitSeq(path, "/") {
			var out fuse.EntryOut
			h := fuse.InHeader{NodeId: at}
			if st := tr.Lookup(nil, &h, name, &out); st != fuse.OK {
				break
			}
			if out.NodeId == 0 || out.Mode&0170000 == 0 || out.Ino != out.NodeId {
				t.Errorf("%q: node %d, ino %d, mode %o", path, out.NodeId, out.Ino, out.Mode)
			}
			var a fuse.AttrOut
			if st := tr.GetAttr(nil, &fuse.GetAttrIn{InHeader: fuse.InHeader{NodeId: out.NodeId}}, &a); st != fuse.OK || a.Mode != out.Mode {
				t.Errorf("%q: attributes %v, mode %o, want %o", path, st, a.Mode, out.Mode)
			}
			at = out.NodeId
			told[at]++
		}
		for id, n := range told {
			tr.Forget(id, n)
		}
		if n := tr.inodes.count(); n != 1 || len(tr.inodes.idle) != 0 {
			t.Errorf("%q: %d numbers and idle names of %d users are left", path, n, len(tr.inodes.idle))
		}
	})
}
