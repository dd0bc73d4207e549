// Fds prints the descriptors that it was started with.
package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
)

func main() {
	for fd := range uintptr(64) {
		// What Go's runtime has opened since is close-on-exec.
		flags, _, errno := syscall.Syscall(syscall.SYS_FCNTL, fd, syscall.F_GETFD, 0)
		if errno != 0 || flags&syscall.FD_CLOEXEC != 0 {
			continue
		}
		link, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
		link, _, _ = strings.Cut(link, ":")
		fmt.Println(fd, link)
	}
}
