package group

import (
	"fmt"
	"slices"
	"syscall"
	"testing"

	"github.com/convoke-fs/convoke/cluster/ring"
)

// put applies an entry and checks the table.
func (t *table) put(tt testing.TB, origin ring.NK, k ring.Kind, o op) effect {
	tt.Helper()
	e, ok := t.apply(origin, k, o.append(k, nil))
	if !ok {
		tt.Fatalf("entry is not understood: %+v", o)
	}
	if err := t.check(); err != nil {
		tt.Fatalf("after %+v: %v", o, err)
	}
	return e
}

func joinOp(inc, pid uint32, name string, c cred) op {
	return op{id: inc, pid: pid, name: []byte(name), cred: c, create: true, when: 1000}
}

func verbOp(v verb, name string, c cred) op {
	return op{verb: v, name: []byte(name), cred: c, when: 2000}
}

// Each step is judged by what those before it have left.
func TestTable_Rules(t *testing.T) {
	const alice, bob = 1001, 1002
	type step struct {
		what string
		kind ring.Kind
		o    op
		want syscall.Errno
	}
	missing := joinOp(9, 9, "g", credFor(alice))
	missing.create = false
	chmod := func(uid uint32, f File, mode uint32) op {
		o := verbOp(verbChange, "g", credFor(uid))
		o.set, o.file, o.mode = setMode, f, mode
		return o
	}
	chown := func(c cred, set uint8, uid, gid uint32) op {
		o := verbOp(verbChange, "g", c)
		o.set, o.uid, o.gid = set, uid, gid
		return o
	}
	mode := func(uid uint32, open bool) op {
		o := verbOp(verbMode, "g", credFor(uid))
		o.on = open
		return o
	}
	evict := func(uid, node, pid, n uint32) op {
		o := verbOp(verbEvict, "g", credFor(uid))
		o.target = Process{node, pid, n}
		return o
	}
	leave := func(inc uint32) op { return op{id: inc, reason: Leave} }
	tests := map[string][]step{
		"join": {
			{"without create", KindJoin, missing, syscall.ENOENT},
			{"creates", KindJoin, joinOp(1, 11, "g", credFor(alice)), 0},
			{"same incarnation", KindJoin, joinOp(1, 11, "h", credFor(alice)), syscall.EEXIST},
			{"another user", KindJoin, joinOp(2, 22, "g", credFor(bob)), syscall.EACCES},
			{"root", KindJoin, joinOp(3, 33, "g", credFor(0)), 0},
			{"now without create", KindJoin, missing, 0},
			{"opened", KindGroup, mode(alice, true), 0},
			{"another user, open", KindJoin, joinOp(2, 22, "g", credFor(bob)), 0},
			{"read only", KindGroup, chmod(alice, Feed, 0o644), 0},
			{"another user, read only", KindJoin, joinOp(4, 44, "g", credFor(bob)), syscall.EACCES},
		},
		"leave": {
			{"joins", KindJoin, joinOp(1, 11, "g", credFor(alice)), 0},
			{"is no member", KindLeave, leave(2), syscall.ESRCH},
			{"leaves", KindLeave, leave(1), 0},
			{"leaves again", KindLeave, leave(1), syscall.ESRCH},
			{"the group is gone", KindJoin, missing, syscall.ENOENT},
		},
		"mkdir": {
			{"makes", KindGroup, verbOp(verbMkdir, "g", credFor(alice)), 0},
			{"again", KindGroup, verbOp(verbMkdir, "g", credFor(bob)), syscall.EEXIST},
			{"joins", KindJoin, missing, 0},
			{"rmdir with members", KindGroup, verbOp(verbRmdir, "g", credFor(alice)), syscall.EBUSY},
			{"leaves", KindLeave, leave(9), 0},
			{"stays", KindGroup, verbOp(verbMkdir, "g", credFor(alice)), syscall.EEXIST},
			{"rmdir by another", KindGroup, verbOp(verbRmdir, "g", credFor(bob)), syscall.EPERM},
			{"rmdir", KindGroup, verbOp(verbRmdir, "g", credFor(alice)), 0},
			{"rmdir of none", KindGroup, verbOp(verbRmdir, "g", credFor(alice)), syscall.ENOENT},
		},
		"mkdir where members are": {
			{"joins", KindJoin, joinOp(1, 11, "g", credFor(alice)), 0},
			{"makes", KindGroup, verbOp(verbMkdir, "g", credFor(alice)), syscall.EEXIST},
			{"rmdir", KindGroup, verbOp(verbRmdir, "g", credFor(0)), syscall.EBUSY},
		},
		"change": {
			{"of none", KindGroup, chmod(alice, Feed, 0o666), syscall.ENOENT},
			{"makes", KindGroup, verbOp(verbMkdir, "g", credFor(alice)), 0},
			{"chmod by another", KindGroup, chmod(bob, Feed, 0o666), syscall.EPERM},
			{"chmod by root", KindGroup, chmod(0, Feed, 0o666), 0},
			{"chown by the owner", KindGroup, chown(credFor(alice), setUID, bob, 0), syscall.EPERM},
			{"chown to himself", KindGroup, chown(credFor(alice), setUID, alice, 0), 0},
			{"chgrp to a foreign group", KindGroup, chown(credFor(alice), setGID, 0, 500), syscall.EPERM},
			{"chgrp to one of his", KindGroup, chown(credFor(alice, 400, 500), setGID, 0, 500), 0},
			{"chgrp to the one it has", KindGroup, chown(credFor(alice), setGID, 0, 500), 0},
			{"all or nothing", KindGroup, chown(credFor(alice), setUID|setGID, bob, 500), syscall.EPERM},
			{"chown by root", KindGroup, chown(credFor(0), setUID, bob, 0), 0},
			{"by the old owner", KindGroup, chmod(alice, Feed, 0), syscall.EPERM},
			{"by the new owner", KindGroup, chmod(bob, Feed, 0), 0},
		},
		"mode": {
			{"of none", KindGroup, mode(0, true), syscall.ENOENT},
			{"makes", KindGroup, verbOp(verbMkdir, "g", credFor(alice)), 0},
			{"by another", KindGroup, mode(bob, true), syscall.EACCES},
			{"by the owner", KindGroup, mode(alice, true), 0},
			{"open, by another", KindGroup, mode(bob, false), syscall.EACCES},
			{"ctl for all", KindGroup, chmod(alice, Ctl, 0o222), 0},
			{"by another who may write", KindGroup, mode(bob, false), 0},
			{"by root", KindGroup, mode(0, true), 0},
		},
		"evict": {
			{"of no group", KindGroup, evict(0, 1, 11, 1), syscall.ENOENT},
			{"joins", KindJoin, joinOp(1, 11, "g", credFor(alice)), 0},
			{"joins again", KindJoin, joinOp(2, 11, "g", credFor(alice)), 0},
			{"by the owner", KindGroup, evict(alice, 1, 11, 1), syscall.EPERM},
			{"of none", KindGroup, evict(0, 2, 11, 1), syscall.ESRCH},
			{"of none by N", KindGroup, evict(0, 1, 11, 3), syscall.ESRCH},
			{"by N", KindGroup, evict(0, 1, 11, 2), 0},
			{"gone", KindLeave, leave(2), syscall.ESRCH},
			{"all", KindGroup, evict(0, 1, 11, 0), 0},
			{"and the group", KindGroup, evict(0, 1, 11, 0), syscall.ENOENT},
		},
	}
	for name, steps := range tests {
		t.Run(name, func(t *testing.T) {
			tab := newTable()
			for _, s := range steps {
				before := tab.dump()
				e := tab.put(t, nk1, s.kind, s.o)
				if e.err != s.want {
					t.Fatalf("%s: got %v, want %v", s.what, e.err, s.want)
				}
				if e.err != 0 && string(tab.dump()) != string(before) {
					t.Fatalf("%s: refused, and yet the table has changed", s.what)
				}
			}
		})
	}
}

