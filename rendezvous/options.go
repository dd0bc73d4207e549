package rendezvous

import (
	"errors"
	"fmt"
	"os/user"
	"slices"
	"strconv"
	"strings"
)

// ID is the value of a user or group option.
type ID struct {
	Self bool   // no value was given: the opener's own id
	Name string // the name that was given, else "". It is resolved at open, not at parse
	N    uint32 // the number, if Self is false and Name is ""
}

// String returns the ID as it stands after the equals sign, "" for Self.
func (id ID) String() string {
	switch {
	case id.Self:
		return ""
	case id.Name != "":
		return id.Name
	}
	return strconv.FormatUint(uint64(id.N), 10)
}

// User returns the uid that the ID means for an opener whose uid is self. A name is looked up in the system's user
// database, which may read files and, through NSS, block; call it at open only. A name that is not there is NotExist.
func (id ID) User(self uint32) (uint32, error) {
	return id.resolve("user", self, func(name string) (string, error) {
		u, err := user.Lookup(name)
		if err != nil {
			return "", err
		}
		return u.Uid, nil
	})
}

// Group is User for a gid and the system's group database.
func (id ID) Group(self uint32) (uint32, error) {
	return id.resolve("group", self, func(name string) (string, error) {
		g, err := user.LookupGroup(name)
		if err != nil {
			return "", err
		}
		return g.Gid, nil
	})
}

func (id ID) resolve(what string, self uint32, lookup func(string) (string, error)) (uint32, error) {
	if id.Self {
		return self, nil
	}
	if id.Name == "" {
		return id.N, nil
	}
	fail := func(kind Kind, err error) (uint32, error) {
		return 0, &Error{Op: "resolve", Path: what + "=" + id.Name, Kind: kind, Err: err}
	}
	text, err := lookup(id.Name)
	var (
		noUser  user.UnknownUserError
		noGroup user.UnknownGroupError
	)
	switch {
	case errors.As(err, &noUser), errors.As(err, &noGroup):
		return fail(NotExist, err)
	case err != nil:
		return fail(Unavailable, err)
	}
	n, err := parseID(text)
	if err != nil {
		return fail(Unavailable, err)
	}
	return n, nil
}

// parseID reads a decimal uid or gid. 2^32-1 is refused: it is (uid_t)-1, which the kernel takes for "no change".
func parseID(s string) (uint32, error) {
	if !canonicalNumber(s) {
		return 0, fmt.Errorf("%q is no id", s)
	}
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == noID {
		return 0, fmt.Errorf("id %s is out of range", s)
	}
	return uint32(n), nil
}

const noID = 1<<32 - 1

// canonicalNumber keeps one number from having several spellings, and "010" from being taken for octal.
func canonicalNumber(s string) bool {
	return s != "" && allDigits(s) && (s == "0" || s[0] != '0')
}

// Options are what follows SERVICE in a path. The zero value means that none is given.
type Options struct {
	User, Group *ID      // only that user (group) may connect; nil: not given. With both given, both must hold
	Other       bool     // no restriction and no proof of identity; not with User or Group
	Local       bool     // for share: start it here
	Remote      bool     // treat the host as remote even if it is this one
	Test        bool     // connect only, never start a server
	Now         bool     // do not wait for the connection
	Slave       bool     // a server stays in the foreground
	Create      bool     // announce; not with Test or Now
	Stream      bool     // fdp only: the stream file, even where a server has bound a socket; not with Sock
	Sock        bool     // fdp only: the socket itself
	Qualifiers  []string // other words, in the order given: they name another instance of the service. nil if none
}

// Instance reports whether the options name an announced instance of the service, one that no port number, service
// table or computed port can stand for.
func (o Options) Instance() bool {
	return o.User != nil || o.Group != nil || len(o.Qualifiers) > 0
}

// String returns the options in canonical order, separated by commas.
func (o Options) String() string { return strings.Join(o.words(), ",") }

func (o Options) words() []string {
	var words []string
	for _, id := range []struct {
		key string
		id  *ID
	}{{"user", o.User}, {"group", o.Group}} {
		switch {
		case id.id == nil:
		case id.id.Self:
			words = append(words, id.key)
		default:
			words = append(words, id.key+"="+id.id.String())
		}
	}
	for _, f := range o.flags() {
		if *f.set {
			words = append(words, f.word)
		}
	}
	return append(words, o.Qualifiers...)
}

type flag struct {
	word string
	set  *bool
}

func (o *Options) flags() [9]flag {
	return [...]flag{
		{"other", &o.Other}, {"local", &o.Local}, {"remote", &o.Remote}, {"test", &o.Test}, {"now", &o.Now},
		{"slave", &o.Slave}, {"create", &o.Create}, {"stream", &o.Stream}, {"sock", &o.Sock},
	}
}

// add takes one word. A word of the table with a value that it does not take is refused, though it could pass for a
// qualifier: who writes create=yes means create, and would dial instead.
func (o *Options) add(word string) error {
	key, value, hasValue := strings.Cut(word, "=")
	switch key {
	case "user":
		return addID(&o.User, key, value, hasValue)
	case "group":
		return addID(&o.Group, key, value, hasValue)
	}
	for _, f := range o.flags() {
		if f.word != key {
			continue
		}
		if hasValue {
			return fmt.Errorf("option %s takes no value", key)
		}
		if *f.set {
			return fmt.Errorf("option %s is given twice", key)
		}
		*f.set = true
		return nil
	}
	if !validQualifier(word) {
		return fmt.Errorf("bad option %q", word)
	}
	if slices.Contains(o.Qualifiers, word) {
		return fmt.Errorf("qualifier %s is given twice", word)
	}
	o.Qualifiers = append(o.Qualifiers, word)
	return nil
}

func addID(to **ID, key, value string, hasValue bool) error {
	if *to != nil {
		return fmt.Errorf("option %s is given twice", key)
	}
	id := &ID{Self: !hasValue}
	switch {
	case !hasValue:
	case value != "" && allDigits(value):
		n, err := parseID(value)
		if err != nil {
			return fmt.Errorf("option %s: %w", key, err)
		}
		id.N = n
	case validUser(value):
		id.Name = value
	default:
		return fmt.Errorf("option %s: bad name %q", key, value)
	}
	*to = id
	return nil
}

// conflict tells which two options contradict each other.
func (o Options) conflict() error {
	switch {
	case o.Other && o.User != nil:
		return errors.New("other contradicts user")
	case o.Other && o.Group != nil:
		return errors.New("other contradicts group")
	case o.Create && o.Test:
		return errors.New("create contradicts test")
	case o.Create && o.Now:
		return errors.New("create contradicts now")
	case o.Stream && o.Sock:
		return errors.New("stream contradicts sock")
	}
	return nil
}

// validQualifier allows what needs no quoting in a shell and no escaping in a record. The equals sign is for x=y.
func validQualifier(s string) bool {
	if s == "" || !alnum(s[0]) {
		return false
	}
	for i := 1; i < len(s); i++ {
		if c := s[i]; !nameByte(c) && c != '=' && c != '+' && c != ':' && c != '@' && c != '%' {
			return false
		}
	}
	return true
}

// validUser is wider than useradd(8): names from a directory service look like "eve@example.org", "AD+eve" or "host$".
func validUser(s string) bool {
	if s == "" || !alnum(s[0]) && s[0] != '_' {
		return false
	}
	for i := 1; i < len(s); i++ {
		if c := s[i]; !nameByte(c) && c != '@' && c != '+' && c != '$' {
			return false
		}
	}
	return true
}
