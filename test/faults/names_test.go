package faults

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestNames_ThatCannotBeAreNotThere(t *testing.T) {
	n := start(t)
	long := strings.Repeat
	before, listed := n.Metric("convoke_connections_total"), n.Sh("ls -Ra dev cluster conn").Out
	for _, tc := range []struct {
		name string
		want error
	}{
		{"dev/tcp/local/" + long("a", 127), nil},
		{"dev/tcp/local/" + long("a", 128), unix.ENOENT},
		{"dev/tcp/local/" + long("a", 255), unix.ENOENT},
		{"dev/tcp/local/" + long("a", 256), unix.ENAMETOOLONG},
		{"dev/tcp/local/" + long("a", 300), unix.ENAMETOOLONG},
		{"dev/tcp/local/a," + long("b", 126) + "," + long("c", 126), nil},
		{"dev/tcp/" + long("a.", 127), unix.ENOENT},
		{"dev/tcp/" + long("a", 300), unix.ENAMETOOLONG},
		{"dev/tcp/local/...", unix.ENOENT},
		{"dev/tcp/local/.hidden", unix.ENOENT},
		{"dev/tcp/local/-n", unix.ENOENT},
		{"dev/tcp/local/a b", unix.ENOENT},
		{"dev/tcp/local/a\nb", unix.ENOENT},
		{"dev/tcp/local/a\x1b[2J", unix.ENOENT},
		{"dev/tcp/local/\x7f", unix.ENOENT},
		{"dev/tcp/local/größe", unix.ENOENT},
		{"dev/tcp/local/\xff\xfe", unix.ENOENT},
		{"dev/tcp/local/a,", unix.ENOENT},
		{"dev/tcp/local/a,,b", unix.ENOENT},
		{"dev/tcp/local/,now", unix.ENOENT},
		{"dev/tcp/local/,", unix.ENOENT},
		{"dev/tcp/local/a,user=", unix.ENOENT},
		{"dev/tcp/local/a,now,now", unix.ENOENT},
		{"dev/tcp/local/65536", unix.ENOENT},
		{"dev/tcp/local/080", unix.ENOENT},
		{"dev/tcp/local/80/now", unix.ENOTDIR},
		{"dev/tcp/ho st/80", unix.ENOENT},
		{"dev/tcp/größe/80", unix.ENOENT},
		{"dev/tcp/[::1]/80", unix.ENOENT},
		{"dev/tcp/::1/80", nil},
		{"dev/sctp/local/80", unix.ENOENT},
		{"dev/fdp/web1/x", unix.ENOENT},
		{"dev/fdp/local/x", unix.ENOENT},
		{"dev/fdp/local/x,stream", unix.ENOENT},
		{"conn/1", unix.ENOENT},
		{"conn/00", unix.ENOENT},
		{"conn/-1", unix.ENOENT},
		{"conn/18446744073709551616", unix.ENOENT},
		{"cluster/members/\x1b]0;", unix.ENOENT},
		{"cluster/events,", unix.ENOENT},
		{"cluster/events,SNAP,SNAP,NONSENSE", unix.ENOENT},
		{"cluster/events,snap", unix.ENOENT},
	} {
		var st unix.Stat_t
		if err := unix.Lstat(n.Path(tc.name), &st); !errors.Is(err, tc.want) {
			t.Errorf("%q: got %v, want %v", tc.name, err, tc.want)
		}
		if tc.want != unix.ENOENT {
			continue
		}
		if fd, err := n.Open(tc.name, unix.O_RDWR|unix.O_CREAT); !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.ENOENT) {
			t.Errorf("create %q: got descriptor %d, %v, want EPERM", tc.name, fd, err)
		}
	}
	// "..", as the kernel has it, does not lead out of the tree's folders.
	n.Want(`cd dev/tcp/local/.. && test . -ef "$OLDPWD/dev/tcp" && cat ../../dev/tcp/../../cluster/name`, "convoke\n")
	if after := n.Sh("ls -Ra dev cluster conn").Out; after != listed {
		t.Errorf("the tree has changed: got\n%s\nwant\n%s", after, listed)
	}
	if after := n.Metric("convoke_connections_total"); after != before {
		t.Errorf("%d connections were made", after-before)
	}
}
