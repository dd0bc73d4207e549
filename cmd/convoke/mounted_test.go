package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// daemon starts a convoked that is a cluster of one, and returns its mount
// point and process.
func daemon(t *testing.T) (mount string, process *os.Process) {
	t.Helper()
	needFuse(t)
	dir := t.TempDir()
	mount = filepath.Join(dir, "n")
	// It tells when it is ready as it tells systemd.
	ready, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "ready"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer ready.Close()
	var log bytes.Buffer
	cmd := exec.Command(binaries(t).convoked, "--config", "/dev/null", "--name", "solo", "--bind", "127.0.0.1",
		"--state", filepath.Join(dir, "state"), "--run", filepath.Join(dir, "run"), mount)
	cmd.Env = append(demoEnv(), "NOTIFY_SOCKET="+filepath.Join(dir, "ready"))
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
		mounts, err := mountsBelow(dir)
		for _, dead := range mounts {
			unmount(dead)
		}
		if t.Failed() {
			t.Logf("mounts left: %q, %v\nconvoked:\n%s", mounts, err, &log)
		}
	})
	ready.SetReadDeadline(time.Now().Add(readyTime))
	buf := make([]byte, 4096)
	for {
		n, err := ready.Read(buf)
		if err != nil {
			t.Fatalf("convoked is not ready: %v", err)
		}
		if strings.Contains(string(buf[:n]), "READY=1") {
			return mount, cmd.Process
		}
	}
}

// listen runs a server on loopback that serves one connection, and returns its
// path in a tree.
func listen(t *testing.T, serve func(*net.TCPConn) error) (path string, served chan error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	served = make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			served <- err
			return
		}
		defer conn.Close()
		served <- serve(conn.(*net.TCPConn))
	}()
	return fmt.Sprintf("dev/tcp/127.0.0.1/%d", l.Addr().(*net.TCPAddr).Port), served
}

func TestMounted_ServerSeesTheEndOfTheInputAndStillAnswers(t *testing.T) {
	mount, _ := daemon(t)
	path, served := listen(t, func(conn *net.TCPConn) error {
		n, err := io.Copy(io.Discard, conn)
		if err == nil {
			_, err = fmt.Fprintf(conn, "%d bytes\n", n)
		}
		return err
	})
	const size = 3<<20 + 1
	cmd := exec.Command(binaries(t).convoke, "--mount", mount, "connect", path)
	cmd.Stdin = bytes.NewReader(make([]byte, size))
	out, err := cmd.CombinedOutput()
	if want := fmt.Sprintf("%d bytes\n", size); err != nil || string(out) != want {
		t.Errorf("got %q, %v, want %q", out, err, want)
	}
	if err := <-served; err != nil {
		t.Errorf("server: %v", err)
	}
}

func TestMounted_EndOfTheStreamEndsConnectThoughInputGoesOn(t *testing.T) {
	mount, _ := daemon(t)
	path, _ := listen(t, func(conn *net.TCPConn) error {
		_, err := io.WriteString(conn, "bye\n")
		return err
	})
	cmd := exec.Command(binaries(t).convoke, "--mount", mount, "connect", path)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	out, err := cmd.Output()
	if err != nil || string(out) != "bye\n" {
		t.Errorf("got %q, %v", out, err)
	}
}

func TestMounted_ResetIsAFailure(t *testing.T) {
	mount, _ := daemon(t)
	path, _ := listen(t, func(conn *net.TCPConn) error {
		// Only when it is open on both sides.
		if _, err := conn.Read(make([]byte, 1)); err != nil {
			return err
		}
		return conn.SetLinger(0)
	})
	cmd := exec.Command(binaries(t).convoke, "--mount", mount, "connect", path)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	if _, err := stdin.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.CombinedOutput()
	if want := "convoke: read " + path + ": connection reset by peer\n"; err == nil || string(out) != want {
		t.Errorf("got %q, %v, want %q", out, err, want)
	}
}

func TestMounted_DeathOfTheDaemonEndsEvents(t *testing.T) {
	mount, process := daemon(t)
	cmd := exec.Command(binaries(t).convoke, "--mount", mount, "events")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var shown strings.Builder
	buf := make([]byte, 4096)
	for !strings.Contains(shown.String(), "SNAPEND") {
		n, err := stdout.Read(buf)
		shown.Write(buf[:n])
		if err != nil {
			t.Fatalf("%v\n%s%s", err, &shown, &stderr)
		}
	}
	if err := process.Kill(); err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, stdout)
	if err := cmd.Wait(); err == nil || !strings.Contains(stderr.String(), "the daemon of this mount is gone") {
		t.Errorf("got %v, %q", err, &stderr)
	}
}
