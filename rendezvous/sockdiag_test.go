package rendezvous

import (
	"encoding/binary"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestLookupSocket_FindsTheOneBetweenTwoAddresses(t *testing.T) {
	needRoot(t)
	checkFDs(t)
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		_, to := listen(t, addr)
		conn := mustDial(t, DialOpts{Creds: Creds{UID: 1000, GID: 5}}, to)
		var st unix.Stat_t
		if err := unix.Fstat(conn.FD, &st); err != nil {
			t.Fatal(err)
		}
		got, err := lookupSocket(conn.Local, conn.Remote)
		if want := (sockInfo{local: conn.Local, remote: conn.Remote, uid: 1000, inode: uint32(st.Ino), state: 1}); err != nil || got != want {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
		if uid := socketUID(conn.Local, conn.Remote); uid != 1000 {
			t.Errorf("got uid %d", uid)
		}
		// Where there is no connection the kernel gives the listening socket.
		other := netip.AddrPortFrom(conn.Local.Addr(), conn.Local.Port()^1)
		if got, err := lookupSocket(to, other); err != unix.ENOENT {
			t.Errorf("no connection: got %+v, %v", got, err)
		}
		if uid := socketUID(other, to); uid != NoID {
			t.Errorf("no connection: got uid %d", uid)
		}
	}
}

func TestSocketUID_RootAndOtherNamespacesProveNothing(t *testing.T) {
	if !inNetNS(t) {
		return
	}
	_, to := listen(t, "127.0.0.1:0")
	for _, uid := range []uint32{0, overflowUID} {
		conn := mustDial(t, DialOpts{Creds: Creds{UID: uid, GID: 1}}, to)
		if got := socketUID(conn.Local, conn.Remote); got != NoID {
			t.Errorf("uid %d: got %d", uid, got)
		}
	}
	// Root of a user namespace is the one who made it.
	const script = `import socket,sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
print(s.getsockname()[1], flush=True)
sys.stdin.read()`
	cmd := exec.Command("/usr/bin/python3", "-c", script, strings.TrimPrefix(to.String(), "127.0.0.1:"))
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER,
		Credential:  &syscall.Credential{Uid: 0, Gid: 0, NoSetGroups: true},
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 1000, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 1000, Size: 1}},
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer stdin.Close()
	buf := make([]byte, 32)
	n, err := stdout.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	from, err := netip.ParseAddrPort("127.0.0.1:" + strings.TrimSpace(string(buf[:n])))
	if err != nil {
		t.Fatal(err)
	}
	if got := socketUID(from, to); got != 1000 {
		t.Errorf("root of a user namespace: got uid %d, want its maker's", got)
	}
}

// answer is what the kernel says of a TCP socket.
func answer() []byte {
	b := make([]byte, diagAnswer)
	ne, be := binary.NativeEndian, binary.BigEndian
	ne.PutUint32(b[0:], uint32(len(b)))
	ne.PutUint16(b[4:], unix.SOCK_DIAG_BY_FAMILY)
	m := b[diagHeader:]
	m[0], m[1] = unix.AF_INET, 1
	be.PutUint16(m[4:], 40000)
	be.PutUint16(m[6:], 80)
	copy(m[8:], []byte{127, 0, 0, 1})
	copy(m[24:], []byte{127, 0, 0, 2})
	ne.PutUint32(m[64:], 1000)
	ne.PutUint32(m[68:], 99)
	return b
}

func TestParseDiag_TakesWholeAnswersOnly(t *testing.T) {
	good := answer()
	want := sockInfo{
		local: netip.MustParseAddrPort("127.0.0.1:40000"), remote: netip.MustParseAddrPort("127.0.0.2:80"),
		uid: 1000, inode: 99, state: 1,
	}
	if got, err := parseDiag(append(good, "more"...)); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	for n := range good {
		if got, err := parseDiag(good[:n]); err == nil {
			t.Errorf("%d bytes were taken: %+v", n, got)
		}
		short := slices.Clone(good)
		binary.NativeEndian.PutUint32(short, uint32(n))
		if got, err := parseDiag(short); err == nil {
			t.Errorf("length %d was taken: %+v", n, got)
		}
	}
	for i, to := range map[int]byte{4: 3, 16: unix.AF_UNIX} {
		bad := slices.Clone(good)
		bad[i] = to
		if got, err := parseDiag(bad); err == nil {
			t.Errorf("byte %d as %d was taken: %+v", i, to, got)
		}
	}
	e := good[:diagHeader+4]
	binary.NativeEndian.PutUint32(e, uint32(len(e)))
	binary.NativeEndian.PutUint16(e[4:], unix.NLMSG_ERROR)
	code := -int32(unix.ENOENT)
	binary.NativeEndian.PutUint32(e[diagHeader:], uint32(code))
	if _, err := parseDiag(e); err != unix.ENOENT {
		t.Errorf("got %v, want ENOENT", err)
	}
	for _, code := range []int32{0, 5, -5000} { // an acknowledgement is no answer
		binary.NativeEndian.PutUint32(e[diagHeader:], uint32(code))
		if _, err := parseDiag(e); err != errDiag {
			t.Errorf("error %d: got %v", code, err)
		}
	}
}

func FuzzParseDiag(f *testing.F) {
	f.Add(answer())
	f.Add(answer()[:diagHeader+4])
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseDiag(b)
		if err == nil && (!s.local.IsValid() || !s.remote.IsValid()) {
			t.Errorf("%x: got %+v", b, s)
		}
	})
}
