package faults

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/test/daemon"
)

// announcer announces its argument, and does what it is told by lines: read a line and print it, open the data of an ID
// and print what comes back from one read, and end.
const announcer = `
import errno, os, sys
fd = os.open(sys.argv[1] + ",create", os.O_RDONLY)
print("announced", flush=True)
for l in sys.stdin:
    verb, *arg = l.split()
    try:
        if verb == "line": print(os.read(fd, 200).decode().strip(), flush=True)
        elif verb == "data":
            d = os.open("conn/%s/data" % arg[0], os.O_RDWR)
            print(os.read(d, 100).decode(), flush=True)
        elif verb == "close": os.close(fd); print("closed", flush=True)
    except OSError as e: print(errno.errorcode[e.errno], flush=True)`

func announce(n *daemon.Node, u daemon.User, path string) *daemon.Child {
	c := n.Spawn(u, "python3", "-c", announcer, path)
	c.Expect("announced")
	return c
}

// lineID makes the announcer read a line and returns its ID.
func lineID(c *daemon.Child) string {
	c.Say("line")
	id, _, _ := strings.Cut(c.Line(), " ")
	return id
}

func TestAnnounced_ServerThatNeverReads(t *testing.T) {
	n := start(t)
	srv := announce(n, daemon.U1000, "dev/tcp/local/idle")
	// Clients wait and can be interrupted.
	c := n.Spawn(daemon.U1001, "cat", "dev/tcp/local/idle")
	waitMetric(t, n, "convoke_parked_requests", 1)
	c.Signal(syscall.SIGINT)
	c.Ends(daemon.Bound)
	// As many wait as may, and the next one is told.
	const filler = `
import errno, os, resource, sys
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
fds = []
try:
    while True: fds.append(os.open(sys.argv[1], os.O_RDWR))
except OSError as e: print(errno.errorcode[e.errno], len(fds) in (1023, 1024), flush=True)
sys.stdin.readline()`
	fill := n.Spawn(daemon.U1001, "python3", "-c", filler, "dev/tcp/local/idle")
	if got := fill.Line(); got != "ECONNREFUSED True" {
		t.Errorf("got %q, want ECONNREFUSED once 1,024 clients wait", got)
	}
	n.Want("cat cluster/name", "convoke\n")
	fill.Signal(syscall.SIGKILL)
	fill.Ends(daemon.Bound)
	srv.Signal(syscall.SIGKILL)
	srv.Ends(daemon.Bound)
	waitMetric(t, n, "convoke_announcements", 0)
	waitMetric(t, n, "convoke_waiting_clients", 0)
	waitMetric(t, n, "convoke_connections", 0)
}

func TestAnnounced_ClientDiesWhileItWaits(t *testing.T) {
	n := start(t)
	srv := announce(n, daemon.U1000, "dev/tcp/local/svc")
	const client = `
import os, sys
fd = os.open(sys.argv[1], os.O_RDWR); print("open", flush=True); sys.stdin.readline()`
	early := n.Spawn(daemon.U1001, "python3", "-c", client, "dev/tcp/local/svc")
	early.Expect("open")
	early.Signal(syscall.SIGKILL)
	early.Ends(daemon.Bound)
	waitMetric(t, n, "convoke_connections", 0)
	// Its line is withdrawn, or it reads as the end of file, as from any client that has closed.
	late := n.Spawn(daemon.U1001, "python3", "-c", client, "dev/tcp/local/svc")
	late.Expect("open")
	for {
		srv.Say("line")
		f := strings.Fields(srv.Line())
		if len(f) != 6 {
			t.Fatalf("got line %q", f)
		}
		if f[3] == fmt.Sprint(late.PID()) {
			late.Signal(syscall.SIGKILL)
			late.Ends(daemon.Bound)
			waitMetric(t, n, "convoke_connections", 0)
			srv.Say("data " + f[0])
			if got := srv.Line(); got != "" && got != "ECONNABORTED" && got != "ENOENT" && got != "ECONNRESET" {
				t.Errorf("data of a client that has died: got %q", got)
			}
			return
		}
		srv.Say("data " + f[0])
		if got := srv.Line(); got != "" {
			t.Errorf("data of a client that had died before: got %q", got)
		}
	}
}

func TestAnnounced_ServerKilledBetweenTheLineAndTheOpen(t *testing.T) {
	n := start(t)
	srv := announce(n, daemon.U1000, "dev/tcp/local/svc")
	f := n.MustOpen("dev/tcp/local/svc", unix.O_RDWR)
	id := lineID(srv)
	n.Want("cut -d' ' -f2,3 conn/"+id+"/status", "waiting dev/tcp/local/svc,create\n")
	read := f.Read(10)
	waitMetric(t, n, "convoke_parked_requests", 1)
	srv.Signal(syscall.SIGKILL)
	srv.Ends(daemon.Bound)
	if r := daemon.Wait(t, daemon.Bound, "read", read); !errors.Is(r.Err, unix.ECONNRESET) {
		t.Errorf("read: got %+v, want ECONNRESET", r)
	}
	n.WantErr(daemon.Root, "cat conn/"+id+"/data", "No such file")
	n.Want("ls dev/tcp/local", "")
	// The name and the port are free.
	announce(n, daemon.U1001, "dev/tcp/local/svc")
}

