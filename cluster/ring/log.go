package ring

// entryOverhead is what an entry counts for in windows and queues beside its
// data, about what it takes in memory.
const entryOverhead = 64

// EntrySize is what an entry with n bytes of data counts for in windows and
// queues.
func EntrySize(n int) int { return n + entryOverhead }

// item is an entry in the log, and the index of its origin in the member list.
type item struct {
	Entry
	idx int
}

// entryLog is the log of the installed ring as far as this node has it: the
// positions base+1 to end.
type entryLog struct {
	items deque[item]
	base  uint64
}

func (l *entryLog) end() uint64 { return l.base + uint64(l.items.len()) }

func (l *entryLog) push(e Entry, idx int) { l.items.push(item{e, idx}) }

// skip counts n entries that are stable as soon as they are ordered.
func (l *entryLog) skip(n int) {
	assert(l.items.len() == 0, "an entry of a ring of one is kept")
	l.base += uint64(n)
}

// drop forgets the first entry that is kept.
func (l *entryLog) drop() {
	l.items.pop()
	l.base++
}

// from copies the entries from position first on, at most maxBytes of them but
// at least one, if there is one.
func (l *entryLog) from(first uint64, maxBytes int) []Entry {
	assert(first > l.base, "an entry is asked for that is dropped")
	var out []Entry
	for i, bytes := int(first-l.base-1), 0; i < l.items.len(); i++ {
		e := l.items.at(i).Entry
		bytes += EntrySize(len(e.Data))
		if len(out) > 0 && bytes > maxBytes {
			break
		}
		out = append(out, e)
	}
	return out
}
