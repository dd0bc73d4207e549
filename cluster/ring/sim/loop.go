package sim

import "time"

// event is something that happens at a time; of equal times the one that was
// set first comes first.
type event struct {
	at  time.Duration
	seq uint64
	do  func()
}

// A loop is a queue of events: a heap by time.
type loop struct {
	now    time.Duration
	seq    uint64
	events []event
}

func (l *loop) before(i, j int) bool {
	a, b := &l.events[i], &l.events[j]
	return a.at < b.at || a.at == b.at && a.seq < b.seq
}

// at has do called at a time that is not in the past.
func (l *loop) at(t time.Duration, do func()) {
	l.seq++
	l.events = append(l.events, event{max(t, l.now), l.seq, do})
	i := len(l.events) - 1
	for i > 0 {
		parent := (i - 1) / 2
		if !l.before(i, parent) {
			break
		}
		l.events[i], l.events[parent] = l.events[parent], l.events[i]
		i = parent
	}
}

// after has do called d from now.
func (l *loop) after(d time.Duration, do func()) { l.at(l.now+d, do) }

// run calls what is due until then, or until stop says so.
func (l *loop) run(until time.Duration, stop func() bool) {
	for len(l.events) > 0 && l.events[0].at <= until && !stop() {
		e := l.pop()
		l.now = e.at
		e.do()
	}
	if !stop() {
		l.now = max(l.now, until)
	}
}

func (l *loop) pop() event {
	top := l.events[0]
	n := len(l.events) - 1
	l.events[0] = l.events[n]
	l.events[n] = event{}
	l.events = l.events[:n]
	for i := 0; ; {
		least := i
		for _, child := range [2]int{2*i + 1, 2*i + 2} {
			if child < n && l.before(child, least) {
				least = child
			}
		}
		if least == i {
			return top
		}
		l.events[i], l.events[least] = l.events[least], l.events[i]
		i = least
	}
}
