package launch

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/rendezvous"
)

// serve gives a process to each client of a service in inetd style, until stop; the processes may outlast it. The folder is looked at again for each, so that what
// an administrator changes there holds from the next client on.
func (r *running) serve() {
	ready := make(chan struct{}, 1)
	r.ann.Notify(func() {
		select {
		case ready <- struct{}{}:
		default:
		}
	})
	timer := time.NewTimer(r.l.opts.IdleTime)
	defer timer.Stop()
	unused := timer.C
	if !r.in.optional() {
		unused = nil
	}
	for {
		err := r.admitNext()
		if err == nil {
			continue
		}
		if !errors.Is(err, unix.EAGAIN) {
			r.stop("its announcement has ended")
			return
		}
		select {
		case <-ready:
		case <-r.over:
			return
		case <-unused:
			again, ok := r.retire()
			if ok {
				r.stop("nobody has used it")
				return
			}
			timer.Reset(again)
		}
	}
}

// handle serves one client and returns when its process has ended. What goes wrong with it is no matter to others.
func (r *running) handle(c *rendezvous.Client) {
	p, err := r.serveClient(c)
	if err == nil {
		r.taken.Do(func() { close(r.accepted) })
		<-p.ended
		return
	}
	c.Reject()
	r.l.opts.Log.Warn("client not served", "path", r.in.path.String(), "peer", c.Peer.String(), "error", err.Error())
	select {
	case <-r.accepted:
		if !errors.Is(err, errChanged) {
			return
		}
	default:
		// It has never worked.
		r.l.mu.Lock()
		if s := r.l.services[r.in.key]; s != nil && !r.failed {
			r.failed = true
			r.l.failed(s, err.Error())
		}
		r.l.mu.Unlock()
	}
	r.stop(err.Error())
}

// errChanged is why a service ends whose folder is not as it was at its start.
var errChanged = errors.New("the server is not what it was")

func (r *running) serveClient(c *rendezvous.Client) (*process, error) {
	srv, err := r.l.find(r.in.path)
	if err != nil {
		return nil, errors.Join(errChanged, err)
	}
	if srv == nil {
		return nil, errChanged
	}
	defer srv.close()
	if !srv.inetd || srv.owner != r.owner {
		return nil, errChanged
	}
	if err := unix.SetNonblock(c.FD, false); err != nil {
		return nil, err
	}
	p, err := r.spawn(srv, c.FD, nil, c.Peer.Env(remote(c)))
	if err != nil {
		return nil, err
	}
	unix.Close(c.FD) // it is the process's now
	return p, nil
}

// remote is the client's address as conn/ID/remote has it; "" for FDP.
func remote(c *rendezvous.Client) string {
	if !c.Remote.IsValid() {
		return ""
	}
	return fmt.Sprintf("%s!%d", c.Remote.Addr().Unmap(), c.Remote.Port())
}
