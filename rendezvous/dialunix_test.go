package rendezvous

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// folder returns a new folder that everybody may search.
func folder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// listenUnix makes a socket in dir and listens with the backlog. The name may be longer than sun_path has room for.
func listenUnix(t *testing.T, dir, name string, typ, backlog int) (fd int) {
	t.Helper()
	dirfd, err := unix.Open(dir, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(dirfd)
	fd, err = unix.Socket(unix.AF_UNIX, typ|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	tmp := filepath.Join("/proc/self/fd", strconv.Itoa(dirfd), "tmp")
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: tmp}); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(tmp, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, backlog); err != nil {
		t.Fatal(err)
	}
	return fd
}

func accept(t *testing.T, l int) int {
	t.Helper()
	fd, _, err := unix.Accept4(l, unix.SOCK_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func mustDialUnix(t *testing.T, dir, name string, c Creds) int {
	t.Helper()
	fd, err := DialUnix(t.Context(), dir, name, c, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func TestDialUnix_PeerSeesTheCaller(t *testing.T) {
	needRoot(t)
	dir := folder(t)
	l := listenUnix(t, dir, "s", unix.SOCK_STREAM, 5)
	checkFDs(t)
	for _, want := range []Creds{
		{UID: 1000, GID: 1001, Groups: []uint32{5000, 5001}}, {UID: 1000, GID: 1001}, {UID: 0, GID: 1001}, self,
	} {
		fd := mustDialUnix(t, dir, "s", want)
		checkBare(t, fd)
		peer := accept(t, l)
		cred, err := unix.GetsockoptUcred(peer, unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil || cred.Uid != want.UID || cred.Gid != want.GID || int(cred.Pid) != os.Getpid() {
			t.Errorf("got %+v, %v, want %+v", cred, err, want)
		}
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil || st.Uid != want.UID {
			t.Errorf("owner: got %d, %v, want %d", st.Uid, err, want.UID)
		}
		if _, err := unix.Write(fd, []byte("hello")); err != nil {
			t.Error(err)
		}
		buf := make([]byte, 16)
		if n, err := unix.Read(peer, buf); err != nil || string(buf[:n]) != "hello" {
			t.Errorf("got %q, %v", buf[:n], err)
		}
	}
	checkIdentity(t)
}

func TestDialUnix_PermissionsAreTheCallers(t *testing.T) {
	needRoot(t)
	eve := Creds{UID: 1000, GID: 1001, Groups: []uint32{5000}}
	for _, tt := range []struct {
		name     string
		dirMode  os.FileMode
		mode     os.FileMode
		uid, gid int
		want     unix.Errno
	}{
		{"for all", 0o755, 0o666, 0, 0, 0},
		{"root's own", 0o755, 0o600, 0, 0, unix.EACCES},
		{"caller's own", 0o755, 0o600, 1000, 0, 0},
		{"caller's group", 0o755, 0o660, 0, 1001, 0},
		{"caller's supplementary group", 0o755, 0o660, 0, 5000, 0},
		{"another group", 0o755, 0o660, 0, 5001, unix.EACCES},
		{"read only", 0o755, 0o444, 0, 0, unix.EACCES},
		{"closed folder", 0o700, 0o666, 0, 0, unix.EACCES},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := folder(t)
			listenUnix(t, dir, "s", unix.SOCK_STREAM, 5)
			checkFDs(t)
			path := filepath.Join(dir, "s")
			if err := errors.Join(os.Chown(path, tt.uid, tt.gid), os.Chmod(path, tt.mode), os.Chmod(dir, tt.dirMode)); err != nil {
				t.Fatal(err)
			}
			if tt.want == 0 {
				mustDialUnix(t, dir, "s", eve)
				return
			}
			_, err := DialUnix(t.Context(), dir, "s", eve, 0)
			wantErrno(t, err, tt.want)
		})
	}
	checkIdentity(t)
}

func TestDialUnix_PathMayBeLongerThanAnAddress(t *testing.T) {
	dir := filepath.Join(folder(t), strings.Repeat("d", 200))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	name := strings.Repeat("n", MaxElement)
	l := listenUnix(t, dir, name, unix.SOCK_STREAM, 5)
	checkFDs(t)
	mustDialUnix(t, dir, name, self)
	accept(t, l)
}

func TestDialUnix_SaysWhatConnectSays(t *testing.T) {
	dir := folder(t)
	listenUnix(t, dir, "s", unix.SOCK_STREAM, 5)
	listenUnix(t, dir, "packets", unix.SOCK_SEQPACKET, 5)
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "dead")})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	err = errors.Join(os.WriteFile(filepath.Join(dir, "file"), nil, 0o666), os.Symlink("s", filepath.Join(dir, "link")))
	if err != nil {
		t.Fatal(err)
	}
	checkFDs(t)
	for _, tt := range []struct {
		dir, name string
		want      unix.Errno
	}{
		{dir, "absent", unix.ENOENT},
		{dir + "/absent", "s", unix.ENOENT},
		{dir + "/file", "s", unix.ENOTDIR},
		{dir, "dead", unix.ECONNREFUSED},
		{dir, "file", unix.ECONNREFUSED},
		{dir, "link", unix.ECONNREFUSED},
		{dir, "packets", unix.EPROTOTYPE},
		{dir, "", unix.EINVAL},
		{dir, ".", unix.EINVAL},
		{dir, "..", unix.EINVAL},
		{dir, "../x", unix.EINVAL},
		{dir, "a\x00b", unix.EINVAL},
		{dir, strings.Repeat("x", MaxElement+1), unix.EINVAL},
	} {
		fd, err := DialUnix(t.Context(), tt.dir, tt.name, self, 0)
		if fd != -1 {
			t.Errorf("%s: got descriptor %d", tt.name, fd)
		}
		wantErrno(t, err, tt.want)
	}
	_, err = DialUnix(t.Context(), dir, "s", Creds{UID: noID}, 0)
	wantErrno(t, err, unix.EINVAL)
}

