package fs

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/convoke-fs/convoke/fs/quota"
	"github.com/convoke-fs/convoke/rendezvous"
)

// as begins a command of another user. The path to the mount is root's, so it is to be run in it.
const as = "setpriv --clear-groups --reuid=%d --regid=%d "

func asUser(uid int) string { return fmt.Sprintf(as, uid, uid) }

func TestAnnounce_ShellEchoServer(t *testing.T) {
	needRoot(t)
	m := mountTree(t)
	m.want(`exec 9<dev/tcp/local/echo,create
while read -r id rest <&9; do cat <conn/$id/data >conn/$id/data 9<&- & done & server=$!
exec 9<&-
exec 3<>dev/tcp/local/echo; echo hello >&3; read -r l <&3; echo "$l"
exec 4<>dev/tcp/web1/echo; echo again >&4; head -n1 <&4 2>/dev/null
exec 3<&- 4<&-; kill $server; wait; until [ -z "$(ls conn)" ]; do sleep 0.05; done; ls dev/tcp/local`, "hello\nagain\n")
}

func TestAnnounce_ALineSaysWhoWaits(t *testing.T) {
	needRoot(t)
	m := mountTree(t)
	m.want(`exec 9<dev/tcp/local/svc,create
exec 3<>dev/tcp/local/svc; read -r id host node pid uid gid <&9
[ $pid = $$ ] && echo $host $node $uid $gid; [ "$(cat conn/$id/peer)" = "$host $node $pid $uid $gid" ] && echo peer
read -r i state path owner p rest <conn/$id/status; echo $state $path $owner; [ $i = $id ] && [ $p = pid=$$ ] && echo status
own=$(stat -Lc %i /dev/fd/3); [ "$(cat conn/$own/local)" = "$(cat conn/$id/remote)" ] && [ "$(cat conn/$own/remote)" = "$(cat conn/$id/local)" ] && echo ends
exec 4<>conn/$id/data; read -r i state rest <conn/$id/status; echo $state; ls conn/$id
`+asUser(1000)+`sh -c 'exec 5<>dev/tcp/local/svc; read x <&5' & client=$!
read -r id host node pid uid gid <&9; [ $pid = $client ] && echo $host $node $uid $gid; exec 5<>conn/$id/data; echo >&5; wait`,
		"127.0.0.1 web1 0 0\npeer\nwaiting dev/tcp/local/svc,create uid=0\nstatus\nends\nopen\nctl\ndata\nlocal\npeer\nremote\nstatus\n127.0.0.1 web1 1000 1000\n")
}

func TestAnnounce_RefusalsHaveTheirNumbers(t *testing.T) {
	needRoot(t)
	m := mountTree(t)
	m.wantPython("EROFS EROFS EROFS EINVAL ENOENT\nEADDRINUSE EADDRINUSE EACCES\nEACCES\nEINVAL ESPIPE\n", `
import errno, os
def fails(path, flags=os.O_RDONLY):
    try: os.close(os.open(path, flags)); return 'nothing'
    except OSError as e: return errno.errorcode[e.errno]
print(fails('dev/tcp/web2/svc,create'), fails('dev/udp/10.0.0.1/svc,create'), fails('dev/tcp/web1/svc,create'), fails('dev/tcp/local/svc,create', os.O_WRONLY), fails('dev/tcp/local/svc,create,test'))
fd = os.open('dev/tcp/local/5555,create', os.O_RDWR)
r, w = os.pipe()
svc = os.open('dev/tcp/local/svc,create', os.O_RDONLY)
if os.fork() == 0:
    os.setgid(1000); os.setuid(1000)
    os.write(w, (fails('dev/tcp/local/svc,create,nightly') + '\n').encode()); os._exit(0)
os.wait()
other = os.read(r, 100).decode().strip()
print(fails('dev/tcp/local/5555,create'), fails('dev/tcp/local/svc,create'), other)
if os.fork() == 0:
    os.setgid(1000); os.setuid(1000)
    os.write(w, (fails('dev/tcp/local/81,create') + '\n').encode()); os._exit(0)
os.wait()
print(os.read(r, 100).decode().strip())
def fail(f, *a):
    try: f(*a); return 'nothing'
    except OSError as e: return errno.errorcode[e.errno]
print(fail(os.write, fd, b'x'), fail(os.lseek, fd, 0, 0))
`)
}

