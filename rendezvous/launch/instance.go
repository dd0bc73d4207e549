package launch

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/rendezvous"
)

// An instance is what one server runs for: a service with its user, group and qualifiers.
type instance struct {
	path  rendezvous.Path // on the host local, with the options that make the instance, ids by number
	slave bool
	local bool // to be started here whatever the file hosts says
	key   string
}

// newInstance returns the instance that p means for c, if c may use it: who may not connect must not start it either.
func newInstance(c rendezvous.Caller, p rendezvous.Path) (instance, error) {
	if o := p.Options; o.User != nil {
		n, err := o.User.User(c.UID)
		if err != nil {
			return instance{}, err
		}
		p.Options.User = &rendezvous.ID{N: n}
		if c.UID != 0 && c.UID != n {
			return instance{}, refuse(p, unix.EACCES, fmt.Sprintf("only uid %d may connect", n))
		}
	}
	if o := p.Options; o.Group != nil {
		n, err := o.Group.Group(c.GID)
		if err != nil {
			return instance{}, err
		}
		p.Options.Group = &rendezvous.ID{N: n}
		if c.UID != 0 && !c.In(n) {
			return instance{}, refuse(p, unix.EACCES, fmt.Sprintf("only members of gid %d may connect", n))
		}
	}
	return instanceOf(p), nil
}

// instanceOf is for a path whose ids are numbers already.
func instanceOf(p rendezvous.Path) instance {
	in := instance{slave: p.Options.Slave, local: p.Options.Local}
	in.path = rendezvous.Path{Proto: p.Proto, Host: "local", Service: p.Service, Options: rendezvous.Options{
		User: p.Options.User, Group: p.Options.Group, Qualifiers: p.Options.Qualifiers,
	}}
	byName := in.path // qualifiers mean the same in any order
	byName.Options.Qualifiers = slices.Sorted(slices.Values(p.Options.Qualifiers))
	in.key = byName.String()
	return in
}

// restricted tells whether only some may connect.
func (in instance) restricted() bool {
	return in.path.Options.User != nil || in.path.Options.Group != nil
}

// optional tells whether it is one of the many that options make of a service.
func (in instance) optional() bool {
	return in.restricted() || len(in.path.Options.Qualifiers) > 0
}

// account returns whom the server runs as: its owner; for root's, the instance's user and group. All of root's folder is
// root's then, so that nobody else has a say in what runs.
func (l *Launcher) account(s *server, in instance) (account, error) {
	o := in.path.Options
	if l.self != 0 {
		if o.User != nil && o.User.N != l.self {
			return account{}, refuse(in.path, unix.EACCES, "this daemon is not root, and cannot run it as another user")
		}
		return ownAccount()
	}
	uid := s.owner
	if uid == 0 && o.User != nil {
		uid = o.User.N
	}
	a, err := l.lookup(uid)
	if err != nil {
		return account{}, refuse(in.path, unix.ECONNREFUSED, err.Error())
	}
	if s.owner == 0 && o.Group != nil {
		a.gid = o.Group.N
	}
	return a, nil
}
