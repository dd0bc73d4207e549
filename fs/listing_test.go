package fs

import (
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"
)

func TestListing_AUserSeesHisOwnConnectionsAllOfThem(t *testing.T) {
	m := mountTree(t)
	port := listen(t, func(c *net.TCPConn) { _, _ = c.Read(make([]byte, 1)) })
	const program = `
import os, sys
fds = [os.open('dev/tcp/127.0.0.1/' + sys.argv[1], os.O_RDWR) for i in range(1500)]
ids = sorted(os.fstat(fd).st_ino for fd in fds)
print(sorted(map(int, os.listdir('conn'))) == ids, len(ids))
d = [os.open('conn', os.O_RDONLY) for i in range(200)]
print(len(os.listdir(d[0])))
`
	m.wantPython("True 1500\n1500\n", program, port)
	m.want(`until [ -z "$(ls conn)" ]; do sleep 0.05; done`, "") // the kernel tells of a close when it has time
	d := m.tree.dirs
	d.mu.Lock()
	defer d.mu.Unlock()
	if n := len(d.open) + len(d.held); n != 0 {
		t.Errorf("%d listings are held after all folders were read", n)
	}
}

func TestConn_DataFromAnotherNetworkNamespaceIsRefused(t *testing.T) {
	m := mountTree(t)
	needTool(t, "unshare")
	if exec.Command("unshare", "-n", "true").Run() != nil {
		skip(t, "needs network namespaces")
	}
	port := listen(t, func(c *net.TCPConn) { fmt.Fprint(c, "secret\n"); _, _ = c.Read(make([]byte, 1)) })
	r := m.sh(fmt.Sprintf("exec 3<>dev/tcp/127.0.0.1/%d; id=$(stat -Lc %%i /dev/fd/3); unshare -n head -c1 conn/$id/data; unshare -n cat /dev/fd/3; head -n1 conn/$id/data", port))
	if r.out != "secret\n" || strings.Count(r.err, "Permission denied") != 2 {
		t.Errorf("got %q, stderr %q", r.out, r.err)
	}
}
