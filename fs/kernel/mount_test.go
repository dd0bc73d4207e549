package kernel

import (
	"bufio"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/fs/quota"
)

func TestMountInfo_TopmostMountOfJustThatFolder(t *testing.T) {
	const text = `22 28 0:21 / /proc rw,nosuid shared:12 - proc proc rw
90 28 0:55 / /n rw shared:40 - fuse.convoke convoke rw
91 28 0:56 / /n rw shared:41 - ext4 /dev/vdb rw
92 28 0:57 / /mnt/with\040blank rw - fuse.convoke convoke rw
93 28 0:58 / /broken
`
	for _, c := range []struct {
		dir    string
		fstype string
		minor  uint64
		ok     bool
	}{{"/n", "ext4", 56, true}, {"/mnt/with blank", "fuse.convoke", 57, true}, {"/mnt", "", 0, false}, {"/broken", "", 0, false}} {
		m, ok := parseMountInfo(text, c.dir)
		if ok != c.ok || m.fstype != c.fstype || m.minor != c.minor {
			t.Errorf("%s: got %+v %v, want %+v", c.dir, m, ok, c)
		}
	}
}

// A process in another mount namespace keeps a copy of the mount, and with it the file system, whatever is unmounted here.
func TestUnmount_EndsTheServerThoughACopyOfTheMountLives(t *testing.T) {
	need := func(ok bool, what string) {
		if !ok && os.Getenv("CI") != "" {
			t.Fatal("needs ", what)
		} else if !ok {
			t.Skip("needs ", what)
		}
	}
	need(os.Geteuid() == 0, "root")
	dev, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	need(err == nil, "/dev/fuse")
	dev.Close()
	need(exec.Command("unshare", "-m", "true").Run() == nil, "mount namespaces")
	for _, byAbort := range []bool{true, false} {
		dir := t.TempDir()
		fd, m, err := Mount(dir)
		if err != nil {
			t.Fatal(err)
		}
		s, err := NewServer(fd, Options{Log: slog.New(slog.DiscardHandler), Quota: quota.New(1 << 20)})
		if err != nil {
			t.Fatal(err)
		}
		s.SetTree(&fakeTree{RawFileSystem: fuse.NewDefaultRawFileSystem()})
		served := make(chan error, 1)
		go func() { served <- s.Serve() }()
		if m.aborter < 0 {
			t.Error("root has no file by which the connection can be aborted")
		} else if !byAbort {
			unix.Close(m.aborter) // as where there is none
			m.aborter = -1
		}
		cmd := exec.Command("unshare", "-m", "sh", "-c", "echo there; exec sleep 1000")
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if err := m.Unmount(); err != nil {
			t.Errorf("unmount: %v", err)
		}
		ended := make(chan error, 1)
		go func() { ended <- m.Ended(served) }()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("the server ended with %v", err)
			}
		case <-time.After(30 * time.Second):
			t.Fatal("the wait for the server's end has no end")
		}
		if len(s.files.open) != 0 || !s.conn.closed {
			t.Errorf("by abort %v: after %v the server has not ended", byAbort, time.Since(start))
		}
		copied := filepath.Join("/proc", strconv.Itoa(cmd.Process.Pid), "root", dir)
		if err := statSoon(copied, 30*time.Second); !errors.Is(err, unix.ENOTCONN) {
			t.Errorf("by abort %v: the copy says %v, want ENOTCONN", byAbort, err)
		}
		cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	}
}