func TestAnnounce_AnyPortIsShownWhereTheConnectionsAre(t *testing.T) {
	m := mountTree(t)
	m.want(`exec 9<dev/tcp/local/0,create; id=$(stat -Lc %i /dev/fd/9)
port=$(cat conn/$id/local); port=${port##*!}; [ $port -gt 1023 ] && echo port; [ "$(ls dev/tcp/local)" = $port ] && echo listed
read -r i state path rest <conn/$id/status; echo $state $path; ls conn/$id; cat conn/$id/peer
exec 3<>dev/tcp/127.0.0.1/$port; read -r c host node pid uid gid <&9; [ $pid = $$ ] && echo proved
exec 3<&-; echo reject >conn/$c/ctl; echo hangup >conn/$id/ctl; cat <&9; ls conn dev/tcp/local`,
		"port\nlisted\nannounced dev/tcp/local/0,create\nctl\nlocal\npeer\nremote\nstatus\n- - - - -\nproved\nconn:\n\ndev/tcp/local:\n")
}

func TestAnnounce_NamesHaveOwnerAndMode(t *testing.T) {
	needRoot(t)
	m := mountTree(t)
	m.want(asUser(1000)+`sh -c 'exec 9<dev/tcp/local/open,create 8<dev/tcp/local/mine,user,create 7<dev/tcp/local/ours,group=1000,night,create 6<dev/udp/local/dgram,create
ls dev/tcp/local dev/udp/local; ls dev/tcp/web2
stat -c "%n %A %u %g" dev/tcp/local/* dev/udp/local/* dev/tcp/web1/open dev/tcp/local/none
chmod 600 dev/tcp/local/open; stat -c "%A" dev/tcp/web1/open; chown 1001 dev/tcp/local/open 2>/dev/null || echo no'`,
		`dev/tcp/local:
mine,user=1000
open
ours,group=1000,night

dev/udp/local:
dgram
dev/tcp/local/mine,user=1000 -rw------- 1000 1000
dev/tcp/local/open -rw-rw-rw- 1000 1000
dev/tcp/local/ours,group=1000,night -rw-rw---- 1000 1000
dev/udp/local/dgram -rw-rw-rw- 1000 1000
dev/tcp/web1/open -rw-rw-rw- 1000 1000
dev/tcp/local/none -rw-rw-rw- 0 0
-rw-------
no
`)
	m.wantErr(`exec 9<dev/tcp/local/svc,create; chmod 600 dev/tcp/local/svc; `+asUser(1000)+`cat dev/tcp/local/svc`, "Permission denied")
	m.wantErr(`exec 9<dev/tcp/local/svc,create; `+asUser(1000)+`chmod 600 dev/tcp/local/svc`, "not permitted")
	m.want(`exec 9<dev/tcp/local/svc,create; chmod 600 dev/tcp/local/svc; chown 1000 dev/tcp/local/svc; stat -c "%a %u" dev/tcp/local/svc; `+asUser(1000)+`sh -c ': <>dev/tcp/local/svc' && echo in`, "600 1000\nin\n")
}

func TestAnnounce_RejectCutsOff(t *testing.T) {
	m := mountTree(t)
	m.want(`exec 9<dev/tcp/local/svc,create
exec 3<>dev/tcp/local/svc; read -r id rest <&9
sh -c "echo shutdown >conn/$id/ctl" 2>/dev/null || echo too early
echo reject >conn/$id/ctl; [ -e conn/$id ] || echo gone; cat <&3 2>&1
exec 3<>dev/tcp/local/svc; read -r id rest <&9; exec 4<>conn/$id/data
sh -c "echo reject >conn/$id/ctl" 2>/dev/null || echo too late
echo data >&4; read -r l <&3; echo $l
exec 5<>dev/tcp/local/svc; read -r id rest <&9; echo hangup >conn/$id/ctl; cat <&5 2>&1; :`,
		"too early\ngone\ncat: -: Connection reset by peer\ntoo late\ndata\ncat: -: Connection reset by peer\n")
	m.want("grep -E '^convoke_(announcements|waiting_clients|rendezvous_total|rendezvous_refused_total) ' cluster/metrics", "convoke_announcements 0\nconvoke_waiting_clients 0\nconvoke_rendezvous_total 1\nconvoke_rendezvous_refused_total 2\n")
}

func TestAnnounce_HalfCloseFollowsTheLastWriter(t *testing.T) {
	m := mountTree(t)
	m.want(`exec 9<dev/tcp/local/svc,create
exec 3<>dev/tcp/local/svc; own=$(stat -Lc %i /dev/fd/3); read -r id rest <&9
exec 4<conn/$id/data 5>conn/$id/data 6>conn/$id/data
echo one >&5; exec 5>&-; echo two >&6; exec 6>&-; cat <&3
echo three >&3; echo shutdown >conn/$own/ctl; cat <&4
exec 4<&- 3<&-; until [ "$(ls conn | wc -l)" = 1 ]; do sleep 0.02; done`, "one\ntwo\nthree\n")
}

