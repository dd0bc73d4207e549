package security

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/test/daemon"
)

func TestMain(m *testing.M) { os.Exit(daemon.Main(m)) }

// start starts a node of one for a test that runs beside others.
func start(t *testing.T, args ...string) *daemon.Node {
	t.Helper()
	daemon.Need(t, "fuse", "root")
	t.Parallel()
	return daemon.Start(t, daemon.Opts{Args: args})
}

// id returns the number of the connection that f is.
func id(t *testing.T, f *daemon.File) string {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(f.FD, &st); err != nil {
		t.Fatal(err)
	}
	return strconv.FormatUint(st.Ino, 10)
}

// field returns the value of key=value in a line.
func field(line, key string) string {
	for _, f := range strings.Fields(line) {
		if v, ok := strings.CutPrefix(f, key+"="); ok {
			return v
		}
	}
	return ""
}
