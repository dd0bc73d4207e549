package ring

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/convoke-fs/convoke/test/daemon"
)

// printMember is a member in shell: it joins, says how it is called, sends a line now and then, and prints the feed until
// its own line end.
const printMember = `
exec 9<>cluster/groups/g/feed || exit 1
{
	while IFS= read -r line; do
		printf '%s\n' "$line"
		case $line in *" end") exit;; esac
	done
} <&9 9<&- >"$1" &
i=0
while [ $i -lt 40 ] && [ ! -e "$2" ]; do
	i=$((i+1))
	echo "line $i of $3" >&9 || exit 1
	sleep 0.1
done
until [ -e "$2" ]; do sleep 0.1; done
wait
`

// Two members in shell on different nodes print the same, byte for byte between the same changes of the ring, while the
// daemon of a third is killed and comes back.
func TestShell_MembersPrintTheSame(t *testing.T) {
	for _, shell := range [][]string{{"dash"}, {"bash"}, {"busybox", "sh"}} {
		t.Run(shell[0], func(t *testing.T) {
			daemon.Need(t, shell[0])
			c := start(t, 3, clusterOpts{})
			c.mkdir(0, "g")
			dir := t.TempDir()
			stop := filepath.Join(dir, "stop")
			third := c.spawn(2, "feed", "g", 1, 50*time.Millisecond, 100, filepath.Join(dir, "trace"))
			third.Expect("joined")
			var outs []string
			for i := range 2 {
				out := filepath.Join(dir, fmt.Sprint(i))
				outs = append(outs, out)
				c.nodes[i].Spawn(daemon.Root, append(shell, "-c", printMember, "sh", out, stop, c.nodes[i].Name)...)
			}
			has := func(text string) func() bool {
				return func() bool {
					for _, out := range outs {
						if b, _ := os.ReadFile(out); !strings.Contains(string(b), text) {
							return false
						}
					}
					return true
				}
			}
			daemon.Eventually(t, longTime, "both read each other", func() bool { return has("of n1")() && has("of n2")() })
			before := c.quorum(0, "ring")
			c.nodes[2].Kill()
			daemon.Eventually(t, longTime, "both see the third go", has(":NODEDOWN"))
			c.startNode(2)
			c.together(0, 1, 2)
			again := c.spawn(2, "feed", "g", 2, 50*time.Millisecond, 100, filepath.Join(dir, "trace2"))
			again.Expect("joined")
			if err := os.WriteFile(stop, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			c.nodes[0].Want("echo end >cluster/groups/g/send", "")
			daemon.Eventually(t, longTime, "both read the end", has(" end\n"))
			a, b := between(t, outs[0]), between(t, outs[1])
			compared := 0
			for change, text := range a {
				if other, ok := b[change]; ok {
					compared++
					if other != text {
						t.Errorf("%s: n1 has printed\n%s\nand n2\n%s", change, text, other)
					}
				}
			}
			// One from the ring of the start to that without the third, one to that with it, one to the end.
			if compared < 2 || before == c.quorum(0, "ring") {
				t.Errorf("compared %d stretches from ring %s to %s", compared, before, c.quorum(0, "ring"))
			}
		})
	}
}

// between gives what was printed between two changes of the ring, and from the last one to the end.
func between(t *testing.T, path string) map[string]string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text, _, _ := strings.Cut(string(b), " end\n")
	stretches := map[string]string{}
	begin, last := "", ""
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "ring ") {
			last += line
			continue
		}
		if begin != "" {
			stretches[begin+" to "+line] = last
		}
		begin, last = line, ""
	}
	// The first ring is the one in which it joined, in the middle: so there is a stretch less that both have whole.
	first, _, _ := strings.Cut(text[strings.Index(text, "\nring ")+1:], "\n")
	for change := range stretches {
		if strings.HasPrefix(change, first+"\n to ") {
			delete(stretches, change)
		}
	}
	stretches[begin+" to the end"] = last
	return stretches
}
