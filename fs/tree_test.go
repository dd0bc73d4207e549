package fs

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"testing"
)

func TestTree_ShowsTheCluster(t *testing.T) {
	m := mountTree(t)
	m.want("ls", "cluster\nconn\ndev\n")
	m.want("ls dev dev/tcp dev/udp dev/fdp", "dev:\nfdp\ntcp\nudp\n\ndev/fdp:\nlocal\n\ndev/tcp:\nlocal\nweb1\nweb2\n\ndev/udp:\nlocal\nweb1\nweb2\n")
	m.want("ls cluster", "ctl\nevents\nlog\nmembers\nmetrics\nname\nself\nstatus\nversion\n")
	m.want("cat cluster/name cluster/version; readlink cluster/self; cat cluster/self/addr", "test\ndevel\nmembers/web1\n127.0.0.1:7946\n")
	m.want("cd cluster/members/web2; for f in *; do echo $f: $(cat $f); done",
		"addr: 127.0.0.2:7946\nboot: 1\nid: 2\nrole: out\nstate: failed\ntags: os=linux rack=b\nversion: -\n")
	m.want("cat cluster/status", "ID NAME ADDR           STATE  ROLE BOOT TAGS\n1  web1 127.0.0.1:7946 alive  in   3    -\n2  web2 127.0.0.2:7946 failed out  1    os=linux,rack=b\n")
	m.want("grep -c '^# TYPE' cluster/metrics", "19\n")
}

func TestStream_RequestAndAnswer(t *testing.T) {
	m := mountTree(t)
	port := listen(t, func(c *net.TCPConn) {
		for s := bufio.NewScanner(c); s.Scan(); {
			fmt.Fprintf(c, "you said %s\n", s.Text())
		}
	})
	m.want(fmt.Sprintf("exec 3<>dev/tcp/127.0.0.1/%d; echo hello >&3; head -n1 <&3; echo again >&3; read -r l <&3; echo $l", port), "you said hello\nyou said again\n")
	m.want(fmt.Sprintf(`exec 3<>dev/tcp/local/%d; id=$(stat -Lc %%i /dev/fd/3)
		ls conn; [ $(ls conn) = $id ]; echo $?; cat conn/$id/remote; echo quiet >&3; echo shutdown >conn/$id/ctl; cat <&3`, port),
		fmt.Sprintf("3\n0\n127.0.0.1!%d\nyou said quiet\n", port))
}

func TestStream_BulkBothWays(t *testing.T) {
	m := mountTree(t)
	sum := listen(t, func(c *net.TCPConn) {
		n, _ := io.Copy(io.Discard, c)
		fmt.Fprintf(c, "%d\n", n)
	})
	m.want(fmt.Sprintf(`exec 3<>dev/tcp/127.0.0.1/%d; id=$(stat -Lc %%i /dev/fd/3); head -c 50000000 /dev/zero >&3; echo shutdown >conn/$id/ctl; cat <&3`, sum), "50000000\n")
	zeros := listen(t, func(c *net.TCPConn) { _, _ = c.Write(make([]byte, 40<<20)) })
	m.want(fmt.Sprintf("cat dev/tcp/127.0.0.1/%d | wc -c; dd if=dev/tcp/127.0.0.1/%d bs=1M 2>/dev/null | wc -c", zeros, zeros), "41943040\n41943040\n")
}
