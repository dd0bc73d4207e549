package security

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/test/daemon"
)

func TestForeignNetwork_SeesTheClusterAndReachesNothing(t *testing.T) {
	daemon.Need(t, "unshare")
	n := start(t)
	s := daemon.Serve(t)
	if r := n.Run(daemon.Root, "unshare", "-n", "sh", "-c", "cat cluster/name; ls dev/tcp; test -e "+s.Path+" && echo there"); r.Out != "convoke\nlocal\n"+n.Name+"\nthere\n" {
		t.Errorf("got %+v", r)
	}
	for _, path := range []string{s.Path, "dev/tcp/127.0.0.1/" + s.Path[len("dev/tcp/local/"):], "dev/udp/local/9", s.Path + ",now"} {
		n.WantErr(daemon.Root, "unshare -n sh -c ': <>"+path+"'", "ermission denied")
		n.WantErr(daemon.U1000, "unshare -rn sh -c ': <>"+path+"'", "ermission denied")
	}
	s.None()
	if log := n.Log(); !strings.Contains(log, "another network namespace") {
		t.Errorf("cluster/log does not tell the cause:\n%s", log)
	}
}

func TestForeignNetwork_AllowedByTheAdministrator(t *testing.T) {
	daemon.Need(t, "unshare")
	n := start(t, "--foreign-net", "allow")
	s := daemon.Serve(t)
	if r := n.Run(daemon.Root, "unshare", "-n", "sh", "-c", "exec 3<>"+s.Path+" && echo open"); r.Out != "open\n" {
		t.Errorf("got %+v", r)
	}
	s.Accept()
}

func TestPacketFilter_SeesTheOpenersUID(t *testing.T) {
	daemon.Need(t, "fuse", "netns", "nft", "setpriv")
	t.Parallel()
	h := daemon.NewNet(t, 1).Hosts[0]
	n := daemon.Start(t, daemon.Opts{Host: h})
	s := h.Serve()
	h.Run(`nft -f - <<'X'
table inet t {
	chain out {
		type filter hook output priority 0;
		meta skuid 1000 tcp dport ` + s.Path[strings.LastIndex(s.Path, "/")+1:] + ` reject with icmpx admin-prohibited
	}
}
X`)
	if r := n.ShAs(daemon.U1000, "exec 3<>"+s.Path); r.Code == 0 {
		t.Error("uid 1000 got through a rule for his uid")
	}
	s.None()
	for _, u := range []daemon.User{daemon.Root, daemon.U1001} {
		if r := n.ShAs(u, "exec 3<>"+s.Path); r.Code != 0 {
			t.Errorf("uid %d: %+v", u.UID, r)
		}
		s.Accept()
	}
	if _, err := n.Open("dev/tcp/local/1", unix.O_RDWR); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("got %v, want ECONNREFUSED", err)
	}
}