func TestAnnounce_EndsWithTheLastClose(t *testing.T) {
	m := mountTree(t)
	m.want(`exec 9<dev/tcp/local/svc,create
sleep 1000 <&9 & child=$!
exec 3<>dev/tcp/local/svc; read -r id rest <&9; exec 4<>dev/tcp/local/svc 9<&-
ls dev/tcp/local; kill -9 $child; wait $child
until [ -z "$(ls dev/tcp/local)" ]; do sleep 0.02; done
[ -e conn/$id ] || echo gone; cat <&3 2>&1; cat <&4 2>&1
sh -c ': <>dev/tcp/local/svc' 2>&1 | grep -o 'Connection refused'
exec 9<dev/tcp/local/svc,create && ls dev/tcp/local`,
		"svc\ngone\ncat: -: Connection reset by peer\ncat: -: Connection reset by peer\nConnection refused\nsvc\n")
}

func TestAnnounce_AClientThatHasGoneLeavesNoLine(t *testing.T) {
	m := mountTree(t)
	m.wantPython("EAGAIN\nECONNABORTED\nENOENT\n", `
import errno, os, socket, struct, sys, time
def fails(path, flags=os.O_RDONLY):
    try: os.close(os.open(path, flags)); return 'nothing'
    except OSError as e: return errno.errorcode[e.errno]
fd = os.open('dev/tcp/local/5556,create', os.O_RDONLY|os.O_NONBLOCK)
def client():
    s = socket.create_connection(('127.0.0.1', 5556))
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    return s
client().close()
time.sleep(0.1)
try: print(os.read(fd, 100))
except OSError as e: print(errno.errorcode[e.errno])
s = client()
while True:
    try: line = os.read(fd, 100).split(); break
    except BlockingIOError: time.sleep(0.005)
s.close()
print(fails('conn/%s/data' % line[0].decode()))
print(fails('conn/%s/data' % line[0].decode()))
`)
}

func TestAnnounce_OthersCannotTouchAClient(t *testing.T) {
	m := mountTree(t)
	m.want(`exec 9<dev/tcp/local/svc,create
exec 3<>dev/tcp/local/svc; read -r id rest <&9
for f in data ctl local remote peer status; do `+asUser(1000)+`sh -c ": <conn/$id/$f" 2>/dev/null && echo $f; `+asUser(1000)+`sh -c ": >conn/$id/$f" 2>/dev/null && echo $f; done
`+asUser(1000)+`ls conn; `+asUser(1000)+`sh -c ": </dev/fd/9" 2>/dev/null && echo joined; head -c0 /dev/fd/9 && echo own
read -r i state rest <conn/$id/status; echo $state`, "own\nwaiting\n")
}

func TestAnnounce_WakesPollersAndReaders(t *testing.T) {
	m := mountTree(t)
	m.wantPython("EAGAIN\n-\nIN\nlater\n-\nEINTR\nrest\n", pollWords+`
import errno, signal, threading
fd = os.open('dev/tcp/local/svc,create', os.O_RDONLY|os.O_NONBLOCK)
try: os.read(fd, 100)
except OSError as e: print(errno.errorcode[e.errno])
print(poll(fd, 50, select.POLLIN))
ep = select.epoll(); ep.register(fd, select.EPOLLIN|select.EPOLLET)
threading.Timer(0.1, lambda: os.open('dev/tcp/local/svc', os.O_RDWR)).start()
print(words(ep.poll(10)[0][1]))
assert len(os.read(fd, 4096).split()) == 6
os.set_blocking(fd, True)
threading.Timer(0.1, lambda: os.open('dev/tcp/local/svc', os.O_RDWR)).start()
assert os.read(fd, 4096).endswith(b'\n'); print('later'); print(poll(fd, 0, select.POLLIN))
class Alarm(Exception): pass
def ring(*a): raise Alarm
signal.signal(signal.SIGALRM, ring); signal.setitimer(signal.ITIMER_REAL, 0.1)
try: os.read(fd, 100)
except Alarm: print('EINTR')
c = os.open('dev/tcp/local/svc', os.O_RDWR)
line = b''
while not line.endswith(b'\n'): line += os.read(fd, 3)
assert len(line.split()) == 6; print('rest')
`)
}

