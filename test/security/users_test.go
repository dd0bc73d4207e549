package security

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/test/daemon"
)

func TestConnections_AreTheirOwnersAfterRootHasLooked(t *testing.T) {
	n := start(t)
	s := daemon.Serve(t)
	f := n.MustOpen(s.Path, unix.O_RDWR)
	dir := "conn/" + id(t, f)
	n.Want("ls "+dir+"; stat "+dir+"/* >/dev/null; cut -d' ' -f2 "+dir+"/status", "ctl\ndata\nlocal\npeer\nremote\nstatus\nopen\n")
	for _, script := range []string{
		"cat " + dir + "/status", "cat " + dir + "/data", "ls " + dir, ": <>" + dir + "/data", "echo hangup >" + dir + "/ctl", "cat " + dir + "/peer",
	} {
		n.WantErr(daemon.U1000, script, "ermission denied")
	}
	if r := n.ShAs(daemon.U1000, "ls conn"); r.Out != "" || r.Code != 0 {
		t.Errorf("uid 1000 sees %q in conn", r.Out)
	}
	// The other way round: root sees all, another user nothing.
	own := n.ShAs(daemon.U1000, `exec 3<>`+s.Path+`; ls conn; cat conn/*/status; cat /dev/fd/3 <&- & kill $!`)
	if !strings.Contains(own.Out, " uid=1000 ") || own.Code != 0 {
		t.Errorf("uid 1000 does not see his own: %+v", own)
	}
	f.Echo(acceptAll(s, 1), "still here")
}

func acceptAll(s *daemon.Server, count int) (c interface {
	Read([]byte) (int, error)
	Write([]byte) (int, error)
}) {
	for range count {
		c = s.Accept()
	}
	return c
}

func TestHandles_KeepTheirOpenersIdentity(t *testing.T) {
	n := start(t)
	s := daemon.Serve(t)
	// The user opens, and root writes through the descriptor that he was handed.
	c := n.Spawn(daemon.U1000, "sh", "-c", `exec 3<>"$1"; exec 4>conn/$(ls conn)/ctl; echo $$; read -r go`, "sh", s.Path)
	pid := c.Line()
	s.Accept()
	r := n.Run(daemon.Root, "/usr/bin/python3", "-c", `
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
p = os.pidfd_open(int(sys.argv[1]))
fd = libc.syscall(438, p, 4, 0)  # pidfd_getfd(2)
assert fd >= 0, ctypes.get_errno()
try: os.write(fd, b"rubbish\n")
except OSError as e: print(e.errno)`, pid)
	if r.Out != "22\n" {
		t.Fatalf("got %+v, want EINVAL", r)
	}
	for line := range strings.Lines(n.Log()) {
		if strings.Contains(line, "rubbish") && field(line, "uid") != "1000" {
			t.Errorf("the log blames the writer: %s", line)
		}
	}
	if !strings.Contains(n.Log(), "rubbish") {
		t.Errorf("the log says nothing of it:\n%s", n.Log())
	}
}

func TestIdentity_IsTheProcessOfTheThread(t *testing.T) {
	n := start(t)
	s := daemon.Serve(t)
	r := n.Run(daemon.U1000, "/usr/bin/python3", "-c", `
import os, sys, threading
fd = []
t = threading.Thread(target=lambda: fd.append(os.open(sys.argv[1], os.O_RDWR))); t.start(); t.join()
print(os.getpid()); print(open("conn/%d/status" % os.fstat(fd[0]).st_ino).read())`, s.Path)
	pid, status, _ := strings.Cut(r.Out, "\n")
	if field(status, "pid") != pid || field(status, "uid") != "1000" {
		t.Errorf("process %s: got %+v", pid, r)
	}
	// From a pid namespace below the daemon's it is the number that the daemon sees.
	daemon.Need(t, "unshare")
	r = n.Sh(`unshare --pid --fork sh -c 'echo $$; exec 3<>` + s.Path + `; cat conn/*/status; cat /proc/$(sed -n "s/.* pid=\([0-9]*\).*/\1/p" conn/*/status)/comm'`)
	f := strings.Split(r.Out, "\n")
	if len(f) < 3 || f[0] != "1" || field(f[1], "pid") == "1" || f[2] != "sh" {
		t.Errorf("child namespace: got %+v", r)
	}
}

func TestInstances_OfOthersAreRefused(t *testing.T) {
	n := start(t)
	daemon.Serve(t)
	for _, option := range []string{"user=0", "user=1001", "group=0", "group=1001", "user=0,qualifier", "user=1000,group=4"} {
		n.WantErr(daemon.U1000, ": <>dev/tcp/local/http,"+option, "ermission denied")
	}
	for _, option := range []string{"user", "user=1000", "group=1000", "group=8"} {
		n.WantErr(daemon.User{UID: 1000, GID: 1000, Groups: []uint32{8}}, ": <>dev/tcp/local/http,"+option, "nonexistent") // dash for ENOENT
	}
}

func TestCtl_IsRootsOnly(t *testing.T) {
	daemon.Need(t, "fuse", "root")
	t.Parallel()
	n := daemon.Start(t, daemon.Opts{KeyFile: daemon.NewKey(t)})
	before := n.Read("cluster/status")
	for _, verb := range []string{"join 127.0.0.1:9", "leave", "remove x", "tag a=b", "nonsense"} {
		n.WantErr(daemon.U1000, "echo "+verb+" >cluster/ctl", "ermission denied")
		n.WantErr(daemon.User{UID: 1000, GID: 0}, "echo "+verb+" >cluster/ctl", "ermission denied")
	}
	n.WantErr(daemon.U1000, "cat cluster/log", "ermission denied")
	n.WantErr(daemon.U1000, "chmod 666 cluster/ctl", "not permitted")
	if after := n.Read("cluster/status"); after != before {
		t.Errorf("the status has changed to %s", after)
	}
}
