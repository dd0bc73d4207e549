package group

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"
)

// maxAsked is how many calls of one user may be on their way, root excepted.
// One whose caller has given up is on its way until the log has it.
const maxAsked = 1024

// answer is what a caller waits for: the place of its entry in the log.
type answer struct {
	done chan struct{} // closed with the answer
	err  error         // set before done is closed
	told bool          // Groups.lmu; done is closed
}

// decide gives the answer, if there is none yet. The caller holds Groups.lmu.
func (a *answer) decide(errno syscall.Errno) {
	if a.told {
		return
	}
	a.told = true
	if errno != 0 {
		a.err = errno
	}
	close(a.done)
}

// wait gives the answer, or says that the context ended first.
func (a *answer) wait(ctx context.Context) (ended bool, err error) {
	select {
	case <-a.done:
		return false, a.err
	case <-ctx.Done():
	}
	select {
	case <-a.done:
		return false, a.err
	default:
	}
	errno := syscall.EINTR
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		errno = syscall.ETIMEDOUT
	}
	return true, fmt.Errorf("%w: %w", errno, context.Cause(ctx))
}

// call is one whose entry is on its way.
type call struct {
	answer
	uid uint32
}

// ask orders o, which is of KindGroup, and waits until that is done. When ctx
// ends the call may still be carried out.
func (g *Groups) ask(ctx context.Context, name string, c Caller, o op) error {
	if len(name) > MaxName {
		return syscall.ENAMETOOLONG
	}
	o.name = []byte(name)
	o.cred = credOf(c, maxJoinGroups, g.gidOf(name))
	o.when = time.Now().UnixMilli()
	id, a, err := g.register(c.UID)
	if err != nil {
		return err
	}
	o.id = id
	if err := g.conf.Order.Submit(KindGroup, o.append(KindGroup, nil)); err != nil {
		g.lmu.Lock()
		g.forget(id)
		g.lmu.Unlock()
		return err
	}
	_, err = a.wait(ctx)
	return err
}

// register makes a call and gives its number.
func (g *Groups) register(uid uint32) (uint32, *call, error) {
	g.lmu.Lock()
	defer g.lmu.Unlock()
	switch {
	case g.closed:
		return 0, nil, syscall.ESHUTDOWN
	case uid != 0 && g.asked[uid] >= maxAsked:
		return 0, nil, syscall.EAGAIN
	}
	for g.callID++; g.calls[g.callID] != nil; g.callID++ {
	}
	c := &call{answer: answer{done: make(chan struct{})}, uid: uid}
	g.calls[g.callID] = c
	g.asked[uid]++
	return g.callID, c, nil
}

// forget drops a call. The caller holds lmu.
func (g *Groups) forget(id uint32) {
	c := g.calls[id]
	if c == nil {
		return
	}
	delete(g.calls, id)
	if g.asked[c.uid]--; g.asked[c.uid] == 0 {
		delete(g.asked, c.uid)
	}
}

// answered takes the result of a call of this node.
func (g *Groups) answered(id uint32, errno syscall.Errno) {
	g.lmu.Lock()
	defer g.lmu.Unlock()
	if c := g.calls[id]; c != nil {
		g.forget(id)
		c.decide(errno)
	}
}

// gidOf gives the group of owners of a group as it is now.
func (g *Groups) gidOf(name string) uint32 {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if gr := g.table.groups[name]; gr != nil {
		return gr.gid
	}
	return 0
}