func TestAnnounce_DatagramsOfEachRemoteAddressAreAClient(t *testing.T) {
	needRoot(t)
	m := mountTree(t)
	m.wantPython("127.0.0.1 True\none\ntwo\nreply True\nt\nhree\n-|OUT\nother\nshut\n", pollWords+`
import socket, time
fd = os.open('dev/udp/local/5557,create', os.O_RDONLY)
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(('127.0.0.1', 5557))
s.send(b'one'); s.send(b'two')
id, host, node, pid, uid, gid = os.read(fd, 100).decode().split()
port = s.getsockname()[1]
print(host, open('conn/%s/remote' % id).read() == '127.0.0.1!%d\n' % port)
d = os.open('conn/%s/data' % id, os.O_RDWR)
print(os.read(d, 100).decode()); print(os.read(d, 100).decode())
os.write(d, b'reply'); print(s.recv(100).decode(), open('conn/%s/status' % id).read().split()[1:7] == ['open', 'dev/udp/local/5557,create', 'uid=0', 'pid=%d' % os.getpid(), 'in=6', 'out=5'])
s.send(b'three'); print(os.read(d, 1).decode()); print(os.read(d, 100).decode())
print(poll(d, 0, select.POLLIN) + '|' + poll(d, 0, select.POLLOUT))
o = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); o.connect(('127.0.0.1', 5557)); o.send(b'other')
other = os.read(fd, 100).decode().split()[0]; assert other != id
e = os.open('conn/%s/data' % other, os.O_RDWR); print(os.read(e, 100).decode())
open('conn/%s/ctl' % id, 'w').write('hangup\n'); assert os.read(d, 100) == b''
print('shut')
`)
}

func TestAnnounce_ALocalServiceHasThreeForms(t *testing.T) {
	needRoot(t)
	m := mountTree(t)
	m.wantPython("['svc']\n-rw-rw-rw- srw-rw-rw-\nlocal web1 True 0 0\nhello\nEXIST\nlocal True 0 0\nover the socket\n-rw------- srw-------\n[]\n", bindWords+`
import stat, struct
fd = os.open('dev/fdp/local/svc,create', os.O_RDONLY)
print(os.listdir('dev/fdp/local'))
mode = lambda n: stat.filemode(os.stat('dev/fdp/local/' + n).st_mode)
print(mode('svc'), mode('svc,sock'))
c = os.open('dev/fdp/local/svc', os.O_RDWR)
id, host, node, pid, uid, gid = os.read(fd, 100).decode().split()
print(host, node, int(pid) == os.getpid(), uid, gid)
d = os.open('conn/%s/data' % id, os.O_RDWR)
os.write(d, b'hello'); print(os.read(c, 100).decode())
try: bind('svc'); print('bound')
except OSError as e: print('EXIST')
s = socket.socket(socket.AF_UNIX); s.connect('dev/fdp/local/svc,sock')
id, host, node, pid, uid, gid = os.read(fd, 100).decode().split()
print(host, int(pid) == os.getpid(), uid, gid)
d = os.open('conn/%s/data' % id, os.O_RDWR)
s.sendall(b'over the socket'); print(os.read(d, 100).decode())
os.chmod('dev/fdp/local/svc', 0o600)
print(mode('svc'), mode('svc,sock'))
os.close(fd)
while os.listdir('dev/fdp/local'): time.sleep(0.01)
print(os.listdir('dev/fdp/local'))
`)
}

func TestAnnounce_ManyLocalServicesAtOnce(t *testing.T) {
	m := mountTree(t)
	r := m.sh(`for i in 1 2 3 4 5 6 7 8; do sh -c 'for j in 1 2 3 4 5 6 7 8 9 10; do exec 9<dev/fdp/local/s$1.$j,create || exit; ls dev/fdp/local >/dev/null; stat dev/fdp/local/s$1.$j >/dev/null || exit; exec 9<&-; done; echo done' sh $i & done; wait`)
	if r.out != strings.Repeat("done\n", 8) || r.err != "" {
		t.Errorf("got %+v", r)
	}
	m.want(`until [ -z "$(ls dev/fdp/local)" ]; do sleep 0.05; done`, "")
}

func TestAnnounce_TakesOnlySoManyClientsThatItDoesNotUse(t *testing.T) {
	m := mountTree(t)
	m.wantPython("1024 taken\nEAGAIN\none more\nas many\n", `
import os, resource, socket, time
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]; resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
fd = os.open('dev/tcp/local/5558,create', os.O_RDONLY)
cs, ids = [], []
for i in range(1024):
    cs.append(socket.create_connection(('127.0.0.1', 5558))); ids.append(os.read(fd, 100).split()[0].decode())
print(len(ids), 'taken')
os.set_blocking(fd, False)
cs.append(socket.create_connection(('127.0.0.1', 5558))); time.sleep(0.1)
try: os.read(fd, 100)
except BlockingIOError: print('EAGAIN')
os.set_blocking(fd, True)
open('conn/%s/ctl' % ids[3], 'w').write('reject')
assert len(os.read(fd, 100).split()) == 6; print('one more')
n = len(os.listdir('conn')); print('as many' if n == 1025 else n)
`)
}

