package fs

import "syscall"

var _ link = (*linkNode)(nil)

// linkNode is a symbolic link whose target may change; the kernel asks each time.
type linkNode struct {
	base
	to func() string
}

func newLink(uid, gid uint32, to func() string) *linkNode {
	return &linkNode{base{syscall.S_IFLNK | 0777, uid, gid}, to}
}

func (n *linkNode) target() string { return n.to() }

// stat differs from base's in that a link may come and go.
func (n *linkNode) stat() stat {
	st := n.base.stat()
	st.nameTTL, st.size = 0, uint64(len(n.to()))
	st.statTTL = 0
	return st
}
