package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// cleanUp ends all that the demonstration has started and removes its folder.
// It returns what is left, so that the user knows.
func (d *demo) cleanUp() error {
	if d.dir == "" {
		return nil
	}
	fmt.Fprintln(d.progress, "convoke: cleaning up ...")
	if d.shell != nil {
		d.shell.kill()
	}
	for _, s := range d.servers {
		s.Close()
	}
	var stopping sync.WaitGroup
	for _, n := range d.nodes {
		stopping.Go(n.stop)
	}
	stopping.Wait()
	if d.shell != nil {
		d.shell.wait()
	}

	mounted, err := mountsBelow(d.dir)
	if err != nil {
		return err
	}
	for _, dir := range mounted {
		if err := unmount(dir); err != nil {
			return fmt.Errorf("demo: %s is left: %w", dir, err)
		}
	}
	// RemoveAll on a folder in which something is mounted would act on that,
	// so look again.
	if mounted, err = mountsBelow(d.dir); err != nil {
		return err
	}
	if len(mounted) > 0 {
		return fmt.Errorf("demo: still mounted: %s", strings.Join(mounted, " "))
	}
	return os.RemoveAll(d.dir)
}

// mountsBelow returns the mount points below dir, the innermost first.
func mountsBelow(dir string) ([]string, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	return parseMounts(string(text), dir), nil
}

// parseMounts finds the mount points below dir in mountinfo(5), whose fifth
// field is the mount point with blanks and backslashes as \OOO.
func parseMounts(mountinfo, dir string) []string {
	var found []string
	for line := range strings.Lines(mountinfo) {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		if point := unescape(fields[4]); strings.HasPrefix(point, dir+"/") {
			found = append([]string{point}, found...)
		}
	}
	return found
}

// unescape resolves \OOO.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+4 <= len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// unmount takes a mount away at once, whoever still uses it.
func unmount(dir string) error {
	if os.Geteuid() == 0 {
		return unix.Unmount(dir, unix.MNT_DETACH)
	}
	out, err := exec.Command("fusermount3", "-u", "-z", dir).CombinedOutput()
	if err != nil {
		return errors.Join(err, errors.New(strings.TrimSpace(string(out))))
	}
	return nil
}
