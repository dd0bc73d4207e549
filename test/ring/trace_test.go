package ring

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/convoke-fs/convoke/cluster/ring"
	"github.com/convoke-fs/convoke/cluster/ring/check"
)

// readTrace makes a feed of a member's trace, as far as it was written.
func readTrace(in io.Reader) (f check.Feed, err error) {
	lines := bufio.NewReader(in)
	var cur ring.ID
	for n := 1; ; n++ {
		line, err := lines.ReadString('\n')
		if err == io.EOF {
			return f, nil // the beginning of a line is nothing
		}
		if err != nil {
			return f, err
		}
		line = line[:len(line)-1]
		if err := traceLine(&f, &cur, line); err != nil {
			return f, fmt.Errorf("line %d: %q: %w", n, line, err)
		}
	}
}

func traceLine(f *check.Feed, cur *ring.ID, line string) error {
	kind, rest, _ := strings.Cut(line, " ")
	switch kind {
	case "name":
		f.Name = rest
	case "sent":
		_, err := fmt.Sscan(rest, &f.Sent)
		return err
	case "end":
		f.Stayed, f.Final = true, true
	case "conf":
		// A feed does not tell in which ring a change is; what follows does.
		f.Records = append(f.Records, check.Record{Kind: check.Conf, Sum: check.Sum([]byte(rest))})
	case "ring":
		id, _, _ := strings.Cut(rest, " ")
		r, err := parseRing(id)
		if err != nil {
			return err
		}
		*cur = r
		f.Records = append(f.Records, check.Record{Kind: check.Ring, Ring: r, Sum: check.Sum([]byte(rest))})
	case "msg":
		r := check.Record{Kind: check.Msg, Ring: *cur}
		var at string
		if _, err := fmt.Sscan(rest, &r.From, &r.Seq, &r.Sum, &at); err != nil {
			return err
		}
		if at != "-" {
			var err error
			if r.Ring, err = parseRing(at); err != nil {
				return err
			}
		}
		f.Records = append(f.Records, r)
	default:
		return fmt.Errorf("unknown kind %q", kind)
	}
	return nil
}

func parseRing(text string) (r ring.ID, err error) {
	_, err = fmt.Sscanf(text, "%d.%d", &r.Seq, &r.Rep)
	return r, err
}

// readTraceFile gives the feed of a member of a daemon's life. lasted is false for one that ended before all others.
func readTraceFile(path, node string) (check.Feed, error) {
	file, err := os.Open(path)
	if err != nil {
		return check.Feed{}, err
	}
	defer file.Close()
	f, err := readTrace(file)
	if err != nil {
		return f, fmt.Errorf("%s: %w", path, err)
	}
	f.Node = node
	return f, nil
}

func TestReadTrace_UpToWhereItBreaksOff(t *testing.T) {
	f, err := readTrace(strings.NewReader(`conf members=1:42 joined=1:42:JOIN left=-
name 1:42
ring 7.1 members=1,2
msg 2:9.2 1 77 7.1
msg 1:42 1 88 -
sent 1
end
msg 1:42 2`))
	if err != nil {
		t.Fatal(err)
	}
	seven := ring.ID{Seq: 7, Rep: 1}
	want := []check.Record{
		{Kind: check.Conf, Sum: check.Sum([]byte("members=1:42 joined=1:42:JOIN left=-"))},
		{Kind: check.Ring, Ring: seven, Sum: check.Sum([]byte("7.1 members=1,2"))},
		{Kind: check.Msg, Ring: seven, From: "2:9.2", Seq: 1, Sum: 77},
		{Kind: check.Msg, Ring: seven, From: "1:42", Seq: 1, Sum: 88},
	}
	if f.Name != "1:42" || f.Sent != 1 || !f.Final || !f.Stayed || !slices.Equal(f.Records, want) {
		t.Errorf("got %+v", f)
	}
	if _, err := readTrace(strings.NewReader("ring x members=1\n")); err == nil {
		t.Error("got no error for a ring without a number")
	}
}

func TestOwnName_OfTheFirstRecord(t *testing.T) {
	if got, err := ownName("conf members=1:42,2:77.3 joined=2:77.3:JOIN left=-"); got != "2:77.3" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	for _, line := range []string{"ring 1.1 members=1", "conf members=1:2 joined=- left=1:3:LEAVE", "conf members=1:2 joined=1:2:NODEUP left=-"} {
		if got, err := ownName(line); err == nil {
			t.Errorf("%q: got %q and no error", line, got)
		}
	}
}
