package launch

import (
	"errors"
	"fmt"
	"os/user"
	"strconv"

	"golang.org/x/sys/unix"
)

// An account is whom a server runs as.
type account struct {
	uid, gid uint32
	groups   []uint32
	name     string
	home     string
}

// lookupAccount asks the system's user database, which may block. A uid that is not in it runs with the gid of nobody and no
// other groups, so that it gets no rights from a number that somebody else has.
func lookupAccount(uid uint32) (account, error) {
	number := strconv.FormatUint(uint64(uid), 10)
	u, err := user.LookupId(number)
	var unknown user.UnknownUserIdError
	if errors.As(err, &unknown) {
		return account{uid: uid, gid: nobody, name: number, home: "/"}, nil
	}
	if err != nil {
		return account{}, fmt.Errorf("look up uid %d: %w", uid, err)
	}
	a := account{uid: uid, name: u.Username, home: u.HomeDir}
	if a.home == "" {
		a.home = "/"
	}
	if a.gid, err = parseGroup(u.Gid); err != nil {
		return account{}, err
	}
	ids, err := u.GroupIds()
	if err != nil {
		return account{}, fmt.Errorf("groups of uid %d: %w", uid, err)
	}
	for _, id := range ids {
		gid, err := parseGroup(id)
		if err != nil {
			return account{}, err
		}
		a.groups = append(a.groups, gid)
	}
	return a, nil
}

func parseGroup(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == 1<<32-1 { // (gid_t)-1 means "no change" to the kernel
		return 0, fmt.Errorf("group %q: bad number", s)
	}
	return uint32(n), nil
}

// ownAccount is that of a daemon which is not root, and which can run nothing as anybody else.
func ownAccount() (account, error) {
	a, err := lookupAccount(uint32(unix.Geteuid()))
	if err != nil {
		return account{}, err
	}
	a.gid = uint32(unix.Getegid())
	groups, err := unix.Getgroups()
	if err != nil {
		return account{}, fmt.Errorf("getgroups: %w", err)
	}
	a.groups = nil
	for _, g := range groups {
		a.groups = append(a.groups, uint32(g))
	}
	return a, nil
}

// environ is all that a server finds in its environment, besides what tells it what it is started for.
func (a account) environ() []string {
	path := "/usr/local/bin:/usr/bin:/bin"
	if a.uid == 0 {
		path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	}
	return []string{
		"PATH=" + path,
		"HOME=" + a.home,
		"USER=" + a.name,
		"LOGNAME=" + a.name,
		"SHELL=/bin/sh",
		"LANG=C.UTF-8",
	}
}