// fullUnix returns a listener whose backlog has no room.
func fullUnix(t *testing.T, dir string) int {
	t.Helper()
	l := listenUnix(t, dir, "s", unix.SOCK_STREAM, 0)
	mustDialUnix(t, dir, "s", self)
	fd, err := connectUnixIn(dir, "s")
	if err != unix.EAGAIN {
		unix.Close(fd)
		t.Fatalf("the backlog is not full: %v", err)
	}
	return l
}

func connectUnixIn(dir, name string) (int, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fd)
	return connectUnix(fd, name, nil)
}

func TestDialUnix_WaitsForRoomInTheBacklog(t *testing.T) {
	dir := folder(t)
	l := fullUnix(t, dir)
	checkFDs(t)
	time.AfterFunc(20*time.Millisecond, func() {
		if fd, _, err := unix.Accept(l); err == nil {
			unix.Close(fd)
		}
	})
	mustDialUnix(t, dir, "s", self)
}

func TestDialUnix_FullBacklogEndsWithTheTime(t *testing.T) {
	dir := folder(t)
	fullUnix(t, dir)
	checkFDs(t)
	_, err := DialUnix(t.Context(), dir, "s", self, 30*time.Millisecond)
	wantErrno(t, err, unix.ETIMEDOUT)

	why := errors.New("caller was interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(20*time.Millisecond, func() { cancel(why) })
	_, err = DialUnix(ctx, dir, "s", self, 0)
	wantErrno(t, err, unix.EINTR)
	if !errors.Is(err, why) {
		t.Errorf("the cause is lost: %v", err)
	}
	_, err = DialUnix(ctx, dir, "s", self, 0)
	wantErrno(t, err, unix.EINTR)
}

// A file system that does not answer keeps the attempt, not the caller; what comes of the attempt later is closed.
func TestRetryUnix_LateResultIsClosed(t *testing.T) {
	for _, name := range []string{"time is over", "interrupted"} {
		synctest.Test(t, func(t *testing.T) {
			var fds [2]int
			if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fds[0])
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			want := unix.ETIMEDOUT
			if name == "interrupted" {
				want = unix.EINTR
				time.AfterFunc(time.Second, cancel)
			}
			result := make(chan unixResult)
			start := time.Now()
			_, err := retryUnix(ctx, "p", 0, func() <-chan unixResult { return result })
			wantErrno(t, err, want)
			if d := time.Since(start); want == unix.ETIMEDOUT && d != DefaultTimeout || want == unix.EINTR && d != time.Second {
				t.Errorf("%s: after %v", name, d)
			}
			result <- unixResult{fd: fds[1]}
			synctest.Wait()
			if n, err := unix.Read(fds[0], make([]byte, 1)); n != 0 || err != nil {
				t.Errorf("%s: got %d, %v, want the end of the pipe", name, n, err)
			}
		})
	}
}

func TestRetryUnix_FullBacklogIsTriedMoreAndMoreSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var at []time.Duration
		_, err := retryUnix(t.Context(), "p", time.Second, func() <-chan unixResult {
			at = append(at, time.Since(start)/time.Millisecond)
			result := make(chan unixResult, 1)
			result <- unixResult{-1, unix.EAGAIN}
			return result
		})
		wantErrno(t, err, unix.ETIMEDOUT)
		if d := time.Since(start); d != time.Second {
			t.Errorf("gave up after %v", d)
		}
		if want := []time.Duration{0, 1, 3, 7, 15, 31, 63, 113, 163}; len(at) < len(want) || !slices.Equal(at[:len(want)], want) {
			t.Errorf("got attempts at %v ms, want %v", at, want)
		}
	})
}