func TestAnnounced_ClientsOfOthersAreNobodysBusiness(t *testing.T) {
	n := start(t)
	srv := announce(n, daemon.U1000, "dev/tcp/local/svc")
	n.MustOpen("dev/tcp/local/svc", unix.O_RDWR)
	id := lineID(srv)
	n.Sh("cd conn/" + id + "; cat local remote peer status; ls -l") // root has warmed the kernel's caches
	for _, f := range []string{"data", "local", "remote", "peer", "status"} {
		n.WantErr(daemon.U1001, "cat conn/"+id+"/"+f, "ermission denied")
	}
	n.WantErr(daemon.U1001, "echo reject >conn/"+id+"/ctl", "ermission denied")
	n.WantErr(daemon.U1001, "ls conn/"+id, "ermission denied")
	if r := n.ShAs(daemon.U1001, "ls conn"); r.Out != "" || r.Code != 0 {
		t.Errorf("ls conn of another user: got %+v", r)
	}
	n.Want("cut -d' ' -f2 conn/"+id+"/status", "waiting\n")
	n.WantErr(daemon.U1001, ": </proc/"+fmt.Sprint(srv.PID())+"/fd/3", "ermission denied")
}

func TestAnnounced_ThousandClientsAtOnce(t *testing.T) {
	const clients = 1000
	needFiles(t, 4*clients)
	n := start(t)
	// The echo server that the manual shows: a cat for each client.
	srv := n.Spawn(daemon.U1000, "dash", "-c", `exec 9<dev/tcp/local/thousand,create
echo announced
while read -r id rest <&9; do cat <conn/$id/data >conn/$id/data 9<&- & done`)
	srv.Expect("announced")
	many := n.Spawn(daemon.U1001, "python3", "-c", `
import os, resource, sys, threading
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
n, fds, done = int(sys.argv[1]), [], []
gate = threading.Barrier(n)
def opener():
    gate.wait()
    fds.append(os.open("dev/tcp/local/thousand", os.O_RDWR))
threading.stack_size(256 * 1024)
ts = [threading.Thread(target=opener) for i in range(n)]
for t in ts: t.start()
# Each hundred says that it goes on.
for i, t in enumerate(ts):
    t.join()
    if i % 100 == 0: print("opening", flush=True)
print("connected", len(fds), flush=True)
for i, fd in enumerate(fds): os.write(fd, b"%08d" % i)
for i, fd in enumerate(fds):
    b = b""
    while len(b) < 8: b += os.read(fd, 8 - len(b))
    if b == b"%08d" % i: done.append(i)
    if i % 100 == 0: print("reading", flush=True)
print("answered", len(done), flush=True)`, fmt.Sprint(clients))
	for _, word := range []string{"connected", "answered"} {
		if got, want := many.Expect(word), fmt.Sprint(word, " ", clients); got != want {
			t.Errorf("got %q, want %q; stderr %.1000q", got, want, many.Stderr())
		}
	}
	many.Ends(daemon.Bound)
	waitMetric(t, n, "convoke_connections", 0)
	if got := n.Metric("convoke_rendezvous_total"); got != clients {
		t.Errorf("%d rendezvous, want %d", got, clients)
	}
}

func TestAnnounced_HalfCloseBothWays(t *testing.T) {
	n := start(t)
	// The server answers at the end of the request, and the client sees the end of the answer.
	srv := n.Spawn(daemon.U1000, "sh", "-c", `exec 9<dev/tcp/local/count,create; echo announced
while read -r id rest <&9; do (exec 4<conn/$id/data 5>conn/$id/data 9<&-; wc -c <&4 >&5) & done`)
	srv.Expect("announced")
	for range 3 {
		n.Want(`exec 3<>dev/tcp/local/count; own=$(stat -Lc %i /dev/fd/3); exec 4<conn/$own/data 5>conn/$own/data 3<&-
head -c 100000 /dev/zero >&5; exec 5>&-; cat <&4`, "100000\n")
	}
	waitMetric(t, n, "convoke_connections", 0)
}

func TestAnnounced_LocalServiceOfOneUserIsNoOthers(t *testing.T) {
	n := start(t)
	announce(n, daemon.U1000, "dev/fdp/local/svc")
	announce(n, daemon.U1000, "dev/fdp/local/mine,user")
	n.WantErr(daemon.U1001, ": <>dev/fdp/local/mine,user=1000", "ermission denied")
	n.WantErr(daemon.U1001, ": <>dev/fdp/local/svc,create", "ermission denied")
	if r := n.Run(daemon.U1001, "/usr/bin/python3", "-c", bind, "dev/fdp/local/mine"); r.Out != "errno 13\n" {
		t.Errorf("bind of a name that another user has announced: got %+v, want EACCES", r)
	}
	if r := n.Run(daemon.U1001, "/usr/bin/python3", "-c", connect, "dev/fdp/local/mine,user=1000,sock"); r.Out != "errno 13\n" {
		t.Errorf("connect to a socket of user=1000: got %+v, want EACCES", r)
	}
	n.Want("cd dev/fdp/local; stat -c '%n %A %u' * mine,user=1000,sock",
		"convoke srw-rw-rw- 0\nmine,user=1000 -rw------- 1000\nsvc -rw-rw-rw- 1000\nmine,user=1000,sock srw------- 1000\n")
}
