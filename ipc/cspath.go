package ipc

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/rendezvous"
)

// treeType is the type of a mount of convoked, as mountinfo has it.
const treeType = "fuse.convoke"

// PathOf returns a path that is equivalent to an open descriptor, as cspath of cs(3) does.
//
//   - A connected TCP or UDP socket: /dev/tcp/HOST/PORT of the other side, which connects there once more. It differs
//     from cs(3), which puts the local port into it too.
//   - A listening or bound one: the same of its own address, with the host local for one that listens at all addresses.
//   - A socket of a local service, of either side: /dev/fdp/local/NAME where it is in a tree, else the path to which the
//     server has bound it.
//   - A file of a tree, such as a stream: its path from the mount point on, /dev/tcp/db/5432 or /cluster/events. The
//     paths of streams are those that Parse of package rendezvous and the functions of this package take.
//   - Any other file: its path, as long as it is there. cs(3) invents names for pipes and files without one.
//
// Errors are *rendezvous.Error: EBADF for what is not open, NotExist (ENOENT) for what has no path.
func PathOf(fd int) (string, error) {
	var st unix.Stat_t
	err := unix.Fstat(fd, &st)
	var path string
	switch {
	case err != nil:
	case st.Mode&unix.S_IFMT == unix.S_IFSOCK:
		path, err = socketPath(fd)
	default:
		path, err = filePath(fd, &st)
	}
	if err != nil {
		return "", failed("name", "descriptor "+strconv.Itoa(fd), err)
	}
	return path, nil
}

// noPath is the error for what has no path.
func noPath(what string) error { return worded{what + " has no path", unix.ENOENT} }

func socketPath(fd int) (string, error) {
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return "", err
	}
	if domain == unix.AF_UNIX {
		return unixPath(fd)
	}
	protocol, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if err != nil {
		return "", err
	}
	p := rendezvous.Path{Proto: rendezvous.TCP}
	switch {
	case domain != unix.AF_INET && domain != unix.AF_INET6:
		return "", noPath("a socket of this family")
	case protocol == unix.IPPROTO_UDP:
		p.Proto = rendezvous.UDP
	case protocol != unix.IPPROTO_TCP && protocol != unix.IPPROTO_MPTCP:
		return "", noPath("a socket of this protocol")
	}
	addr, err := inetAddr(unix.Getpeername(fd))
	if err == unix.ENOTCONN {
		addr, err = inetAddr(unix.Getsockname(fd))
	}
	switch {
	case err != nil:
		return "", err
	case addr.Port() == 0:
		return "", noPath("a socket that is not bound")
	case addr.Addr().IsUnspecified():
		p.Host = "local"
	default:
		p.Host = addr.Addr().String()
	}
	p.Service = strconv.Itoa(int(addr.Port()))
	return "/" + p.String(), nil
}

// inetAddr returns a socket address of IP, with the zone by its name.
func inetAddr(sa unix.Sockaddr, err error) (netip.AddrPort, error) {
	if err != nil {
		return netip.AddrPort{}, err
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port)), nil
	case *unix.SockaddrInet6:
		addr := netip.AddrFrom16(sa.Addr).Unmap()
		if sa.ZoneId != 0 {
			zone := strconv.Itoa(int(sa.ZoneId))
			if link, err := net.InterfaceByIndex(int(sa.ZoneId)); err == nil {
				zone = link.Name
			}
			addr = addr.WithZone(zone)
		}
		return netip.AddrPortFrom(addr, uint16(sa.Port)), nil
	}
	return netip.AddrPort{}, unix.EAFNOSUPPORT
}

// unixPath returns the path to which the server of a connection is bound: it is the name of one of the two ends.
func unixPath(fd int) (string, error) {
	name := ""
	for _, ask := range []func(int) (unix.Sockaddr, error){unix.Getpeername, unix.Getsockname} {
		sa, err := ask(fd)
		if err != nil && err != unix.ENOTCONN {
			return "", err
		}
		// One with @ is in no file system.
		if sa, ok := sa.(*unix.SockaddrUnix); ok && sa.Name != "" && sa.Name[0] != '@' {
			name = sa.Name
			break
		}
	}
	if element, ok := announcedName(name); ok {
		return "/dev/fdp/local/" + element, nil
	}
	if !strings.HasPrefix(name, "/") || strings.HasPrefix(name, "/proc/") {
		return "", noPath("a socket without a name")
	}
	mounts, err := readMounts()
	if err != nil {
		return "", err
	}
	below, ok := mounts.below(name)
	if !ok {
		return name, nil
	}
	return strings.TrimSuffix(below, ",sock"), nil
}

