package fs

import (
	"fmt"
	"testing"
)

func newTestInodes() (*inodes, *inode) {
	t := newInodes(newDir(0, 0))
	return t, t.get(rootIno)
}

func TestInodes_AStreamsNumberIsNewAfterEachOpen(t *testing.T) {
	tab, root := newTestInodes()
	a := tab.lookup(root, "80", nil, caller{pid: 1}, true, true)
	if b := tab.lookup(root, "80", nil, caller{pid: 2}, true, true); b != a {
		t.Errorf("two look-ups before an open: numbers %d and %d, want the same", a.id, b.id)
	}
	if _, ok := tab.take(a, caller{pid: 1}); !ok {
		t.Error("the first open was refused")
	}
	if c := tab.lookup(root, "80", nil, caller{pid: 1}, true, true); c == a {
		t.Errorf("number %d was told again after its open", a.id)
	}
}

func TestInodes_WhoLosesARaceGetsANumberOfHisOwn(t *testing.T) {
	tab, root := newTestInodes()
	a := tab.lookup(root, "80", nil, caller{pid: 1}, true, true)
	tab.lookup(root, "80", nil, caller{pid: 2}, true, true)
	tab.take(a, caller{pid: 1})
	tab.opened(a, "stream of 1")
	if shared, ok := tab.take(a, caller{pid: 2}); ok || shared != nil {
		t.Fatalf("the second open: got %v, %v; want a refusal", shared, ok)
	}
	mine := tab.lookup(root, "80", nil, caller{pid: 2}, true, true)
	if other := tab.lookup(root, "80", nil, caller{pid: 3}, true, true); other == mine {
		t.Error("a third caller was told the number that is the loser's own")
	}
	if again := tab.lookup(root, "80", nil, caller{pid: 2}, true, true); again != mine {
		t.Error("the loser was told another number at his second look-up")
	}
	if _, ok := tab.take(mine, caller{pid: 2}); !ok {
		t.Error("the loser was refused again")
	}
	if len(tab.raced) != 0 {
		t.Errorf("%d races are remembered after all have ended", len(tab.raced))
	}
}

func TestInodes_TheLosersOwnNumberMayBeForgottenBetweenHisLookups(t *testing.T) {
	tab, root := newTestInodes()
	a := tab.lookup(root, "80", nil, caller{pid: 1}, true, true)
	tab.take(a, caller{pid: 1})
	tab.take(a, caller{pid: 2})
	first := tab.lookup(root, "80", nil, caller{pid: 2}, true, true)
	tab.forget(first.id, 1)
	second := tab.lookup(root, "80", nil, caller{pid: 2}, true, true)
	if tab.get(second.id) != second {
		t.Error("the loser was told a number that is not in the table")
	}
	if _, ok := tab.take(second, caller{pid: 2}); !ok {
		t.Error("the loser was refused again")
	}
}

func TestInodes_AnOpenThroughDevFdSharesTheStream(t *testing.T) {
	tab, root := newTestInodes()
	a := tab.lookup(root, "80", nil, caller{pid: 1}, true, true)
	tab.take(a, caller{pid: 1})
	if shared, _ := tab.take(a, caller{pid: 1}); shared != nil {
		t.Errorf("shared %v while the open goes on", shared)
	}
	tab.opened(a, "the stream")
	if shared, _ := tab.take(a, caller{pid: 5}); shared != nil {
		t.Error("shared at the first try, which a race looks like")
	}
	if shared, _ := tab.take(a, caller{pid: 5}); shared != "the stream" {
		t.Errorf("the second try: got %v", shared)
	}
	tab.opened(a, nil)
	for range 2 {
		if shared, ok := tab.take(a, caller{pid: 6}); shared != nil || ok {
			t.Error("a stream was shared after its end")
		}
	}
}

func TestInodes_ForgetsWhatTheKernelForgets(t *testing.T) {
	tab, root := newTestInodes()
	a := tab.lookup(root, "a", nil, caller{pid: 1}, false, false)
	tab.lookup(root, "a", nil, caller{pid: 1}, false, false)
	tab.forget(a.id, 1)
	if tab.get(a.id) == nil {
		t.Error("forgotten while the kernel knows it")
	}
	tab.forget(a.id, 1<<60) // more than it was told: bounded
	tab.forget(a.id, 1)
	tab.forget(rootIno, 1<<60)
	if tab.get(a.id) != nil || tab.get(rootIno) == nil || tab.count() != 1 {
		t.Errorf("%d numbers are left, want the root's alone", tab.count())
	}
	if b := tab.lookup(root, "a", nil, caller{pid: 1}, false, false); b.id == a.id {
		t.Error("a number was used twice")
	}
}

