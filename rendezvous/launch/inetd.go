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
	var look func() bool // whether it has come to its end
	ready := make(chan struct{}, 1)
	r.ann.Notify(func() {
		select {
		case ready <- struct{}{}:
		default:
		}
	})
	var unused <-chan time.Time
	if r.in.optional() {
		timer := time.NewTimer(r.l.opts.IdleTime)
		defer timer.Stop()
		unused = timer.C
		look = func() bool {
			again, ok := r.retire()
			timer.Reset(again)
			return ok
		}
	}
	room := r.l.room(r.srv, r.acc.uid)
	for {
		// A place is not taken before there is somebody for it: other instances may need it.
		for !r.ann.Ready() {
			select {
			case <-ready:
			case <-unused:
				if look() {
					r.stop("nobody has used it")
					return
				}
			case <-r.over:
				return
			}
		}
		select {
		case room <- struct{}{}:
		default:
			// Clients wait for a place as connected ones, and no open waits for that.
			r.taken.Do(func() { close(r.accepted) })
			select {
			case room <- struct{}{}:
			case <-r.over:
				return
			}
		}
		c, err := r.next()
		switch {
		case err == nil:
			r.l.work.Add(1)
			go func() {
				defer r.l.work.Done()
				defer func() { <-room }()
				defer r.gone()
				r.handle(c)
			}()
		case errors.Is(err, unix.EAGAIN):
			<-room
		default:
			<-room
			r.stop("its announcement has ended")
			return
		}
	}
}

// room returns the places for processes of a server in inetd style that run as one user. All its instances have them in common, for
// anybody can make instances.
func (l *Launcher) room(srv string, uid uint32) chan struct{} {
	key := fmt.Sprintf("%s %d", srv, uid)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rooms[key] == nil {
		l.rooms[key] = make(chan struct{}, l.opts.MaxProcesses)
	}
	return l.rooms[key]
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