// announcedName returns the service whose socket the daemon has bound: it does so by a descriptor of the folder.
func announcedName(name string) (element string, ok bool) {
	rest, ok := strings.CutPrefix(name, "/proc/self/fd/")
	if !ok {
		return "", false
	}
	_, file, _ := strings.Cut(rest, "/")
	element, ok = strings.CutSuffix(file, ",sock")
	if _, _, err := rendezvous.ParseService(element); !ok || err != nil {
		return "", false
	}
	return element, true
}

func filePath(fd int, st *unix.Stat_t) (string, error) {
	link, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	if err != nil {
		return "", err
	}
	if !strings.HasPrefix(link, "/") {
		return "", noPath(link)
	}
	mounts, err := readMounts()
	if err != nil {
		return "", err
	}
	id, err := mountID(fd)
	if err != nil {
		return "", err
	}
	for _, m := range mounts {
		if m.id == id && m.tree {
			return m.inTree(link)
		}
	}
	var now unix.Stat_t
	if err := unix.Stat(link, &now); err != nil || now.Dev != st.Dev || now.Ino != st.Ino {
		return "", noPath("a file that was removed")
	}
	return link, nil
}

// mountID returns the mount that the file of a descriptor was opened on.
func mountID(fd int) (int, error) {
	info, err := os.ReadFile("/proc/self/fdinfo/" + strconv.Itoa(fd))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(info)) {
		if value, ok := strings.CutPrefix(line, "mnt_id:"); ok {
			return strconv.Atoi(strings.TrimSpace(value))
		}
	}
	return 0, fmt.Errorf("no mount: %w", unix.ENOENT)
}

// mount is a line of mountinfo.
type mount struct {
	id    int
	root  string // what of the file system is mounted
	point string // where
	tree  bool   // it is a convoke tree, or a part of one
}

type mounts []mount

// readMounts returns what is mounted for this process.
func readMounts() (mounts, error) {
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	return parseMounts(info), nil
}

// parseMounts reads mountinfo (proc_pid_mountinfo(5)). Lines that it cannot read are left out.
func parseMounts(info []byte) (all mounts) {
	for line := range bytes.Lines(info) {
		before, after, ok := strings.Cut(string(bytes.TrimSuffix(line, []byte("\n"))), " - ")
		fields := strings.Split(before, " ")
		if !ok || len(fields) < 6 {
			continue
		}
		id, err := strconv.Atoi(fields[0])
		if err != nil {
			continue
		}
		kind, _, _ := strings.Cut(after, " ")
		all = append(all, mount{id: id, root: unescape(fields[3]), point: unescape(fields[4]), tree: kind == treeType})
	}
	return all
}

// unescape takes back \ooo, which mountinfo has for blanks and the like.
func unescape(s string) string {
	var b strings.Builder
	for {
		before, after, ok := strings.Cut(s, `\`)
		b.WriteString(before)
		if !ok {
			return b.String()
		}
		s = after
		if len(s) < 3 {
			b.WriteByte('\\')
			continue
		}
		if c, err := strconv.ParseUint(s[:3], 8, 8); err == nil {
			b.WriteByte(byte(c))
			s = s[3:]
		} else {
			b.WriteByte('\\')
		}
	}
}

// cutFolder returns path below folder, with a leading slash, if it lies there.
func cutFolder(path, folder string) (string, bool) {
	rest, ok := strings.CutPrefix(path, strings.TrimSuffix(folder, "/"))
	return rest, ok && strings.HasPrefix(rest, "/")
}

// inTree returns the path in the whole tree of what has this path on the mount.
func (m mount) inTree(path string) (string, error) {
	if path == m.point {
		return m.root, nil
	}
	below, ok := cutFolder(path, m.point)
	if !ok {
		return "", noPath("a file that cannot be reached from here")
	}
	return strings.TrimSuffix(m.root, "/") + below, nil
}

// below returns the path in the tree of the mount on which path lies, if that is a tree.
func (all mounts) below(path string) (string, bool) {
	var on mount
	for _, m := range all {
		// Of several at one point the last covers the others.
		if _, ok := cutFolder(path, m.point); ok && len(m.point) >= len(on.point) {
			on = m
		}
	}
	if !on.tree {
		return "", false
	}
	p, err := on.inTree(path)
	return p, err == nil
}
