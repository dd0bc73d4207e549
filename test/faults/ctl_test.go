package faults

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestCtl_RubbishChangesNothing(t *testing.T) {
	n := start(t)
	s := n.Read("cluster/status")
	for _, tc := range []struct {
		name, text string
		want       error
	}{
		{"unknown verb", "explode\n", unix.EINVAL},
		{"nothing", "\n", unix.EINVAL},
		{"blanks", "   \t \n\n", unix.EINVAL},
		{"verb in capitals", "LEAVE\n", unix.EINVAL},
		{"too many arguments", "leave now\n", unix.EINVAL},
		{"no argument", "join\n", unix.EINVAL},
		{"bad argument", "join [::1\n", unix.EINVAL},
		{"bad port", "join 127.0.0.1:0\n", unix.EINVAL},
		{"no pair", "tag colour\n", unix.EINVAL},
		{"bad key", "tag ../x=1\n", unix.EINVAL},
		{"NUL", "tag a=1\x00\n", unix.EINVAL},
		{"a good line before a bad one", "tag good=1\nexplode\n", unix.EINVAL},
		{"a bad line before a good one", "explode\ntag good=1\n", unix.EINVAL},
		{"a bad one among a thousand", strings.Repeat("tag good=1\n", 1000) + "tag bad\n", unix.EINVAL},
		{"terminal codes", "\x1b]0;title\x07\n", unix.EINVAL},
		{"no member", "remove nobody\n", unix.ENOENT},
		{"itself", "remove " + n.Name + "\n", unix.EINVAL},
		{"join without a key", "join 127.0.0.1\n", unix.ENOKEY},
		{"200 KB", strings.Repeat("tag good=1\n", 200<<10/11), unix.EMSGSIZE},
		{"one long line", "tag good=" + strings.Repeat("x", 200<<10), unix.EMSGSIZE},
		{"a large tag", "tag good=" + strings.Repeat("x", 4000) + "\n", unix.EMSGSIZE},
	} {
		fd, err := n.Open("cluster/ctl", unix.O_WRONLY|unix.O_TRUNC|unix.O_CREAT)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := unix.Write(fd, []byte(tc.text)); !errors.Is(err, tc.want) {
			t.Errorf("%s: wrote %d, %v, want %v", tc.name, got, err, tc.want)
		}
		unix.Close(fd)
		if got := n.Read("cluster/status"); got != s {
			t.Fatalf("%s: the status has changed to\n%s\nfrom\n%s", tc.name, got, s)
		}
	}
	if log := n.Log(); strings.ContainsAny(log, "\x1b\x00\x07") {
		t.Errorf("control bytes are in the log: %q", log)
	}
	n.Want(`echo 'tag good=1' >cluster/ctl; cat cluster/self/tags; echo tag good= >>cluster/ctl; cat cluster/self/tags`, "good=1\n")
}

func TestCtl_CannotBeReadAndStateFilesCannotBeWritten(t *testing.T) {
	n := start(t)
	for _, tc := range []struct {
		name  string
		flags int
	}{
		{"cluster/ctl", unix.O_RDONLY},
		{"cluster/name", unix.O_WRONLY},
		{"cluster/status", unix.O_RDWR},
		{"cluster/events", unix.O_RDWR},
		{"cluster/log", unix.O_WRONLY},
		{"cluster/metrics", unix.O_WRONLY | unix.O_TRUNC},
	} {
		if fd, err := n.Open(tc.name, tc.flags); !errors.Is(err, unix.EACCES) {
			t.Errorf("%s: got %d, %v, want EACCES", tc.name, fd, err)
		}
	}
	f := n.MustOpen("cluster/ctl", unix.O_RDWR)
	if r := <-f.Read(10); r.Err == nil {
		t.Errorf("read of ctl: got %q", r.Data)
	}
	if _, err := unix.Seek(f.FD, 0, 0); !errors.Is(err, unix.ESPIPE) {
		t.Errorf("seek: got %v, want ESPIPE", err)
	}
}
