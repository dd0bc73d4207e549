package kernel

import (
	"bytes"
	"context"
	"syscall"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// mkdir(2), rmdir(2) and what changes attributes. They are not left to go-fuse, since some wait: for the cluster to agree.

// doMkdir answers one MKDIR; name is what follows its head.
func (s *Server) doMkdir(in *fuse.MkdirIn, rest []byte, r *reader) {
	name, ok := nameIn(rest)
	if !ok {
		s.replyError(in.Unique, syscall.EIO)
		return
	}
	req := *in
	s.change(req.NodeId, req.Unique, r, func(ctx context.Context) {
		var out fuse.EntryOut
		if errno := s.tree.MakeDir(ctx, &req, name, &out); errno != 0 {
			s.replyError(req.Unique, errno)
			return
		}
		if replyStruct(s, req.Unique, &out) != 0 {
			s.tree.Forget(out.NodeId, 1) // as in doOther
		}
	})
}

func (s *Server) doRmdir(in *fuse.InHeader, rest []byte, r *reader) {
	name, ok := nameIn(rest)
	if !ok {
		s.replyError(in.Unique, syscall.EIO)
		return
	}
	req := *in
	s.change(req.NodeId, req.Unique, r, func(ctx context.Context) {
		s.replyError(req.Unique, s.tree.RemoveDir(ctx, &req, name))
	})
}

func (s *Server) doSetAttr(in *fuse.SetAttrIn, r *reader) {
	req := *in
	s.change(req.NodeId, req.Unique, r, func(ctx context.Context) {
		var out fuse.AttrOut
		if errno := s.tree.Change(ctx, &req, &out); errno != 0 {
			s.replyError(req.Unique, errno)
			return
		}
		replyStruct(s, req.Unique, &out)
	})
}

// change runs f, aside if it may wait.
func (s *Server) change(node, unique uint64, r *reader, f func(ctx context.Context)) {
	if !s.tree.ChangeMayWait(node) {
		f(context.Background())
		return
	}
	s.aside(r, unique, f)
}

// nameIn returns the name at the front of b, which ends in a NUL.
func nameIn(b []byte) (string, bool) {
	i := bytes.IndexByte(b, 0)
	if i <= 0 {
		return "", false
	}
	return string(b[:i]), true
}

// replyStruct answers a request with one of the kernel's structs.
func replyStruct[T any](s *Server, unique uint64, out *T) syscall.Errno {
	n := int(unsafe.Sizeof(*out))
	b := make([]byte, sizeOutHeader+n)
	putOutHeader(b, unique, 0, n)
	copy(b[sizeOutHeader:], unsafe.Slice((*byte)(unsafe.Pointer(out)), n))
	return s.writeTo(b)
}
