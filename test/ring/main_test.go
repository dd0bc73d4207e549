package ring

import (
	"flag"
	"os"
	"testing"
	"time"

	"github.com/convoke-fs/convoke/test/daemon"
)

var (
	soakTime  = flag.Duration("duration", 0, "how long Soak makes faults; it is skipped without")
	soakSeed  = flag.Uint64("seed", 1, "of Soak")
	soakNodes = flag.Int("nodes", 5, "daemons of Soak")
	traceDir  = flag.String("traces", "", "keep the members' traces in this folder")
)

// The test program is also the members.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == memberRole {
		os.Exit(runMember(os.Args[2:]))
	}
	os.Exit(daemon.Main(m))
}

// deadAfter is how long a member of the ring may be silent here: on a busy machine nobody is to be put out who was only
// not scheduled. The race detector makes a daemon several times slower.
func deadAfter(plain bool) time.Duration {
	if daemon.Race && !plain {
		return 4 * time.Second
	}
	return 1500 * time.Millisecond
}
