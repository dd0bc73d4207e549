package fs

import (
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/convoke-fs/convoke/cluster/group"
)

func TestGroups_ShowWhatTheyAre(t *testing.T) {
	m, _ := mountGroups(t)
	m.want("ls cluster; cat cluster/quorum", "ctl\nevents\ngroups\nlog\nmembers\nmetrics\nname\nquorum\nself\nstatus\nversion\nquorate=yes votes=1 expected=1 ring=12.1 age=0.0\n")
	m.want("mkdir cluster/groups/chat; ls cluster/groups; cd cluster/groups; stat -c '%A %n' . chat chat/*",
		"chat\ndrwxrwxrwt .\ndrwxr-xr-x chat\n--w------- chat/ctl\n-rw------- chat/feed\n-r-------- chat/members\n-rw------- chat/packets\n--w------- chat/send\n")
	m.want("exec 3<>cluster/groups/chat/feed 4<>cluster/groups/chat/packets; cut -d ' ' -f 1,3 cluster/groups/chat/members; [ \"$(cut -d ' ' -f 2 cluster/groups/chat/members | tr '\\n' ' ')\" = \"$$ $$.2 \" ] && echo own",
		"1 web1\n1 web1\nown\n")
	m.want("[ $(date +%s -d \"$(exec 3<>cluster/groups/chat/feed; cut -d ' ' -f 4 cluster/groups/chat/members)\") -ge $(($(date +%s)-60)) ] && echo now", "now\n")
}

func TestGroups_RefusalsHaveTheirNumbers(t *testing.T) {
	needRoot(t)
	m, _ := mountGroups(t)
	m.wantPython("EEXIST EINVAL EINVAL EINVAL EINVAL ENAMETOOLONG EPERM\n"+
		"EINVAL EINVAL EINVAL EINVAL\n"+
		"EINVAL EINVAL EACCES EACCES\n"+
		"ENOENT ENOENT ENOENT ENOENT EBUSY ENOTEMPTY\n"+
		"EACCES EACCES EACCES EACCES EPERM EPERM\n"+
		"EPERM EPERM EPERM EPERM ENOTSUP\n", feedWords+`
def op(path, flags): os.close(os.open('cluster/groups/' + path, flags))
def mkdir(path): return fails(os.mkdir, 'cluster/groups/' + path)
def as_user(f):
    r, w = os.pipe()
    if os.fork() == 0:
        os.setgroups([]); os.setgid(1000); os.setuid(1000); os.write(w, f().encode()); os._exit(0)
    os.wait(); return os.read(r, 100).decode()
R, W, RW = os.O_RDONLY, os.O_WRONLY, os.O_RDWR
print(mkdir('g'), mkdir('.x'), mkdir('a%20b'), mkdir('a b'), mkdir('a' * 128), mkdir('a' * 256), mkdir('g/x'))
print(fails(op, 'g/feed', R), fails(op, 'g/feed', W), fails(op, 'g/packets', R), fails(op, 'g/packets', W))
print(fails(op, 'g/send', R), fails(op, 'g/send', RW), fails(op, 'g/members', RW), fails(op, 'g/ctl', R))
fd = join()
print(fails(op, 'no/feed', RW), fails(op, 'no/send', W), fails(os.rmdir, 'cluster/groups/no'), fails(os.rmdir, 'cluster/groups/a%2'),
    fails(os.rmdir, 'cluster/groups/g'), 'ENOTEMPTY' if fails(os.rmdir, 'cluster') in ('EPERM', 'ENOTEMPTY') else 'no')
os.close(fd)
print(*(as_user(lambda: fails(op, *a)) for a in (('g/feed', RW), ('g/send', W), ('g/members', R), ('g/ctl', W))),
    as_user(lambda: fails(os.rmdir, 'cluster/groups/g')), as_user(lambda: fails(os.chmod, 'cluster/groups/g/feed', 0o666)))
print(fails(os.rename, 'cluster/groups/g', 'cluster/groups/h'), fails(os.symlink, 'x', 'cluster/groups/s'), fails(os.link, 'cluster/groups/g/feed', 'cluster/groups/l'),
    fails(os.unlink, 'cluster/groups/g/feed'), fails(os.getxattr, 'cluster/groups/g', 'user.x'))
`)
}