func TestInodes_OnlySoManyAreKeptThatNobodyUses(t *testing.T) {
	tab, root := newTestInodes()
	stream := tab.lookup(root, "stream", nil, caller{pid: 1}, true, true)
	tab.take(stream, caller{pid: 1})
	file := tab.lookup(root, "file", nil, caller{pid: 1}, false, true)
	done := tab.pin(file)
	first := tab.lookup(root, "first", nil, caller{pid: 1}, true, true)
	for i := range 20000 {
		tab.lookup(root, fmt.Sprint(i), nil, caller{pid: 1}, true, true)
	}
	if n := tab.count(); n > maxIdle+3 || len(tab.byName) > maxIdle+3 || tab.idle[0].Len() > maxIdle {
		t.Errorf("%d numbers and %d names are in the table", n, len(tab.byName))
	}
	if tab.get(stream.id) == nil || tab.get(file.id) == nil {
		t.Error("what is open was forgotten")
	}
	if tab.get(first.id) != nil {
		t.Error("the one that was not used for longest is still there")
	}
	done()
	tab.opened(stream, nil)
	for i := range maxIdle {
		tab.lookup(root, fmt.Sprint(i), nil, caller{pid: 1}, true, true)
	}
	if tab.get(stream.id) != nil || tab.get(file.id) != nil {
		t.Error("what was closed is kept for ever")
	}
	if tab.pin(root) != nil {
		t.Error("the root is one of many")
	}
}

func TestInodes_OneUsersNamesDoNotPushOutAnothers(t *testing.T) {
	tab, root := newTestInodes()
	mine := tab.lookup(root, "mine", nil, caller{uid: 1}, false, true)
	for i := range 3 * maxIdle {
		tab.lookup(root, fmt.Sprint(i), nil, caller{uid: 2}, true, true)
	}
	if tab.get(mine.id) == nil {
		t.Error("uid 2 has pushed out a name of uid 1")
	}
	for i := range 3 * maxIdle { // a folder in which its user works stays
		tab.lookup(mine, fmt.Sprint(i), nil, caller{uid: 1}, true, true)
	}
	if tab.get(mine.id) == nil {
		t.Error("a folder was pushed out by what was looked up in it")
	}
}

func TestInodes_RacesOfOneUserDoNotPushOutAnothers(t *testing.T) {
	tab, root := newTestInodes()
	a := tab.lookup(root, "a", nil, caller{}, true, true)
	tab.take(a, caller{})
	tab.opened(a, "stream")
	tab.take(a, caller{uid: 1, pid: 1})
	for i := range uint32(3 * maxRaced) {
		tab.take(a, caller{uid: 2, pid: 100 + i})
	}
	if shared, _ := tab.take(a, caller{uid: 1, pid: 1}); shared != "stream" {
		t.Error("uid 2 has pushed out the race of uid 1")
	}
	if len(tab.raced) > 2*maxRaced {
		t.Errorf("%d races are remembered", len(tab.raced))
	}
}

func TestInodes_ANewSocketIsNotTheOldOneOfItsName(t *testing.T) {
	tab, root := newTestInodes()
	old, fresh := &socketNode{uid: 1}, &socketNode{uid: 2}
	a := tab.lookup(root, "s", old, caller{}, false, false)
	if b := tab.lookup(root, "s", fresh, caller{}, false, false); b == a || b.node != node(fresh) {
		t.Error("a new socket got the number, and so the owner and mode, of an older one")
	}
}

func TestInodes_AStreamIsNotTheSocketThatHadItsName(t *testing.T) {
	tab, root := newTestInodes()
	socket, stream := &socketNode{uid: 1}, &streamNode{}
	a := tab.lookup(root, "s", socket, caller{}, false, false)
	b := tab.lookup(root, "s", stream, caller{}, true, true)
	if b == a || b.node != node(stream) {
		t.Error("a stream got the number, and so the type, of a socket")
	}
	if c := tab.lookup(root, "s", socket, caller{}, false, false); c == b {
		t.Error("a socket got the number of a stream")
	}
}

func TestInodes_NothingIsHeldAfterTheLastCloseOfAStream(t *testing.T) {
	tab, root := newTestInodes()
	a := tab.lookup(root, "data", nil, caller{}, true, true)
	tab.take(a, caller{})
	tab.opened(a, "stream")
	first, second := tab.pin(a), tab.pin(a)
	first()
	if a.stream == nil {
		t.Error("let go while it is open")
	}
	second()
	if a.stream != nil || a.idle == nil {
		t.Error("a closed stream is held by its number")
	}
}
