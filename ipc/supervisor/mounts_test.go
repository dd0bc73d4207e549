package supervisor

import (
	"maps"
	"slices"
	"testing"
)

const table = `25 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
26 25 0:5 / /dev rw,nosuid shared:2 - devtmpfs udev rw
90 25 0:55 / /n rw shared:40 - fuse.convoke convoke rw
91 25 0:56 / /n rw shared:41 master:3 - fuse.convoke convoke rw
92 25 0:56 /dev /mnt/with\040blank rw,nosuid - fuse.convoke convoke rw
93 25 0:56 / /mnt/ro ro,nosuid - fuse.convoke convoke rw
94 25 0:57 / /other rw - fuse.convoke convoke rw
95 25 0:58 / /sshfs rw - fuse.sshfs x rw
96 25 0:59 / /tmp rw - tmpfs x rw
short line
x 25 0:59 / /tmp rw - tmpfs x rw
97 25 0:x / /tmp rw - tmpfs x rw
`

func TestParseMounts_FindsTheTreeAndWhereItIsBound(t *testing.T) {
	for _, tc := range []struct {
		dir  string
		tree device
		ids  []uint64
	}{
		{"/n", device{0, 56}, []uint64{91, 92}}, // the later one is on top; the read-only one is left to the kernel
		{"/other", device{0, 57}, []uint64{94}},
		{"/mnt/with blank", device{0, 56}, []uint64{91, 92}},
		{"/tmp", device{}, nil},
		{"/nowhere", device{}, nil},
	} {
		tree, byID := parseMounts([]byte(table), tc.dir)
		if ids := slices.Sorted(maps.Keys(byID)); tree != tc.tree || !slices.Equal(ids, tc.ids) {
			t.Errorf("%s: got %v %v, want %v %v", tc.dir, tree, ids, tc.tree, tc.ids)
		}
	}
}

func TestMount_PathInTheTree(t *testing.T) {
	for _, tc := range []struct {
		root, point, path string
		want              string
		ok                bool
	}{
		{"/", "/n", "/n/dev/tcp/web/80", "dev/tcp/web/80", true},
		{"/", "/n", "/n", "", true},
		{"/", "/n", "/n/dev/tcp/web/80 (deleted)", "dev/tcp/web/80", true},
		{"/dev", "/dev", "/dev/tcp/web/80", "dev/tcp/web/80", true},
		{"/dev/tcp", "/mnt/with blank", "/mnt/with blank/web/80", "dev/tcp/web/80", true},
		{"/dev/tcp/web/80", "/srv/web", "/srv/web", "dev/tcp/web/80", true},
		{"/", "/", "/dev/tcp/web/80", "dev/tcp/web/80", true},
		{"/", "/n", "/nn/dev/tcp/web/80", "", false},
		{"/", "/n", "(unreachable)/dev/tcp/web/80", "", false},
	} {
		got, ok := mount{root: tc.root, point: tc.point}.inTree(tc.path)
		if got != tc.want || ok != tc.ok {
			t.Errorf("%+v: got %q, %v", tc, got, ok)
		}
	}
}

func FuzzParseMounts(f *testing.F) {
	f.Add([]byte(table), "/n")
	f.Add([]byte(`1 1 0:1 \0 \777 rw - fuse x`), "/")
	f.Fuzz(func(t *testing.T, text []byte, dir string) {
		tree, byID := parseMounts(text, dir)
		for id, m := range byID {
			if m.dev != tree || tree == (device{}) {
				t.Errorf("mount %d: %+v is not of %v", id, m, tree)
			}
		}
	})
}