func TestGroups_OwnerAndModesAreTheGroups(t *testing.T) {
	needRoot(t)
	m, _ := mountGroups(t)
	run := func(uid int, script, want string) {
		t.Helper()
		m.want(asUser(uid)+"sh -c '"+script+"' 2>&1 | sed 's/^sh: [0-9]*: //; s/.*: \\(Operation\\|Permission\\)/\\1/'", want)
	}
	run(1000, "umask 077; mkdir cluster/groups/g; stat -c \"%A %u\" cluster/groups/g cluster/groups/g/feed; exec 3<>cluster/groups/g/feed && echo in", "drwxr-xr-x 1000\n-rw------- 1000\nin\n")
	run(1001, "exec 3<>cluster/groups/g/feed", "Permission denied\n")
	run(1000, "chmod 666 cluster/groups/g/packets; chmod 222 cluster/groups/g/send; stat -c %A cluster/groups/g/feed", "-rw-rw-rw-\n")
	run(1001, "exec 3<>cluster/groups/g/feed && echo in; echo hello >cluster/groups/g/send; cat cluster/groups/g/members; chmod 600 cluster/groups/g/feed; rmdir cluster/groups/g",
		"in\nPermission denied\nOperation not permitted\nOperation not permitted\n")
	run(1000, "chmod 700 cluster/groups/g", "")
	run(1001, "exec 3<>cluster/groups/g/feed", "Permission denied\n")
	run(1000, "echo mode open >cluster/groups/g/ctl; stat -c %A cluster/groups/g cluster/groups/g/*", "drwxr-xr-x\n--w-------\n-rw-rw-rw-\n-r--r--r--\n-rw-rw-rw-\n--w--w--w-\n")
	run(1001, "cat cluster/groups/g/members; echo mode closed >cluster/groups/g/ctl", "Permission denied\n")
	run(1000, "echo mode closed >cluster/groups/g/ctl; stat -c %A cluster/groups/g/*; chown 1001 cluster/groups/g", "--w-------\n-rw-------\n-r--------\n-rw-------\n--w-------\nOperation not permitted\n")
	run(0, "chown 1001:1002 cluster/groups/g/members; stat -c \"%u %g\" cluster/groups/g cluster/groups/g/feed; touch cluster/groups/g/feed", "1001 1002\n1001 1002\n")
	run(1001, "chmod 4777 cluster/groups/g/feed; stat -c %A cluster/groups/g/feed; rmdir cluster/groups/g; ls cluster/groups", "-rwxrwxrwx\n")
	// The kernel asks each time, so what the owner takes away is gone for who had a look before.
	run(1000, "mkdir cluster/groups/h; echo mode open >cluster/groups/h/ctl", "")
	m.want(asUser(1001)+`sh -c 'exec 3<>cluster/groups/h/feed 3>&-; echo there >&2; read x; exec 3<>cluster/groups/h/feed' 2>&1 <<E | head -n 1
`+"E\n", "there\n")
}

func TestGroupCtl_PutsOutWhomRootNames(t *testing.T) {
	needRoot(t)
	m, _ := mountGroups(t)
	m.wantPython("EINVAL EINVAL EINVAL EINVAL EINVAL EINVAL EINVAL EINVAL\nESRCH ESRCH\nconf members=1:PID,1:PID.3 joined=- left=1:PID.2:PROCDOWN\n0\nconf members=- joined=- left=1:PID:PROCDOWN,1:PID.3:PROCDOWN\nEPERM\n", feedWords+`
def ctl(text):
    fd = os.open('cluster/groups/g/ctl', os.O_WRONLY)
    try: os.write(fd, text.encode())
    finally: os.close(fd)
a, b, c = join(), join(), join()
pid = os.getpid()
print(*(fails(ctl, t) for t in ('leave', 'leave 1', 'leave 1:', 'leave 1:02', 'leave 1:2.0', 'leave 1:2.3.4', 'mode half', 'nonsense')))
print(fails(ctl, 'leave 2:%d' % pid), fails(ctl, 'leave 1:%d.4' % pid))
ctl('leave 1:%d.2' % pid); print(lines(a, 5)[-1])
while True:
    s = os.read(b, 1 << 16)
    if not s: break
print(len(s))
ctl('mode open\nleave 1:%d\n' % pid); print(lines(a, 1)[-1])
os.chmod('cluster/groups/g/ctl', 0o222)
if os.fork() == 0:
    os.setgid(1000); os.setuid(1000); print(fails(ctl, 'leave 1:%d' % pid), flush=True); os._exit(0)
os.wait()
`)
}

