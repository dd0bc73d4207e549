package fs

import (
	"testing"
	"time"

	"github.com/convoke-fs/convoke/fs/quota"
)

func TestFeed_AShellJoinsSaysAndHears(t *testing.T) {
	inShells(t, func(t *testing.T, m *mounted, o *oneNode, want func(script, out string)) {
		want(`mkdir cluster/groups/chat && exec 3<>cluster/groups/chat/feed
echo 'hello  world' >&3; printf 'a\tb\\' >&3; echo >&3
n=0; while [ $n -lt 5 ] && IFS= read -r line <&3; do printf '%s\n' "$line" | sed s/$$/PID/g; n=$((n+1)); done`,
			"conf members=1:PID joined=1:PID:JOIN left=-\nring 12.1 members=1\nmsg 1 PID hello  world\nmsg 1 PID a\\tb\\\\\nmsg 1 PID \n")
		nothingHeld(t, m)
	})
}

// nothingHeld waits until nothing is counted for anybody: the last close of a file returns before the daemon hears of it.
func nothingHeld(t *testing.T, m *mounted) {
	t.Helper()
	end := time.Now().Add(40 * time.Second)
	for _, r := range []quota.Resource{quota.Parked, quota.ParkedBytes, quota.Memberships, quota.Streams} {
		for m.quota.Held(r) != 0 {
			if time.Now().After(end) {
				t.Fatalf("%v: %d held after the last close", r, m.quota.Held(r))
			}
			time.Sleep(time.Millisecond)
		}
	}
}

// ends are functions of a shell: gone tells by what a member has gone, n how many are there.
const ends = `
gone() { while IFS= read -r line <&4; do case $line in *left=-) ;; conf*) echo "$1 ${line##*:}"; return ;; esac; done; }
n() { wc -l <cluster/groups/g/members; }
mkdir cluster/groups/g && exec 4<>cluster/groups/g/feed
sh=$(readlink /proc/$$/exe); case $sh in *busybox) sh="$sh sh" ;; esac
feed=cluster/groups/g/feed
`

// What ended a membership is told to those who are left.
func TestFeed_ACloseIsALeaveAndAnEndIsADeath(t *testing.T) {
	inShells(t, func(t *testing.T, m *mounted, o *oneNode, want func(script, out string)) {
		want(ends+`
exec 3<>$feed; exec 3>&-; gone close
exec 3<>$feed; echo hello >&3; exec 3>&-; gone 'said and closed'
$sh -c 'exec 3<>$0' $feed 4>&-; gone exit
$sh -c 'exec 3<>$0; echo hello >&3; exit 3' $feed 4>&-; gone 'said and exit'
$sh -c 'exec 3<>$0; kill -9 $$' $feed 4>&-; gone kill
$sh -c 'exec 3<>$0; echo hello >&3; kill -9 $$' $feed 4>&-; gone 'said and kill'
$sh -c 'exec 3<>$0; kill -TERM $$' $feed 4>&-; gone term
$sh -c 'exec 3<>$0; exec true' $feed 4>&-; gone 'exec and exit'
$sh -c 'exec 3<>$0; exec 3>&-; exec sleep 0' $feed 4>&-; gone 'close and exit'
`, "close LEAVE\nsaid and closed LEAVE\nexit PROCDOWN\nsaid and exit PROCDOWN\nkill PROCDOWN\nsaid and kill PROCDOWN\nterm PROCDOWN\nexec and exit PROCDOWN\nclose and exit LEAVE\n")
	})
}

// A child has a copy of the descriptor: the membership is there until it, too, has closed it.
func TestFeed_ChildrenKeepTheMembership(t *testing.T) {
	inShells(t, func(t *testing.T, m *mounted, o *oneNode, want func(script, out string)) {
		want(ends+`
fifo=$(mktemp -u); mkfifo $fifo
$sh -c 'exec 3<>$0; { read x <$1; exec 3>&-; } & kill -9 $$' $feed $fifo 4>&-
n; echo >$fifo; gone 'the child closes'
$sh -c 'exec 3<>$0; { read x <$1; } & exec 3>&-; exit' $feed $fifo 4>&-
n; echo >$fifo; gone 'the child ends'
$sh -c 'exec 3<>$0; sleep 1000 & echo $! >$1' $feed $fifo 4>&- &
read pid <$fifo; wait $!; n; kill -9 $pid; gone 'the child is killed'
rm $fifo; n
`, "2\nthe child closes LEAVE\n2\nthe child ends PROCDOWN\n2\nthe child is killed PROCDOWN\n1\n")
	})
}

