package main

import (
	"bufio"
	"fmt"
	"net"
	"strings"

	"golang.org/x/sys/unix"
)

// serveCapitals gives each line of each connection back in capitals, until l
// is closed.
func serveCapitals(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			lines := bufio.NewScanner(conn)
			for lines.Scan() {
				if _, err := fmt.Fprintln(conn, strings.ToUpper(lines.Text())); err != nil {
					return
				}
			}
		}()
	}
}

// serveGreeting tells each client who the kernel says he is, until l is
// closed.
func serveGreeting(l *net.UnixListener) {
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			cred, err := peerCred(conn)
			if err != nil {
				fmt.Fprintf(conn, "who are you? %v\n", err)
				return
			}
			fmt.Fprintf(conn, "hello, your uid is %d\n", cred.Uid)
		}()
	}
}

// peerCred returns the credentials of who has connected.
func peerCred(conn *net.UnixConn) (cred *unix.Ucred, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	controlErr := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if controlErr != nil {
		return nil, controlErr
	}
	return cred, err
}
