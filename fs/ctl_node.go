package fs

import (
	"context"
	"fmt"
	"strings"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/convoke-fs/convoke/fs/kernel"
)

var _ opener = (*ctlNode)(nil)

// maxCtl is the largest write(2) that a ctl file takes.
const maxCtl = 128 << 10

// ctlNode is a file that takes commands: one a line, all lines of one write(2) or none.
type ctlNode struct {
	base
	tree  *Tree
	name  string // for the log
	verbs verbs
}

// verbs are the commands of a ctl file.
type verbs map[string]verb

// verb is one command: check says what is wrong with its arguments, before any line of the write is carried out, and
// run carries it out.
type verb struct {
	min, max int // number of arguments; max -1: any
	check    func(args []string) error
	run      func(ctx context.Context, args []string) error
}

func newCtl(t *Tree, mode, uid, gid uint32, name string, v verbs) *ctlNode {
	return &ctlNode{base{syscall.S_IFREG | mode, uid, gid}, t, name, v}
}

func (n *ctlNode) mayWait() bool { return false }

func (n *ctlNode) open(_ context.Context, c caller, flags uint32) (kernel.Opened, syscall.Errno) {
	if flags&syscall.O_ACCMODE == syscall.O_RDONLY {
		return kernel.Opened{}, syscall.EACCES // the mode says so too, but root is let through by the kernel
	}
	return kernel.Opened{File: &ctlFile{n, c}, Flags: fuse.FOPEN_DIRECT_IO | fuse.FOPEN_NONSEEKABLE | fuse.FOPEN_NOFLUSH}, 0
}

// ctlFile is an open ctl file. Commands are carried out for whoever opened it, whoever writes.
type ctlFile struct {
	n      *ctlNode
	opener caller
}

var _ kernel.Writer = (*ctlFile)(nil)

func (f *ctlFile) Release() {}

func (f *ctlFile) Write(ctx context.Context, p []byte, _ int64) syscall.Errno {
	if len(p) > maxCtl {
		return syscall.EMSGSIZE
	}
	cmds, err := f.n.verbs.parse(string(p))
	if err == nil {
		for _, c := range cmds {
			if err = c.run(ctx); err != nil {
				break
			}
		}
	}
	if err == nil {
		return 0
	}
	f.n.tree.log.refused(f.opener, "write "+f.n.name, err)
	return errno(err)
}

// command is a line that has been checked.
type command struct {
	verb verb
	args []string
}

func (c command) run(ctx context.Context) error { return c.verb.run(ctx, c.args) }

// parse checks every line of a write. Blank lines mean nothing.
func (v verbs) parse(text string) ([]command, error) {
	var cmds []command
	for line := range strings.SplitSeq(text, "\n") {
		if strings.ContainsRune(line, 0) {
			return nil, fmt.Errorf("a command holds a NUL: %w", syscall.EINVAL)
		}
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		vb, ok := v[f[0]]
		if !ok {
			return nil, fmt.Errorf("unknown command %q: %w", f[0], syscall.EINVAL)
		}
		args := f[1:]
		if len(args) < vb.min || vb.max >= 0 && len(args) > vb.max {
			return nil, fmt.Errorf("%s: wrong number of arguments: %w", f[0], syscall.EINVAL)
		}
		if vb.check != nil {
			if err := vb.check(args); err != nil {
				return nil, fmt.Errorf("%s: %w", f[0], err)
			}
		}
		cmds = append(cmds, command{vb, args})
	}
	if len(cmds) == 0 {
		return nil, fmt.Errorf("no command: %w", syscall.EINVAL)
	}
	return cmds, nil
}
