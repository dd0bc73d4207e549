package main

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// module is what convoked is built from where no binary lies beside convoke.
const module = "github.com/convoke-fs/convoke"

// demoNeeds tells what is missing on this machine for a user with this uid.
func demoNeeds(uid int) error {
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return errors.New("demo: there is no /dev/fuse: as root, modprobe fuse; in a container, " +
			"start it with --device /dev/fuse --cap-add SYS_ADMIN")
	case errors.Is(err, os.ErrPermission):
		return errors.New("demo: /dev/fuse may not be opened: as root, chmod 666 /dev/fuse")
	case err != nil:
		return fmt.Errorf("demo: %w", err)
	}
	f.Close()
	if uid != 0 {
		if _, err := exec.LookPath("fusermount3"); err != nil {
			return errors.New("demo: fusermount3 is missing, which mounts for users other than root: " +
				"install the package fuse3")
		}
	}
	return nil
}

// prepare makes the folder, finds the programs, picks the port and starts the
// shell.
func (d *demo) prepare() error {
	dir, err := os.MkdirTemp("", "convoke-demo-")
	if err != nil {
		return err
	}
	d.dir = dir
	// The longest path of a socket in a mount must fit into a sockaddr_un.
	if longest := filepath.Join(dir, "web1", greetPath); len(longest) > 107 {
		return fmt.Errorf("demo: %s is too long a path for sockets: set TMPDIR", dir)
	}
	bin := filepath.Join(dir, "bin")
	for _, sub := range []string{bin, filepath.Join(dir, "log")} {
		if err := os.Mkdir(sub, 0o755); err != nil {
			return err
		}
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if err := os.Symlink(self, filepath.Join(bin, "convoke")); err != nil {
		return err
	}
	d.convoked = filepath.Join(bin, "convoked")
	if err := d.provideConvoked(filepath.Dir(self)); err != nil {
		return err
	}
	if d.port, err = freePort(demoAddrs); err != nil {
		return err
	}
	d.shell, err = startShell(d.dir, bin, d.out)
	return err
}

// provideConvoked puts the daemon into the demonstration's folder: the one
// beside convoke, else one built from the source where convoke runs by `go
// run` in it, else the one in PATH.
func (d *demo) provideConvoked(beside string) error {
	binary := filepath.Join(beside, "convoked")
	if _, err := exec.LookPath(binary); err == nil {
		return os.Symlink(binary, d.convoked)
	}
	if inSource() {
		fmt.Fprintln(d.progress, "convoke: building convoked ...")
		build := exec.CommandContext(d.ctx, "go", "build", "-o", d.convoked, module+"/cmd/convoked")
		build.Stdout, build.Stderr = d.progress, d.progress
		if err := build.Run(); err != nil {
			return fmt.Errorf("demo: go build %s/cmd/convoked: %w", module, err)
		}
		return nil
	}
	if binary, err := exec.LookPath("convoked"); err == nil {
		if binary, err = filepath.Abs(binary); err != nil {
			return err
		}
		return os.Symlink(binary, d.convoked)
	}
	return errors.New("demo: no convoked beside convoke or in PATH, and this is not convoke's source")
}

// inSource tells whether the working directory lies in convoke's module and
// the Go tool is there to build it.
func inSource() bool {
	out, err := exec.Command("go", "list", "-m").Output()
	return err == nil && strings.TrimSpace(string(out)) == module
}

// freePort finds a port that is free at all addrs, for tcp and for udp, and of
// which the next one is, where daemons listen for each other. They cannot be
// kept: somebody else may take one before the daemons do, who then say so. So
// they are not among those that the kernel gives to whoever asks for any.
func freePort(addrs []string) (int, error) {
	var err error
	for range 100 {
		port := firstPort + rand.IntN(lastPort-firstPort)
		if err = tryPort(addrs, port); err == nil {
			return port, nil
		}
	}
	return 0, fmt.Errorf("demo: no port is free: %w", err)
}

// The ports to choose from. The kernel's begin with 32768 by default.
const (
	firstPort = 20000
	lastPort  = 32700
)

// tryPort tells whether port and the next one are free.
func tryPort(addrs []string, port int) error {
	var held []io.Closer
	defer func() {
		for _, c := range held {
			c.Close()
		}
	}()
	for _, addr := range addrs {
		for n := port; n <= port+1; n++ {
			l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.ParseIP(addr), Port: n})
			if err != nil {
				return err
			}
			held = append(held, l)
		}
		u, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(addr), Port: port})
		if err != nil {
			return err
		}
		held = append(held, u)
	}
	return nil
}
