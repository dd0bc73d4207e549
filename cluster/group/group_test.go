package group

import "testing"

func TestGroup_MembersReadOneOrder(t *testing.T) {
	w := newWorld(t, 1, 2)
	a := w.join(1, "g", user(11, 0))
	send(t, a, "early")
	b := w.join(2, "g", user(22, 0))
	send(t, a, "one\n")
	send(t, b, "two")
	b.Leave(Leave)
	send(t, a, "late")
	expect(t, a,
		"conf members=1:11 joined=1:11:JOIN left=-",
		"ring 1.1 members=1,2",
		"msg 1 11 early",
		"conf members=1:11,2:22 joined=2:22:JOIN left=-",
		`msg 1 11 one\n`,
		"msg 2 22 two",
		"conf members=1:11 joined=- left=2:22:LEAVE",
		"msg 1 11 late")
	expect(t, b, "EOF")
}

func TestGroup_MemberSeesNothingFromBeforeItsJoin(t *testing.T) {
	w := newWorld(t, 1, 2)
	a := w.join(1, "g", user(11, 0))
	send(t, a, "early")
	b := w.join(2, "g", user(22, 0))
	send(t, b, "mine")
	expect(t, b,
		"conf members=1:11,2:22 joined=2:22:JOIN left=-",
		"ring 1.1 members=1,2",
		"msg 2 22 mine")
	expect(t, b)
}

func TestGroup_PartitionAndMerge(t *testing.T) {
	w := newWorld(t, 1, 2, 3)
	a := w.join(1, "g", user(11, 0))
	b := w.join(2, "g", user(22, 0))
	c := w.join(3, "g", user(33, 0))
	read(t, a)
	read(t, b)
	read(t, c)
	w.install(1)
	w.install(2, 3)
	send(t, a, "alone")
	send(t, b, "we")
	w.install(1, 2, 3)
	expect(t, a,
		"conf members=1:11 joined=- left=2:22:NODEDOWN,3:33:NODEDOWN",
		"ring 2.1 members=1",
		"msg 1 11 alone",
		"conf members=1:11,2:22,3:33 joined=2:22:NODEUP,3:33:NODEUP left=-",
		"ring 4.1 members=1,2,3")
	for _, m := range []*Member{b, c} {
		expect(t, m,
			"conf members=2:22,3:33 joined=- left=1:11:NODEDOWN",
			"ring 3.2 members=2,3",
			"msg 2 22 we",
			"conf members=1:11,2:22,3:33 joined=1:11:NODEUP left=-",
			"ring 4.1 members=1,2,3")
	}
}
