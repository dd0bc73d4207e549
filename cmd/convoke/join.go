package main

import (
	"errors"
	"fmt"
	"syscall"
)

var joinVerb = verb{
	name: "join", args: "HOST[:PORT]...", min: 1, max: -1,
	short: "Join the cluster that a daemon on HOST belongs to",
	long: `One HOST that answers is enough. What went wrong is said for each of the others,
and convoke log tells more.
`,
	setup: plain(func(c *call, hosts []string) error {
		t, err := c.tree()
		if err != nil {
			return err
		}
		answered := 0
		// One line each, so that the errno says what is wrong with which.
		for _, host := range hosts {
			err := t.Ctl("join " + host)
			if err == nil {
				answered++
				continue
			}
			if ownFault(err) {
				return err
			}
			fmt.Fprintf(c.stderr, "convoke: %v\n", err)
		}
		if answered == 0 {
			return errors.New("join: nobody has answered; convoke log may say more")
		}
		_, err = fmt.Fprintf(c.stdout, "%d of %d answered\n", answered, len(hosts))
		return err
	}),
}

// ownFault tells whether a join fails whichever host it names: the caller may
// not, or this daemon cannot.
func ownFault(err error) bool {
	for _, errno := range []error{syscall.EACCES, syscall.EPERM, syscall.ENOKEY, syscall.ENOTCONN} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}
