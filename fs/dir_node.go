package fs

import "syscall"

var _ folder = (*dir)(nil)

// dir is a folder whose names are a table.
type dir struct {
	base
	table []row
}

// row is one name of a folder: a node, or a function that returns one while the name is there.
type row struct {
	name string
	node node
	here func() bool // nil: always
}

func newDir(uid, gid uint32, table ...row) *dir {
	return &dir{base{syscall.S_IFDIR | 0555, uid, gid}, table}
}

func (d *dir) child(name string) (node, bool) {
	for _, r := range d.table {
		if r.name == name && (r.here == nil || r.here()) {
			return r.node, true
		}
	}
	return nil, false
}

func (d *dir) list(uint32) []entry {
	var es []entry
	for _, r := range d.table {
		if r.here == nil || r.here() {
			es = append(es, entry{r.name, r.node.stat().mode})
		}
	}
	return es
}
