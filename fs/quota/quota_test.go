package quota

import (
	"strings"
	"testing"
)

func TestTable_OneUserAtTheLimitLeavesOthersTheirs(t *testing.T) {
	q := New(reserved + 100)
	if err := q.Set("streams * 2"); err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{true, true, false} {
		if got := q.Take(1000, Streams, 1); got != want {
			t.Errorf("take %d of uid 1000: got %v, want %v", i+1, got, want)
		}
	}
	if !q.Take(1001, Streams, 2) {
		t.Error("uid 1001 was refused while uid 1000 is at the limit")
	}
	if !q.Take(0, Streams, 95) || q.Take(0, Streams, 2) {
		t.Error("root: want all descriptors but those of others and the daemon's own")
	}
	q.Give(1000, Streams, 1)
	if !q.Take(1000, Streams, 1) {
		t.Error("refused after one was given back")
	}
	q.Give(1000, Streams, 2)
	q.Give(1001, Streams, 2)
	q.Give(0, Streams, 95)
	if n := q.Held(Streams); n != 0 || len(q.counts) != 0 {
		t.Errorf("held %d, %d users counted, want nothing left", n, len(q.counts))
	}
}

func TestTable_AnAnnouncementCostsTwoDescriptors(t *testing.T) {
	q := New(reserved + 3)
	if !q.Take(0, Announcements, 1) || q.Take(0, Announcements, 1) || !q.Take(0, Sockets, 1) || q.Take(0, Streams, 1) {
		t.Error("of three descriptors: want one announcement, one connection of the socket and nothing more")
	}
	q.Give(0, Announcements, 1)
	q.Give(0, Sockets, 1)
	for _, c := range []struct {
		name string
		r    Resource
		n    int64
	}{{"announcements", Announcements, 256}, {"sockets", Sockets, 1024}, {"waiting", Waiting, 4096}, {"memberships", Memberships, 1024}} {
		q := New(1 << 20)
		if !q.Take(1000, c.r, c.n) || q.Take(1000, c.r, 1) {
			t.Errorf("%s: want exactly %d", c.name, c.n)
		}
		if err := q.Set(c.name + " 1001 1"); err != nil || !q.Take(1001, c.r, 1) || q.Take(1001, c.r, 1) {
			t.Errorf("%s: want 1 for uid 1001, whose limit is so (%v)", c.name, err)
		}
	}
}

func TestTable_WaitingClientsLeaveTheDaemonItsOwnDescriptors(t *testing.T) {
	q := New(reserved + 10)
	if !q.Take(1000, Waiting, 4) || !q.Take(1001, Streams, 4) || !q.Take(1002, Waiting, 2) {
		t.Fatal("ten are not to be had")
	}
	for _, r := range []Resource{Waiting, Streams} {
		if q.Take(0, r, 1) {
			t.Errorf("%v: the eleventh is one of the daemon's own", r)
		}
	}
	q.Give(1000, Waiting, 1)
	if !q.Take(0, Streams, 1) {
		t.Error("what a client that has gone leaves is not to be had")
	}
}

func TestSet_AUsersOwnLimitGoesBeforeTheCommonOne(t *testing.T) {
	q := New(1 << 20)
	for _, s := range []string{"dials * 1", "dials 1000 3"} {
		if err := q.Set(s); err != nil {
			t.Fatal(err)
		}
	}
	if !q.Take(1000, Dials, 3) || q.Take(1000, Dials, 1) {
		t.Error("uid 1000: want exactly 3 dials")
	}
	if !q.Take(1001, Dials, 1) || q.Take(1001, Dials, 1) {
		t.Error("uid 1001: want exactly 1 dial")
	}
	if !q.Take(1000, Parked, Defaults[Parked]) {
		t.Error("uid 1000: a limit of its own for dials changed the one for parked requests")
	}
}

func TestSet_RubbishIsRefusedWithItsReason(t *testing.T) {
	for text, want := range map[string]string{
		"":                "want NAME UID|* N",
		"streams *":       "want NAME UID|* N",
		"rivers * 1":      `no limit is called "rivers"`,
		"streams * -1":    `"-1" is no count`,
		"streams * many":  `"many" is no count`,
		"streams smith 1": `"smith" is no uid`,
	} {
		if err := New(1 << 20).Set(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Set(%q): got %v, want an error with %q", text, err, want)
		}
	}
}
