package ring

import (
	"fmt"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// A kind is a kind of fault.
type kind int

const (
	split        kind = iota // the nodes of side and the others do not hear each other
	oneWay                   // b does not hear a
	pair                     // a and b do not hear each other, all others do
	deaf                     // a hears nobody
	mute                     // nobody hears a
	reset                    // connections of a and b break, and new ones are refused
	killDaemon               // by SIGKILL; it is started again
	stopDaemon               // by SIGSTOP, until SIGCONT
	endDaemon                // by SIGTERM; it is started again
	killMember               // of a, by SIGKILL; another one follows at once
	stopMember               // of a
	kindsOfFault             // how many there are
)

var kindNames = [kindsOfFault]string{
	"split", "one way", "pair", "deaf", "mute", "reset", "kill daemon", "stop daemon", "end daemon", "kill member", "stop member",
}

// A fault is something that goes wrong for a while.
type fault struct {
	kind   kind
	at     time.Duration // since the start
	length time.Duration
	a, b   int  // nodes
	side   uint // a set of nodes
	member int  // which of the node's
}

func (f fault) String() string {
	text := fmt.Sprintf("%6.2f s %s n%d", f.at.Seconds(), kindNames[f.kind], f.a+1)
	switch f.kind {
	case split:
		text = fmt.Sprintf("%6.2f s %s %0*b", f.at.Seconds(), kindNames[f.kind], bits.Len(f.side), f.side)
	case oneWay, pair, reset:
		text += fmt.Sprintf(" n%d", f.b+1)
	case killMember, stopMember:
		text += fmt.Sprintf(" %d", f.member)
	}
	return text + fmt.Sprintf(" for %.2f s", f.length.Seconds())
}

// longest is how long a fault of a kind may last. Some are to be too short for anybody to be put out.
var longest = [kindsOfFault]time.Duration{
	split: 4 * time.Second, oneWay: 4 * time.Second, pair: 4 * time.Second, deaf: 3 * time.Second, mute: 3 * time.Second,
	reset: 400 * time.Millisecond, killDaemon: 2 * time.Second, stopDaemon: 4 * time.Second, endDaemon: time.Second,
	killMember: 0, stopMember: 3 * time.Second,
}

// planFaults makes the schedule of a seed: faults for n nodes with so many members each, that begin within d. Some
// follow each other so soon that they meet.
func planFaults(seed uint64, n, members int, d time.Duration) (plan []fault) {
	r := rand.New(rand.NewPCG(seed, 2))
	// Each run has only some of the kinds, so that those meet more often.
	var kinds []kind
	for len(kinds) < 4 {
		kinds = kinds[:0]
		for k := range kindsOfFault {
			if r.IntN(3) > 0 {
				kinds = append(kinds, k)
			}
		}
	}
	for at := time.Second; at < d; {
		f := fault{kind: kinds[r.IntN(len(kinds))], at: at, a: r.IntN(n), member: r.IntN(members)}
		f.b = (f.a + 1 + r.IntN(n-1)) % n
		f.side = 1 + uint(r.IntN(1<<n-2))
		if most := longest[f.kind]; most > 0 {
			f.length = 10*time.Millisecond + time.Duration(r.Int64N(int64(most)))
		}
		plan = append(plan, f)
		at += 100*time.Millisecond + time.Duration(r.Int64N(int64(2*time.Second)))
	}
	return plan
}

func TestPlanFaults_IsTheSameForASeedAndWithinBounds(t *testing.T) {
	seen := map[kind]bool{}
	for seed := range uint64(50) {
		plan := planFaults(seed, 3, 2, 20*time.Second)
		if !slices.Equal(plan, planFaults(seed, 3, 2, 20*time.Second)) {
			t.Fatalf("seed %d gives two plans", seed)
		}
		if len(plan) < 8 {
			t.Errorf("seed %d: got %d faults in 20 s", seed, len(plan))
		}
		for _, f := range plan {
			seen[f.kind] = true
			if f.a == f.b || f.a >= 3 || f.b >= 3 || f.side == 0 || f.side >= 7 || f.member >= 2 || f.at >= 20*time.Second || f.length > 5*time.Second {
				t.Errorf("seed %d: %+v", seed, f)
			}
		}
	}
	if len(seen) != int(kindsOfFault) {
		t.Errorf("got %d kinds of faults, want %d", len(seen), kindsOfFault)
	}
}
