package fs

import (
	"fmt"
	"net"
	"os/exec"
	"testing"
	"time"
)

// python runs a Python program in the mount point; its arguments are words of args.
func (m *mounted) python(program string, args ...any) result {
	m.t.Helper()
	argv := []string{"python3", "-c", program}
	for _, a := range args {
		argv = append(argv, fmt.Sprint(a))
	}
	return m.run(func(c *exec.Cmd) {}, argv...)
}

func (m *mounted) wantPython(out, program string, args ...any) {
	m.t.Helper()
	needTool(m.t, "python3")
	if r := m.python(program, args...); r.code != 0 || r.out != out {
		m.t.Errorf("python3:%s\ngot  %q (status %d, stderr %q)\nwant %q", program, r.out, r.code, r.err, out)
	}
}

const pollWords = `
import os, select, sys, time
def words(ev):
    return '|'.join(n for n, b in (('IN', select.POLLIN), ('OUT', select.POLLOUT), ('ERR', select.POLLERR), ('HUP', select.POLLHUP), ('RDHUP', 0x2000)) if ev & b) or '-'
def poll(fd, ms, mask=select.POLLIN|select.POLLOUT):
    p = select.poll(); p.register(fd, mask)
    r = p.poll(ms)
    return words(r[0][1]) if r else '-'
def path(port): return 'dev/tcp/127.0.0.1/' + port
`

func TestPoll_SaysWhatASocketWouldSay(t *testing.T) {
	m := mountTree(t)
	port := listen(t, func(c *net.TCPConn) {
		defer c.Close()
		buf := make([]byte, 1)
		for {
			if _, err := c.Read(buf); err != nil {
				return
			}
			switch buf[0] {
			case 'd': // data, now
				_, _ = c.Write([]byte("data"))
			case 'l': // data, later
				time.Sleep(300 * time.Millisecond)
				_, _ = c.Write([]byte("late"))
			case 'e': // end of file
				_ = c.CloseWrite()
			case 'r': // reset
				_ = c.SetLinger(0)
				return
			}
		}
	})
	m.wantPython("idle OUT\nread -\nreadable IN\nafter -\nlate IN\neof IN\nreset IN|ERR|HUP\n", pollWords+`
fd = os.open(path(sys.argv[1]), os.O_RDWR)
print('idle', poll(fd, 1000)); print('read', poll(fd, 50, select.POLLIN))
os.write(fd, b'd'); print('readable', poll(fd, 5000, select.POLLIN)); assert os.read(fd, 100) == b'data'
print('after', poll(fd, 50, select.POLLIN))
os.write(fd, b'l'); t = time.time(); print('late', poll(fd, 5000, select.POLLIN)); d = time.time() - t
assert 0.2 < d < 1, d
assert os.read(fd, 100) == b'late'
os.write(fd, b'e'); print('eof', poll(fd, 5000, select.POLLIN)); assert os.read(fd, 100) == b''
fd = os.open(path(sys.argv[1]), os.O_RDWR)
os.write(fd, b'r'); time.sleep(0.3); print('reset', poll(fd, 5000, select.POLLIN))
`, port)
}

func TestPoll_AFullStreamIsNotWritableUntilThePeerReads(t *testing.T) {
	m := mountTree(t)
	read := make(chan bool)
	port := listen(t, func(c *net.TCPConn) {
		<-read
		buf := make([]byte, 1<<20)
		for {
			if _, err := c.Read(buf); err != nil {
				return
			}
		}
	})
	m.onTag(func() { close(read) })
	m.wantPython("full -\nEAGAIN\nselect says writable\n", pollWords+`
fd = os.open(path(sys.argv[1]), os.O_RDWR|os.O_NONBLOCK)
try:
    while True: os.write(fd, b'x'*65536)
except BlockingIOError: pass
print('full', poll(fd, 50, select.POLLOUT))
try:
    while True: os.write(fd, b'x'*(1<<20)) # what poll calls full may still take a little
except BlockingIOError: print('EAGAIN')
open('cluster/ctl', 'w').write('tag now=read')
r, w, x = select.select([], [fd], [], 10)
print('select says', 'writable' if w else 'nothing')
`, port)
}

