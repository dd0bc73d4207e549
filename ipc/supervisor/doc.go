// Package supervisor gives the programs of convoke run real sockets: it answers the open(2) of their threads by seccomp
// user notification, see seccomp_unotify(2) and convoke-run(1).
//
// A filter of the kernel stops open(2), openat(2), openat2(2) and creat(2) and hands them to a process of their own, the
// supervisor, which reads the path from the thread's memory and walks it as the thread would. Where it leads to a stream
// of the tree, the supervisor has the daemon connect and puts the socket into the thread's descriptors; everything else
// it tells the kernel to go on with. So nothing that the supervisor decides gives a thread more than its own open would
// have: a thread whose identity is another than the supervisor's is left to the kernel, so are all threads once one has
// restricted itself by Landlock, which the supervisor cannot see, and what a thread writes into the path while it is
// read leads to a stream that it may open or to the kernel's own look at the path.
//
//   - filter.go, install.go: the filter, and how a thread gets it
//   - notify.go: the kernel's side, one method a request
//   - memory.go, view.go, walk.go, mounts.go: what a thread asks for
//   - thread.go, pidfd.go: who it is
//   - attempts.go, clients.go: connections being made, which outlive a signal, and the daemon that makes them
//   - supervisor.go, start.go: the process
package supervisor