func TestTable_CountsTheMembershipsOfAProcess(t *testing.T) {
	tab := newTable()
	n := func(node ring.NK, inc, pid uint32) uint32 {
		t.Helper()
		e := tab.put(t, node, KindJoin, joinOp(inc, pid, "g", credFor(0)))
		return e.joined.n
	}
	got := []uint32{n(nk1, 1, 7), n(nk1, 2, 7), n(nk1, 3, 7), n(nk1, 4, 8), n(nk2, 1, 7)}
	if want := []uint32{1, 2, 3, 1, 1}; !slices.Equal(got, want) {
		t.Errorf("got %d, want %d", got, want)
	}
	tab.put(t, nk1, KindLeave, op{id: 2, reason: Leave})
	if got := n(nk1, 5, 7); got != 2 {
		t.Errorf("after the second has left: got %d, want 2", got)
	}
	if got := n(nk1, 6, 7); got != 4 {
		t.Errorf("then: got %d, want 4", got)
	}
	// The same number of a process on another node, next to it in the list.
	n(nk3, 1, 99)
	if got := n(nk2, 2, 99); got != 1 {
		t.Errorf("with a namesake on another node: got %d, want 1", got)
	}
}

func TestTable_LimitsEmptyGroupsOfAUser(t *testing.T) {
	tab := newTable()
	mkdir := func(i int, uid uint32) syscall.Errno {
		return tab.put(t, nk1, KindGroup, verbOp(verbMkdir, fmt.Sprint("g", i), credFor(uid))).err
	}
	for i := range 64 {
		if err := mkdir(i, 1000); err != 0 {
			t.Fatalf("group %d: %v", i, err)
		}
	}
	if err := mkdir(64, 1000); err != syscall.ENOSPC {
		t.Fatalf("one more: got %v, want ENOSPC", err)
	}
	if err := mkdir(64, 1001); err != 0 {
		t.Fatalf("another user: %v", err)
	}
	tab.put(t, nk1, KindJoin, joinOp(1, 1, "g0", credFor(1000)))
	if err := mkdir(65, 1000); err != 0 {
		t.Fatalf("with one that is not empty any more: %v", err)
	}
	tab.put(t, nk1, KindLeave, op{id: 1})
	if err := mkdir(66, 1000); err != syscall.ENOSPC {
		t.Fatalf("with 65 empty ones: got %v, want ENOSPC", err)
	}
	for i := range 100 {
		if err := mkdir(1000+i, 0); err != 0 {
			t.Fatalf("root, group %d: %v", i, err)
		}
	}
}

