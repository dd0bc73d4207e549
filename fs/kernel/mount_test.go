package kernel

import "testing"

func TestMountInfo_TopmostMountOfJustThatFolder(t *testing.T) {
	const text = `22 28 0:21 / /proc rw,nosuid shared:12 - proc proc rw
90 28 0:55 / /n rw shared:40 - fuse.convoke convoke rw
91 28 0:56 / /n rw shared:41 - ext4 /dev/vdb rw
92 28 0:57 / /mnt/with\040blank rw - fuse.convoke convoke rw
93 28 0:58 / /broken
`
	for _, c := range []struct {
		dir    string
		fstype string
		minor  uint64
		ok     bool
	}{{"/n", "ext4", 56, true}, {"/mnt/with blank", "fuse.convoke", 57, true}, {"/mnt", "", 0, false}, {"/broken", "", 0, false}} {
		m, ok := parseMountInfo(text, c.dir)
		if ok != c.ok || m.fstype != c.fstype || m.minor != c.minor {
			t.Errorf("%s: got %+v %v, want %+v", c.dir, m, ok, c)
		}
	}
}