const feedWords = pollWords + `
import errno, signal, struct, threading
feed = 'cluster/groups/g/feed'
def join(path=feed, flags=0): return os.open(path, os.O_RDWR|flags)
def fails(f, *a):
    try: f(*a); return 'nothing'
    except OSError as e: return errno.errorcode[e.errno]
def lines(fd, n):
    text = b''
    while text.count(b'\n') < n: text += os.read(fd, 1 << 20)
    return text.decode().replace(str(os.getpid()), 'PID').splitlines()
def tell(what): open('cluster/ctl', 'w').write('tag now=' + what)
def within(f):
    end = time.time() + 40
    while not f():
        assert time.time() < end, 'in vain'
        time.sleep(0.01)
class Alarm(Exception): pass
def alarm(*a): raise Alarm
signal.signal(signal.SIGALRM, alarm)
def interrupted(f, *a):
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try: f(*a); return 'done'
    except Alarm: return 'interrupted'
    finally: signal.setitimer(signal.ITIMER_REAL, 0)
os.path.isdir('cluster/groups/g') or os.mkdir('cluster/groups/g')
`

func TestFeed_AReadGivesWholeRecords(t *testing.T) {
	m, _ := mountGroups(t)
	m.wantPython("2\nTrue\nTrue msg\nTrue\nTrue\n3\nESPIPE\nEAGAIN\n", feedWords+`
fd = join()
print(len(lines(fd, 2)))
head = b'msg 1 %d ' % os.getpid()
for text in (b'0123456789', b'abcdef', b'\n', b'last'): os.write(fd, text)
first = head + b'0123456789\n'
print(os.read(fd, len(first) + 3) == first)      # no room for all of the second
second = head + b'abcdef\n'
part = os.read(fd, 3); print(part == second[:3], part.decode())
print(os.read(fd, 2) == second[3:5])
print(os.read(fd, len(second) - 5 + 2) == second[5:]) # the rest, and no part of the third
os.write(fd, b'more')
print(len(os.read(fd, 4096).splitlines()))       # all that fit
print(fails(os.lseek, fd, 0, 0))
os.set_blocking(fd, False); print(fails(os.read, fd, 100))
`)
}

func TestPackets_AReadGivesOneRecordOrItsRest(t *testing.T) {
	m, _ := mountGroups(t)
	m.wantPython("[1, 3]\n[2, 2, 2]\n1 True 1 0 b'two\\nlines\\n' True\nTrue\n1044480 True\nEAGAIN\n", feedWords+`
fd = join('cluster/groups/g/packets')
def packet():
    b = os.read(fd, 1 << 20)
    size, kind = struct.unpack_from('<IB', b)
    while len(b) < size: b += os.read(fd, 1 << 20)
    assert size == len(b), (size, len(b))
    return kind, b
print([packet()[0] for i in range(2)])
for i in range(3): os.write(fd, b'x')
print([packet()[0] for i in range(3)])
os.write(fd, b'two\nlines\n'); os.write(fd, b'y')
kind, b = packet()
node, pid, n, zero = struct.unpack_from('<IIII', b, 32)
print(node, pid == os.getpid(), n, zero, b[48:], struct.unpack_from('<QQI', b, 8)[0::2] == (12, 1))
b = os.read(fd, 10); b += os.read(fd, 7); b += os.read(fd, 1 << 20)
print(len(b) == 49 and b[48:] == b'y')
os.write(fd, b'z' * 1044480)
kind, b = packet(); print(len(b) - 48, b[48:] == b'z' * 1044480)
os.set_blocking(fd, False); print(fails(os.read, fd, 100))
`)
}

