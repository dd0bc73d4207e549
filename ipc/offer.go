package ipc

import (
	"context"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/rendezvous"
)

// offer is an announcement of one client of the server. It has a goroutine, which ends it when the connection ends.
type offer struct {
	c      *serverConn
	number uint32
	a      announcement
	udp    bool          // clients send datagrams: there is nothing to accept
	wake   chan struct{} // has room for one: a client may wait
	done   chan struct{} // closed when it is withdrawn

	accepts []*request // guarded by c.mu; the ACCEPTs that wait, in their order

	mu    sync.Mutex         // held while clients are handed over, so that this is done in the order of the ACCEPTs
	ended bool               // guarded by mu
	held  *rendezvous.Client // guarded by mu; taken from a, but the ACCEPT for it was cancelled meanwhile
}

// announce makes an announcement and the answer to it.
func (c *serverConn) announce(ctx context.Context, h header, path string) (b []byte, fds []int, done func(bool), err error) {
	p, err := rendezvous.Parse(path)
	if err != nil {
		return nil, nil, nil, err
	}
	p.Options.Create = true
	if err := p.Validate(); err != nil {
		return nil, nil, nil, err
	}
	udp := p.Proto == rendezvous.UDP
	a, err := c.s.host.Announce(ctx, c.caller, p, rendezvous.AnnounceOpts{Raw: udp})
	if err != nil {
		return nil, nil, nil, err
	}
	o := &offer{c: c, a: a, udp: udp, wake: make(chan struct{}, 1), done: make(chan struct{})}
	a.Notify(func() {
		select {
		case o.wake <- struct{}{}:
		default:
		}
	})
	if err := c.add(o); err != nil {
		a.Close()
		return nil, nil, nil, err
	}
	m := announced{number: o.number, addrs: a.Addrs(), path: a.Path().String()}
	if udp {
		fds = a.Listeners()
		for _, fd := range fds {
			if err := unix.SetNonblock(fd, true); err != nil {
				o.end()
				return nil, nil, nil, err
			}
		}
	}
	b = appendHeader(make([]byte, 0, 256), header{op: h.op | opAnswer, tag: h.tag, count: uint16(len(fds))})
	return m.append(b), fds, func(sent bool) {
		if sent {
			c.s.announces.Add(1)
		}
	}, nil
}

// add enters an announcement and starts its goroutine.
func (c *serverConn) add(o *offer) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.ended:
		return unix.ECANCELED
	case len(c.offers) == maxOffers:
		return unix.ENOSPC
	}
	for {
		c.number++
		if _, used := c.offers[c.number]; !used {
			break
		}
	}
	o.number = c.number
	c.offers[o.number] = o
	c.running++
	go o.run()
	return nil
}

// run hands clients over as they come, until the end.
func (o *offer) run() {
	defer o.c.leave()
	defer o.end()
	for {
		select {
		case <-o.wake:
			if o.hand() != nil {
				o.c.end()
				return
			}
		case <-o.done:
			return
		case <-o.c.ctx.Done():
			return
		}
	}
}

// hand gives clients that wait to ACCEPTs that wait. The error is that of the connection.
func (o *offer) hand() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.wanted() {
		client, err := o.next()
		if err == unix.EAGAIN {
			return nil
		}
		if err != nil {
			return o.refuse()
		}
		r := o.take()
		if r == nil {
			o.held = client
			return nil
		}
		b := appendHeader(make([]byte, 0, 256), header{op: r.op | opAnswer, tag: r.tag, count: 1})
		b = accepted{client.Peer, client.Local, client.Remote}.append(b)
		if err := o.c.send(b, client.FD); err != nil {
			client.Reject()
			return err
		}
		unix.Close(client.FD)
		o.c.s.accepts.Add(1)
	}
	return nil
}

// next returns the next client that is still there. It is called with o.mu held.
func (o *offer) next() (*rendezvous.Client, error) {
	if o.ended {
		return nil, unix.ESHUTDOWN
	}
	for {
		client := o.held
		o.held = nil
		if client == nil {
			var err error
			if client, err = o.a.Next(); err != nil {
				return nil, err
			}
		}
		if !client.Gone() {
			return client, nil
		}
		client.Reject()
	}
}

// wanted tells whether an ACCEPT waits.
func (o *offer) wanted() bool {
	o.c.mu.Lock()
	defer o.c.mu.Unlock()
	return len(o.accepts) > 0
}

// take returns the ACCEPT that waits for longest, which is in progress no longer; nil if there is none.
func (o *offer) take() *request {
	o.c.mu.Lock()
	defer o.c.mu.Unlock()
	if len(o.accepts) == 0 {
		return nil
	}
	r := o.accepts[0]
	o.accepts = slices.Delete(o.accepts, 0, 1)
	delete(o.c.requests, r.tag)
	return r
}

// forget takes one ACCEPT out. It is called with c.mu held.
func (o *offer) forget(r *request) {
	if i := slices.Index(o.accepts, r); i >= 0 {
		o.accepts = slices.Delete(o.accepts, i, i+1)
	}
}

// refuse answers all ACCEPTs that wait: the announcement has ended.
func (o *offer) refuse() error {
	for r := o.take(); r != nil; r = o.take() {
		if err := o.c.answerError(r.op, r.tag, unix.ESHUTDOWN, ""); err != nil {
			return err
		}
	}
	return nil
}

// end ends the announcement, once: no new client comes, and those that wait are reset.
func (o *offer) end() {
	o.c.mu.Lock()
	delete(o.c.offers, o.number)
	o.c.mu.Unlock()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended {
		return
	}
	o.ended = true
	close(o.done)
	o.a.Close()
	if o.held != nil {
		o.held.Reject()
		o.held = nil
	}
}

// accept does an ACCEPT.
func (c *serverConn) accept(h header, number uint32) verdict {
	c.mu.Lock()
	if _, used := c.requests[h.tag]; used || c.ended {
		c.mu.Unlock()
		return broken
	}
	o := c.offers[number]
	var errno unix.Errno
	switch {
	case o == nil:
		errno = unix.EBADF
	case len(o.accepts) == maxAccepts:
		errno = unix.EAGAIN
	case o.udp:
		errno = unix.EOPNOTSUPP
	}
	if errno != 0 {
		c.mu.Unlock()
		return c.refuse(h, errno)
	}
	r := &request{tag: h.tag, op: h.op, offer: o}
	c.requests[h.tag] = r
	o.accepts = append(o.accepts, r)
	c.mu.Unlock()
	// Whoever waits already gets to it without another goroutine.
	if o.hand() != nil {
		return broken
	}
	return goOn
}

// withdraw does a WITHDRAW.
func (c *serverConn) withdraw(h header, number uint32) verdict {
	c.mu.Lock()
	if _, used := c.requests[h.tag]; used {
		c.mu.Unlock()
		return broken
	}
	o := c.offers[number]
	c.mu.Unlock()
	if o == nil {
		return c.refuse(h, unix.EBADF)
	}
	o.end()
	o.mu.Lock()
	err := o.refuse()
	o.mu.Unlock()
	if err == nil {
		err = c.send(appendHeader(nil, header{op: h.op | opAnswer, tag: h.tag}))
	}
	if err != nil {
		return broken
	}
	return goOn
}