// S12: a node speaks for itself. What it says of others' processes and calls
// means its own.
func TestTable_NodesSpeakForThemselves(t *testing.T) {
	tab := newTable()
	tab.put(t, nk1, KindJoin, joinOp(1, 11, "g", credFor(0)))
	if e := tab.put(t, nk2, KindLeave, op{id: 1, reason: Leave}); e.err != syscall.ESRCH {
		t.Errorf("a leave from another node: got %v, want ESRCH", e.err)
	}
	if e := tab.put(t, ring.NK{ID: 1, Boot: 2}, KindLeave, op{id: 1, reason: Leave}); e.err != syscall.ESRCH {
		t.Errorf("a leave from another life of the node: got %v, want ESRCH", e.err)
	}
	e := tab.put(t, nk2, KindJoin, joinOp(1, 11, "g", credFor(0)))
	if got := e.joined.process(); got.Node != 2 {
		t.Errorf("joined is %v, want it at node 2", got)
	}
}

func TestTable_IgnoresWhatItDoesNotUnderstand(t *testing.T) {
	tab := newTable()
	tab.put(t, nk1, KindJoin, joinOp(1, 11, "g", credFor(0)))
	before := string(tab.dump())
	long := joinOp(2, 2, string(make([]byte, MaxName+1)), credFor(0))
	file := verbOp(verbChange, "g", credFor(0))
	file.set, file.file = setMode, files
	later := verbOp(verbQuorum+1, "g", credFor(0))
	for name, e := range map[string]struct {
		k    ring.Kind
		data []byte
	}{
		"nothing":       {KindJoin, nil},
		"short leave":   {KindLeave, []byte{1, 0, 0, 0}},
		"long name":     {KindJoin, long.append(KindJoin, nil)},
		"unknown file":  {KindGroup, file.append(KindGroup, nil)},
		"unknown verb":  {KindGroup, later.append(KindGroup, nil)},
		"unknown kind":  {KindGroup + 1, []byte{1, 2, 3}},
		"kind 0":        {0, nil},
		"short mkdir":   {KindGroup, []byte{byte(verbMkdir), 0, 0}},
		"lots of gids":  {KindJoin, append(make([]byte, 25), 0xff, 0xff, 0)},
		"name too long": {KindJoin, append(make([]byte, 27), 5, 'a')},
	} {
		if _, ok := tab.apply(nk1, e.k, e.data); ok {
			t.Errorf("%s: is understood", name)
		}
		if string(tab.dump()) != before {
			t.Fatalf("%s: has changed the table", name)
		}
	}
}