func TestGroupCtl_AGroupMayNeedAQuorum(t *testing.T) {
	m, o := mountGroups(t)
	o.g.SetQuorate(false)
	m.onTags(map[string]func(){"quorate": func() { o.g.SetQuorate(true) }})
	m.wantPython("OUT\nENETDOWN ENETDOWN ENETDOWN\nOUT\nmsg 1 PID hello\n", feedWords+`
fd = join(); lines(fd, 2); send = os.open('cluster/groups/g/send', os.O_WRONLY)
print(poll(fd, 0)); open('cluster/groups/g/ctl', 'w').write('quorum need\n')
print(fails(join), fails(os.write, fd, b'hello'), fails(os.write, send, b'hello'))
tell('quorate'); within(lambda: fails(lambda: os.close(join())) == 'nothing')
print(poll(fd, 0, select.POLLOUT)); os.write(fd, b'hello')
while True:
    text = [l for l in lines(fd, 1) if l.startswith('msg')]
    if text: break
print(*text)
`)
}

func TestSend_SaysSomethingFromOutside(t *testing.T) {
	needRoot(t)
	m, _ := mountGroups(t)
	m.want(`mkdir cluster/groups/g; exec 3<>cluster/groups/g/feed; read x <&3; read x <&3
echo one >cluster/groups/g/send; echo two >>cluster/groups/g/send; echo mode open >cluster/groups/g/ctl
`+asUser(1000)+`sh -c 'exec 4>cluster/groups/g/send; echo three >&4; echo four >&4; sleep 0; wc -l <cluster/groups/g/members'
for i in 1 2 3 4; do read kind node pid text <&3; echo $kind $node ${pid##*.} $text; done
python3 -c "
import os, select
fd = os.open('cluster/groups/g/send', os.O_WRONLY); p = select.poll(); p.register(fd, select.POLLIN|select.POLLOUT); print(p.poll(1000)[0][1] == select.POLLOUT)"`,
		"1\nmsg 1 0 one\nmsg 1 0 two\nmsg 1 0 three\nmsg 1 0 four\nTrue\n")
}

// What waits for the order ends with a signal, and while it waits others are served.
func TestGroups_WhoWaitsForTheOrderCanBeInterrupted(t *testing.T) {
	m, o := mountGroups(t)
	m.onTags(map[string]func(){"hold": func() { o.setHold(true) }, "go": func() { o.setHold(false) }})
	m.wantPython("interrupted interrupted interrupted interrupted interrupted\n40 killed\nserved\n0 True\njoined\n", feedWords+`
os.mkdir('cluster/groups/h')
fd = join(); tell('hold')
within(lambda: interrupted(os.chmod, 'cluster/groups/g/feed', 0o600) == 'interrupted')
ctl = os.open('cluster/groups/g/ctl', os.O_WRONLY)
print(interrupted(join), interrupted(os.mkdir, 'cluster/groups/new'), interrupted(os.rmdir, 'cluster/groups/h'), interrupted(os.chmod, 'cluster/groups/g/send', 0o222), interrupted(os.write, ctl, b'mode closed'))
pids = []
for i in range(40):
    pid = os.fork()
    if pid == 0:
        signal.setitimer(signal.ITIMER_REAL, 0)
        if i % 2: join()
        else: os.chmod('cluster/groups/g/feed', 0o600)
        os._exit(0)
    pids.append(pid)
time.sleep(0.3)
assert open('cluster/name').read() == 'test\n' and 'g' in os.listdir('cluster/groups')
for pid in pids: os.kill(pid, 9)
print(len([p for p in pids if os.waitpid(p, 0)[1] == 9]), 'killed')
print('served')
os.close(fd); tell('go')
within(lambda: open('cluster/groups/g/members').read() == '')
print(len(open('cluster/groups/g/members').readlines()), os.path.isdir('cluster/groups/new'))
tell('hold'); threading.Timer(0.3, tell, ['go']).start()
fd = join(); print('joined')
`)
}

// Looking for something joins nothing, whatever is looked into.
func TestGroups_NobodyJoinsByLooking(t *testing.T) {
	m, o := mountGroups(t)
	before := func() int { o.mu.Lock(); defer o.mu.Unlock(); return int(o.pos) }
	m.want("mkdir cluster/groups/g cluster/groups/h", "")
	at := before()
	m.want(`exec 2>/dev/null; find cluster/groups -ls >/dev/null; ls -lR cluster >/dev/null
find cluster/groups -type f -exec cat {} + | wc -c; grep -rs hello cluster/groups; timeout 5 busybox grep -r hello cluster/groups
tar cf - cluster/groups >/dev/null; d=$(mktemp -d); cp -r cluster/groups $d; rm -r $d; for f in cluster/groups/*/*; do [ -r $f ] && [ -w $f ] && stat -Lf $f >/dev/null && head -c1 $f; done
file cluster/groups/*/* >/dev/null; wc cluster/groups/*/feed >/dev/null; cat cluster/groups/*/members`, "0\n")
	if n := before(); n != at {
		t.Errorf("%d entries were ordered by looking", n-at)
	}
}

