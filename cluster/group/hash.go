package group

import (
	"hash/fnv"
	"maps"
	"slices"
)

// dump gives all that the table holds, the same for equal tables.
func (t *table) dump() []byte {
	var b []byte
	for _, name := range slices.Sorted(maps.Keys(t.groups)) {
		g := t.groups[name]
		b = appendSized(b, func(b []byte) []byte { return g.append(b) })
		b = le.AppendUint32(b, uint32(len(g.members)))
		for _, p := range g.members {
			b = le.AppendUint64(le.AppendUint32(b, p.node.ID), p.node.Boot)
			b = appendSized(b, func(b []byte) []byte { return p.append(b) })
		}
	}
	return b
}

// Hash gives a number that is the same for equal tables: the nodes of a ring
// can be compared by it at any position of the log.
func (g *Groups) Hash() uint64 {
	g.mu.RLock()
	defer g.mu.RUnlock()
	h := fnv.New64a()
	h.Write(g.table.dump())
	return h.Sum64()
}