func TestAnnounce_AtItsLimitOfStreamsAServerIsToldAsByAccept(t *testing.T) {
	needRoot(t)
	m := mountTree(t, func(o *Opts) {
		if err := o.Quota.Set("streams 1000 1"); err != nil {
			t.Fatal(err)
		}
	})
	m.want(asUser(1000)+`/usr/bin/python3 -c "
import errno, os, socket
fd = os.open('dev/tcp/local/5559,create', os.O_RDONLY)
a, b = socket.create_connection(('127.0.0.1', 5559)), socket.create_connection(('127.0.0.1', 5559))
id = os.read(fd, 100).split()[0].decode()
while True:
    try: os.set_blocking(fd, False); os.read(fd, 100)
    except OSError as e:
        if e.errno == errno.EMFILE: break
print('EMFILE')
open('conn/%s/ctl' % id, 'w').write('reject')
print(len(os.read(fd, 100).split()))
"`, "EMFILE\n6\n")
}

func TestAnnounce_OneUserHasOnlySoMany(t *testing.T) {
	needRoot(t)
	m := mountTree(t, func(o *Opts) {
		if err := o.Quota.Set("announcements 1000 2"); err != nil {
			t.Fatal(err)
		}
	})
	m.wantErr(asUser(1000)+`sh -c 'exec 9<dev/tcp/local/a,create 8<dev/fdp/local/b,create; echo two; exec 7<dev/udp/local/c,create'`, "No space left")
	m.want(asUser(1000)+`sh -c 'exec 9<dev/tcp/local/a,create 8<dev/fdp/local/b,create; echo two'`, "two\n")
	m.want(`until [ -z "$(ls dev/tcp/local dev/fdp/local | grep -v :)" ]; do sleep 0.02; done`, "")
	if n := m.quota.Held(quota.Announcements); n != 0 {
		t.Errorf("%d announcements are counted after the last close", n)
	}
	if n := m.quota.Held(quota.Streams); n != 0 {
		t.Errorf("%d streams are counted after the last close", n)
	}
}

func TestAnnounce_FromAnotherNetworkNamespaceIsRefused(t *testing.T) {
	m := mountTree(t)
	needTool(t, "unshare")
	if exec.Command("unshare", "-n", "true").Run() != nil {
		skip(t, "needs network namespaces")
	}
	m.wantErr(`unshare -n sh -c ': <dev/tcp/local/svc,create'`, "Permission denied")
	m.wantErr(`unshare -n sh -c ': <dev/fdp/local/svc,create'`, "Permission denied")
	m.want(`exec 9<dev/tcp/local/svc,create 3<>dev/tcp/local/svc; read -r id rest <&9
unshare -n sh -c ": <conn/$id/data" 2>/dev/null || echo refused; read -r i state rest <conn/$id/status; echo $state`, "refused\nwaiting\n")
}

func TestAnnounce_ALocalServiceThatCanBeStartedIsThere(t *testing.T) {
	m := mountTree(t, func(o *Opts) {
		o.CanStart = func(p rendezvous.Path) bool { return p.Element() == "cold" }
		o.Metrics = func() []Metric {
			return []Metric{{Name: "convoke_server_starts_total", Kind: "counter", Help: "Servers started.", Value: 7}}
		}
	})
	m.want(`stat -c %A dev/fdp/local/cold dev/fdp/local/cold,stream; [ -e dev/fdp/local/cold,sock ] || [ -e dev/fdp/local/other ] || echo no more
grep starts cluster/metrics`, "-rw-rw-rw-\n-rw-rw-rw-\nno more\n# HELP convoke_server_starts_total Servers started.\n# TYPE convoke_server_starts_total counter\nconvoke_server_starts_total 7\n")
}

func TestAnnounce_TheHostsEndIsTheEndOfTheFile(t *testing.T) {
	m := mountTree(t)
	m.onTag(m.host.Close)
	m.want(`exec 9<dev/tcp/local/svc,create 3<>dev/tcp/local/svc; read -r id rest <&9; echo "tag now=close" >cluster/ctl; cat <&9; ls dev/tcp/local
exec 4<>conn/$id/data; echo taken >&4; read -r l <&3; echo $l; sh -c ': <dev/tcp/local/svc,create' 2>/dev/null || echo no more`, "taken\nno more\n")
}