func TestGroups_NamesOfAnyBytesAreShown(t *testing.T) {
	m, o := mountGroups(t)
	names := []string{"", "a b", "..", "\x00/\xff", "ok", strings.Repeat("x", 128), strings.Repeat("/", 86)}
	for _, name := range names {
		if _, err := o.g.Join(t.Context(), name, group.Caller{PID: 77}, group.JoinOpts{Create: true}); err != nil {
			t.Fatal(err)
		}
	}
	long := "%78" + strings.Repeat("x", 127)
	m.want("cd cluster/groups; ls -A; for g in *; do wc -l <$g/members; done", "%\n%00%2F%FF\n%2E.\n"+long+"\na%20b\nok\n"+strings.Repeat("1\n", 6))
	m.want("cd cluster/groups; for g in a%20b %2e. %2E%2E a%20 %6Fk "+strings.Repeat("%2F", 85)+"; do [ -e $g ] && echo $g; done; :", "a%20b\n")
	m.want("exec 3<>cluster/groups/a%20b/feed; head -n 1 <&3 2>/dev/null | cut -d ' ' -f 3- | sed s/$$/PID/", "joined=1:PID:JOIN left=-\n")
}

func TestGroups_AThousandAreListed(t *testing.T) {
	m, o := mountGroups(t)
	for i := range 1000 {
		if err := o.g.Mkdir(t.Context(), fmt.Sprintf("g%03d", i), group.Caller{}); err != nil {
			t.Fatal(err)
		}
	}
	m.want("cd cluster/groups; ls | wc -l; ls -l | grep -c ^drwxr-xr-x; find . -name feed | wc -l; ls g* | grep -c feed; rmdir g*; ls", "1000\n1000\n1000\n1000\n")
	m.want("sed -n 's/^convoke_open_files //p' cluster/metrics", "0\n")
}

// A caller of whom the daemon knows nothing, or who has another network, has no part in a group.
func TestGroups_AreForCallersThatAreKnown(t *testing.T) {
	m, o := mountGroups(t)
	if _, err := m.tree.groupCaller(caller{uid: 1000, gid: 1000}); errno(err) != syscall.EACCES {
		t.Errorf("a caller with no process that can be seen: %v", err)
	}
	needTool(t, "unshare")
	if exec.Command("unshare", "-n", "true").Run() != nil {
		skip(t, "needs network namespaces")
	}
	const script = `mkdir -p cluster/groups/g; exec 2>/dev/null; unshare -n sh -c '
(: <>cluster/groups/g/feed) && echo feed; (: <>cluster/groups/g/packets) && echo packets; (: >cluster/groups/g/send) && echo send
(: >cluster/groups/g/ctl) && echo ctl; mkdir cluster/groups/h && echo mkdir; chmod 600 cluster/groups/g/feed && echo chmod; rmdir cluster/groups/g && echo rmdir
cat cluster/groups/g/members cluster/quorum | wc -l'`
	m.want(script, "1\n")
	if o.delivered() != 0 {
		t.Error("something was said")
	}
	foreign, _ := mountGroups(t, func(o *Opts) { o.ForeignNet = true })
	foreign.want(script, "feed\npackets\nsend\nctl\nmkdir\nchmod\nrmdir\n1\n")
}

func TestGroups_OneUserHasOnlySoManyMemberships(t *testing.T) {
	needRoot(t)
	m, _ := mountGroups(t, func(o *Opts) {
		for _, l := range []string{"memberships 1000 2", "streams 1000 1"} {
			if err := o.Quota.Set(l); err != nil {
				t.Fatal(err)
			}
		}
	})
	m.want("mkdir cluster/groups/g; echo mode open >cluster/groups/g/ctl", "")
	m.wantErr(asUser(1000)+`sh -c 'exec 3<>cluster/groups/g/feed 4<>cluster/groups/g/packets; exec 5<>cluster/groups/g/feed'`, "No space left")
	m.wantErr(asUser(1000)+`sh -c 'exec 3>cluster/groups/g/send; exec 4>cluster/groups/g/send'`, "Too many open files")
	m.want(`exec 3<>cluster/groups/g/feed; until [ $(wc -l <cluster/groups/g/members) = 1 ]; do sleep 0.05; done`, "")
}