func TestPoll_EdgeTriggeredEpollMissesNoEdge(t *testing.T) {
	m := mountTree(t)
	port := listen(t, func(c *net.TCPConn) {
		for i := range 5 {
			time.Sleep(60 * time.Millisecond)
			fmt.Fprintf(c, "%d", i)
		}
		time.Sleep(60 * time.Millisecond)
	})
	const program = pollWords + `
fd = os.open(path(sys.argv[1]), os.O_RDWR|os.O_NONBLOCK)
ep = select.epoll(); ep.register(fd, select.EPOLLIN | (select.EPOLLET if sys.argv[2] == 'et' else 0))
got, wakes = b'', 0
while True:
    ev = ep.poll(5)
    assert ev, 'no event within 5 s, got %r' % got
    wakes += 1
    end = False
    while True:
        try: b = os.read(fd, 100)
        except BlockingIOError: break
        if not b: end = True; break
        got += b
    if end: break
print(got.decode(), 'not too many wake-ups' if wakes < 20 else wakes)
`
	m.wantPython("01234 not too many wake-ups\n", program, port, "et")
	m.wantPython("01234 not too many wake-ups\n", program, port, "lt")
}

func TestPoll_AsyncioReadsAStream(t *testing.T) {
	m := mountTree(t)
	port := listen(t, func(c *net.TCPConn) {
		time.Sleep(100 * time.Millisecond)
		fmt.Fprint(c, "one\n")
		time.Sleep(100 * time.Millisecond)
		fmt.Fprint(c, "two\n")
	})
	m.wantPython("one\ntwo\n", pollWords+`
import selectors
s = selectors.DefaultSelector()
fd = os.open(path(sys.argv[1]), os.O_RDWR|os.O_NONBLOCK)
s.register(fd, selectors.EVENT_READ)
while True:
    assert s.select(5)
    b = os.read(fd, 100)
    if not b: break
    sys.stdout.write(b.decode())
`, port)
}

// busybox's read, for one, polls before each byte that it takes.
func TestPoll_TheRestOfADatagramCanBeRead(t *testing.T) {
	m := mountTree(t)
	p, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	go func() {
		_, from, err := p.ReadFrom(make([]byte, 100))
		if err == nil {
			_, _ = p.WriteTo([]byte("abc"), from)
		}
	}()
	m.wantPython("datagram IN\na\nrest IN\nb\nrest IN\nc\nnothing -\n", pollWords+`
fd = os.open('dev/udp/127.0.0.1/' + sys.argv[1], os.O_RDWR)
os.write(fd, b'x'); print('datagram', poll(fd, 5000, select.POLLIN)); print(os.read(fd, 1).decode())
print('rest', poll(fd, 5000, select.POLLIN)); print(os.read(fd, 1).decode())
print('rest', poll(fd, 5000, select.POLLIN)); print(os.read(fd, 100).decode())
print('nothing', poll(fd, 50, select.POLLIN))
`, p.LocalAddr().(*net.UDPAddr).Port)
}

func TestPoll_EventsFileWakesAPoller(t *testing.T) {
	m := mountTree(t)
	m.onTag(func() {
		time.Sleep(50 * time.Millisecond) // the child most likely polls by then; it passes if not
		m.watch.Ring("13.1", nil)
	})
	m.wantPython("snapshot 3\nnothing -\nthen IN\nMEMBER_LEFT\n", pollWords+`
fd = os.open('cluster/events', os.O_RDONLY)
b = os.read(fd, 4096); print('snapshot', len(b.splitlines()))
print('nothing', poll(fd, 50)); open('cluster/ctl', 'w').write('tag now=leave'); print('then', poll(fd, 10000)); print(os.read(fd, 4096).split()[2].decode())
`)
}

func needTool(t *testing.T, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		skip(t, "needs %s", name)
	}
}
