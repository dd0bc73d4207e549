package daemon

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"
)

// Need skips the test where this machine has not what it needs, and says why. Where the environment has CI, that is a
// failure. Known are "fuse" (/dev/fuse can be opened), "fuse-users" (by everybody), "root", "netns" (network namespaces can be made and joined by
// links), and every program by its name.
func Need(t testing.TB, things ...string) {
	t.Helper()
	for _, thing := range things {
		if err := missing(thing); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatalf("needs %s: %v", thing, err)
			}
			t.Skipf("needs %s: %v", thing, err)
		}
	}
}

func missing(thing string) error {
	switch thing {
	case "fuse":
		f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
		if err != nil {
			return err
		}
		return f.Close()
	case "fuse-users":
		st, err := os.Stat("/dev/fuse")
		if err == nil && st.Mode().Perm()&6 != 6 {
			err = fmt.Errorf("/dev/fuse has mode %04o", st.Mode().Perm())
		}
		return err
	case "root":
		if os.Geteuid() != 0 {
			return fmt.Errorf("this is uid %d", os.Geteuid())
		}
		return nil
	case "netns":
		return netns()
	}
	_, err := exec.LookPath(thing)
	return err
}

// netns tries once whether namespaces and their links can be made.
var netns = sync.OnceValue(func() error {
	if os.Geteuid() != 0 {
		return errors.New("only root makes network namespaces")
	}
	if _, err := exec.LookPath("nsenter"); err != nil {
		return err
	}
	name := fmt.Sprintf("cv%d-try", os.Getpid())
	if err := ip("netns", "add", name); err != nil {
		return err
	}
	defer ip("netns", "del", name)
	if err := ip("-n", name, "link", "add", "name", "br0", "type", "bridge"); err != nil {
		return err
	}
	return ip("-n", name, "link", "add", "name", "v0", "type", "veth", "peer", "name", "v1")
})