// A write(2) that the kernel cuts into pieces is no message, and no part of it is.
func TestFeed_OneWriteIsOneMessageOrNone(t *testing.T) {
	m, o := mountGroups(t)
	m.wantPython("1044480 1044480 1044480 1044480\nEMSGSIZE EMSGSIZE EMSGSIZE EMSGSIZE EMSGSIZE EMSGSIZE EMSGSIZE EMSGSIZE\n0\n[1044480, 1044480, 1044479, 1044479]\n", feedWords+`
import mmap
fd = join(); lines(fd, 2)
pages = memoryview(mmap.mmap(-1, 4 << 20)); pages[:] = b'x' * len(pages)
most = 1044480
def sent(n, at=0, end=b'x'):
    pages[at + n - 1:at + n] = end
    try: return os.write(fd, pages[at:at + n])
    except OSError as e: return errno.errorcode[e.errno]
    finally: pages[at + n - 1:at + n] = b'x'
print(sent(most), sent(most, 1), sent(most, 4095, b'\n'), sent(most, 0, b'\n'))
print(*(sent(n, at) for n in (most + 1, 1 << 20, (1 << 20) + 1, 3 << 20) for at in (0, 17)))
print(os.write(fd, b''))
print([len(l) - len('msg 1 PID ') for l in lines(fd, 4)])
`)
	if n := o.delivered(); n != 4 {
		t.Errorf("%d messages were sent, want the 4 that are not too large", n)
	}
}

func TestPoll_AFeedSaysWhatIsTrue(t *testing.T) {
	m, o := mountGroups(t)
	m.onTags(map[string]func(){
		"full":  func() { o.setFull(true) },
		"empty": func() { o.setFull(false) },
	})
	m.wantPython("joined IN|OUT\nidle OUT\nread -\nreadable IN|OUT\nafter -\nfull -\nand readable IN\nroom OUT\nput out IN|OUT|HUP\neof True EPIPE\nstill IN|OUT|HUP\n", feedWords+`
fd = join(); print('joined', poll(fd, 1000)); lines(fd, 2)
print('idle', poll(fd, 1000)); print('read', poll(fd, 50, select.POLLIN))
os.write(fd, b'x'); print('readable', poll(fd, 1000)); lines(fd, 1); print('after', poll(fd, 50, select.POLLIN))
other = join(); lines(other, 2); os.write(other, b'y'); lines(fd, 2); lines(other, 1)
tell('full'); within(lambda: fails(os.write, join(flags=os.O_NONBLOCK), b'z') == 'EAGAIN')
while poll(fd, 0, select.POLLIN) == 'IN': os.read(fd, 4096)
print('full', poll(fd, 50, select.POLLOUT))
last = join(); print('and readable', poll(fd, 30000)); os.read(fd, 4096)
threading.Timer(0.2, tell, ['empty']).start()
print('room', poll(fd, 30000, select.POLLOUT))
open('cluster/groups/g/ctl', 'w').write('leave 1:%d.1' % os.getpid())
while True:
    b = os.read(fd, 4096)
    if not b: break
print('put out', poll(fd, 30000)); print('eof', os.read(fd, 10) == b'', fails(os.write, fd, b'x')); print('still', poll(fd, 0))
`)
}

func TestPoll_EpollOfAFeedMissesNoEdge(t *testing.T) {
	m, _ := mountGroups(t)
	const program = feedWords + `
fd = join(flags=os.O_NONBLOCK); other = join(); ep = select.epoll()
ep.register(fd, select.EPOLLIN | (select.EPOLLET if sys.argv[1] == 'et' else 0))
def say():
    for i in range(5): time.sleep(0.05); os.write(other, b'%d' % i)
threading.Thread(target=say).start()
got, wakes = '', 0
while len(got) < 5:
    assert ep.poll(30), 'no event, got %r' % got
    wakes += 1
    try:
        while True: got += ''.join(l[-1] for l in os.read(fd, 4096).decode().splitlines() if l.startswith('msg'))
    except BlockingIOError: pass
print(got, 'not too many wake-ups' if wakes < 20 else wakes)
`
	m.wantPython("01234 not too many wake-ups\n", program, "et")
	m.wantPython("01234 not too many wake-ups\n", program, "lt")
}

