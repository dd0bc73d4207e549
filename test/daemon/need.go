package daemon

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/convoke-fs/convoke/test/netns"
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
		return netns.Usable()
	}
	_, err := exec.LookPath(thing)
	return err
}
