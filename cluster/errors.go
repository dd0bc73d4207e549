package cluster

import "errors"

// The errors by which a caller can tell what went wrong; each comes wrapped
// with the subject and the cause, so ask errors.Is.
var (
	// ErrNoKey: the node has no key and is not insecure, so it listens on no
	// port and has nobody to join.
	ErrNoKey = errors.New("no cluster key")
	// ErrNoAnswer: no address could be reached. The error also wraps what the
	// system said about the last one, for example ECONNREFUSED.
	ErrNoAnswer = errors.New("nobody answered")
	// ErrForeign: something answered, but it does not share the key, the
	// cluster's name or a version of the protocol.
	ErrForeign = errors.New("it has another key or another cluster name")
	// ErrNameTaken: a member at another address has the name.
	ErrNameTaken = errors.New("name is taken")
	// ErrAlive: the member takes part and can not be removed.
	ErrAlive = errors.New("member is alive")
	// ErrUnknownMember: no member has this name.
	ErrUnknownMember = errors.New("no such member")
	// ErrInvalid: the argument or the file has not the form that it must have.
	ErrInvalid = errors.New("invalid")
	// ErrTooLarge: the tags of the node do not fit into what gossip can carry.
	ErrTooLarge = errors.New("too large")
	// ErrInUse: another process uses the state folder.
	ErrInUse = errors.New("in use")
	// ErrClosed: the node has been closed.
	ErrClosed = errors.New("node is closed")
)
