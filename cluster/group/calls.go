package group

import (
	"context"
	"fmt"
	"syscall"
)

// A Caller is who asks, as the kernel has proved it.
type Caller struct {
	PID      int
	UID, GID uint32
	Groups   []uint32 // supplementary
}

// A Change is of a group's owner and modes; nil fields stay.
type Change struct {
	UID, GID *uint32
	Mode     *uint32 // of the file named by File
	File     File
}

// A File is a file of a group that has a mode of its own.
type File uint8

// The files of a group.
const (
	Feed    File = iota // also packets
	Send                // the file send
	Members             // the file members
	Ctl
	Folder

	files // how many there are
)

// Mkdir makes a group that stays without members; it returns once that is
// ordered. EEXIST, EINVAL, ENOSPC. As with all such calls, EINTR or ETIMEDOUT
// when ctx ends first (the entry may take effect later), EAGAIN with too many
// of them on their way, ESHUTDOWN after Close.
func (g *Groups) Mkdir(ctx context.Context, name string, c Caller) error {
	if !ValidName(name) {
		return fail("mkdir", name, syscall.EINVAL)
	}
	return fail("mkdir", name, g.ask(ctx, name, c, op{verb: verbMkdir}))
}

// Rmdir ends a group without members. EBUSY, ENOENT, EPERM.
func (g *Groups) Rmdir(ctx context.Context, name string, c Caller) error {
	return fail("rmdir", name, g.ask(ctx, name, c, op{verb: verbRmdir}))
}

// Change changes owner or modes, all or nothing. EPERM, ENOENT.
func (g *Groups) Change(ctx context.Context, name string, c Caller, ch Change) error {
	o := op{verb: verbChange}
	if ch.UID != nil {
		o.set, o.uid = o.set|setUID, *ch.UID
	}
	if ch.GID != nil {
		o.set, o.gid = o.set|setGID, *ch.GID
	}
	if ch.Mode != nil {
		o.set, o.mode, o.file = o.set|setMode, *ch.Mode&modeMask, ch.File
	}
	if o.file >= files {
		return fail("change", name, syscall.EINVAL)
	}
	return fail("change", name, g.ask(ctx, name, c, o))
}

// Open sets all modes of a group at once: open to everybody, or closed. It is
// for who may write to ctl. EACCES, ENOENT.
func (g *Groups) Open(ctx context.Context, name string, c Caller, open bool) error {
	return fail("mode", name, g.ask(ctx, name, c, op{verb: verbMode, on: open}))
}

// NeedQuorum says whether joining and sending need a quorate ring. It is for who
// may write to ctl. EACCES, ENOENT.
func (g *Groups) NeedQuorum(ctx context.Context, name string, c Caller, need bool) error {
	return fail("quorum", name, g.ask(ctx, name, c, op{verb: verbQuorum, on: need}))
}

// SetQuorate says whether the ring that comes next is a quorum. It is the
// engine's, as Install is, and called before it.
func (g *Groups) SetQuorate(quorate bool) { g.quorate.Store(quorate) }

// Evict puts a member out, with PROCDOWN; root's. N 0 means all memberships of
// the process in the group. ESRCH when there is none, ENOENT, EPERM. The member
// reads what was ordered before, its own leave, and then the end.
func (g *Groups) Evict(ctx context.Context, name string, c Caller, p Process) error {
	return fail("evict", name, g.ask(ctx, name, c, op{verb: verbEvict, target: p}))
}

// fail says on what an error is.
func fail(what, name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s group %s: %w", what, EscapeName(name), err)
}