// A write that finds no room waits, whole, and a signal takes it back whole.
func TestFeed_AWriteThatWaitsIsSentWholeOrNotAtAll(t *testing.T) {
	for _, file := range []string{"feed", "packets", "send"} {
		m, o := mountGroups(t)
		o.setFull(true)
		m.onTags(map[string]func(){"room": func() { o.setFull(false) }})
		m.wantPython("EAGAIN\ninterrupted\ninterrupted\nkilled\n700000 1000000\n['b', 'c']\n", feedWords+`
path = 'cluster/groups/g/' + sys.argv[1]
mode = os.O_WRONLY if sys.argv[1] == 'send' else os.O_RDWR
listen = join(); lines(listen, 2)
fd = os.open(path, mode)
os.set_blocking(fd, False); print(fails(os.write, fd, b'x')); os.set_blocking(fd, True)
print(interrupted(os.write, fd, b'x'))
print(interrupted(os.write, fd, b'x' * 900000))
pid = os.fork()
if pid == 0: os.write(fd, b'x' * 900000); os._exit(1)
time.sleep(0.2); os.kill(pid, 9); print('killed' if os.waitpid(pid, 0)[1] == 9 else 'ended')
n = [0, 0]
two = os.open(path, mode)
def write(i, f, b): n[i] = os.write(f, b)
ts = [threading.Thread(target=write, args=(0, fd, b'b' * 700000)), threading.Thread(target=write, args=(1, two, b'c' * 1000000))]
for t in ts: t.start()
time.sleep(0.2); tell('room')
for t in ts: t.join()
print(*n)
got = set()
while len(got) < 2:
    for l in lines(listen, 1):
        if l.startswith('msg'):
            text = l.split()[-1]; assert len(set(text)) == 1 and len(text) == {'b': 700000, 'c': 1000000}[text[0]]; got.add(text[0])
print(sorted(got))
`, file)
		if n := o.delivered(); n != 2 {
			t.Errorf("%s: %d messages were sent, want 2", file, n)
		}
		nothingHeld(t, m)
	}
}

// An open of /dev/fd/N is another file of one membership; each other open is a membership of its own, with a number.
func TestFeed_EachOpenIsAMembership(t *testing.T) {
	m, _ := mountGroups(t)
	m.wantPython("3 3\n['1:PID', '1:PID.2', '1:PID.3']\n3\nmsg 1 PID.2 hello\nEOF\n", feedWords+`
fds = [join(), join(), join('cluster/groups/g/packets')]
print(len({os.fstat(fd).st_ino for fd in fds}), len(open('cluster/groups/g/members').readlines()))
lines(fds[1], 3); conf = [l for l in lines(fds[0], 4) if l.startswith('conf')][-1]
print(conf.split()[1].split('=')[1].split(','))
again = os.open('/dev/fd/%d' % fds[0], os.O_RDONLY); print(len(open('cluster/groups/g/members').readlines()))
os.close(fds[0]); os.write(fds[1], b'hello'); print(lines(again, 1)[0])
open('cluster/groups/g/ctl', 'w').write('leave 1:%d.1' % os.getpid())
while os.read(again, 4096): pass
print('EOF')
`)
}

// So many processes that join at once meet in the kernel's table of names as well.
func TestFeed_AStormOfJoins(t *testing.T) {
	m, _ := mountGroups(t)
	const threads = 1000
	before := m.server.Stats().Requests
	m.wantPython("1000 1000 1000 1\n", feedWords+`
import resource
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]; resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
gate, fds = threading.Barrier(1000), []
def f(): gate.wait(); fds.append(join())
threading.stack_size(256 * 1024)
ts = [threading.Thread(target=f) for i in range(1000)]
for t in ts: t.start()
for t in ts: t.join()
print(len(fds), len({os.fstat(fd).st_ino for fd in fds}), len(open('cluster/groups/g/members').readlines()), len(os.listdir('cluster/groups')))
`)
	if n := m.server.Stats().Requests - before; n > 40*threads {
		t.Errorf("%d joins took %d requests", threads, n)
	}
	m.want(`until [ -z "$(cat cluster/groups/g/members)" ]; do sleep 0.05; done; rmdir cluster/groups/g; ls cluster/groups`, "")
}
