// Server is a socket-activated server of lines: each client is told who serves it, and gets back what it sends.
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
)

func main() {
	n, _ := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if n < 1 || os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		fmt.Fprintln(os.Stderr, "no sockets:", os.Environ())
		os.Exit(1)
	}
	if strings.HasPrefix(os.Getenv("CONVOKE_PATH"), "dev/udp/") {
		serveUDP()
		return
	}
	done := make(chan bool)
	for fd := 3; fd < 3+n; fd++ {
		l, err := net.FileListener(os.NewFile(uintptr(fd), "listener"))
		if err != nil {
			panic(err)
		}
		go serve(l, done)
	}
	<-done
}

// serve ends the server when a client says "end": with 0, or with the status that follows.
func serve(l net.Listener, done chan bool) {
	for {
		c, err := l.Accept()
		if err != nil {
			panic(err)
		}
		go func() {
			defer c.Close()
			fmt.Fprintln(c, "pid", os.Getpid(), "uid", os.Getuid(), "gid", os.Getgid(),
				"path", os.Getenv("CONVOKE_PATH"), "names", os.Getenv("LISTEN_FDNAMES"), "slave", os.Getenv("CONVOKE_SLAVE"))
			line := make([]byte, 512)
			for {
				n, err := c.Read(line)
				if status, ok := strings.CutPrefix(strings.TrimSpace(string(line[:n])), "end"); ok {
					code, _ := strconv.Atoi(strings.TrimSpace(status))
					os.Exit(code)
				}
				if n > 0 {
					c.Write(line[:n])
				}
				if err != nil {
					if err != io.EOF {
						fmt.Fprintln(os.Stderr, err)
					}
					return
				}
			}
		}()
	}
}

func serveUDP() {
	c, err := net.FilePacketConn(os.NewFile(3, "socket"))
	if err != nil {
		panic(err)
	}
	b := make([]byte, 512)
	for {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			panic(err)
		}
		c.WriteTo(append([]byte(strconv.Itoa(os.Getuid())+" "), b[:n]...), from)
	}
}
