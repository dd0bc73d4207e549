package imports

import "strings"

// An edge is one import: a file of the package in the folder from imports to.
type edge struct {
	from string // folder of the importing package from the top of the module
	file string // name of the importing file in that folder
	to   string // import path; a package of the module without the module's path, as "./fs"
	test bool   // the import stands in a _test.go file
}

// A rule names the edges that the layers do not allow.
type rule struct {
	name    string
	reason  string          // printed when the rule is broken
	forbids func(edge) bool // reports whether the edge breaks the rule
	breaks  []edge          // examples that must break the rule
	keeps   []edge          // examples close to it that must not
}

var rules = []rule{
	{
		name:   "only fs and its subfolders import go-fuse",
		reason: "the protocol of the kernel has one home: what a name means must stay usable and testable without a mount",
		forbids: func(e edge) bool {
			return in(e.to, "github.com/hanwen/go-fuse") && !in(e.from, "fs") && !(e.test && in(e.from, "test"))
		},
		breaks: []edge{
			{from: "cmd/convoked", to: "github.com/hanwen/go-fuse/v2/fuse"},
			{from: "rendezvous", to: "github.com/hanwen/go-fuse/v2/fuse", test: true},
			{from: "fsutil", to: "github.com/hanwen/go-fuse/v2/fuse"},
		},
		keeps: []edge{
			{from: "fs", to: "github.com/hanwen/go-fuse/v2/fuse"},
			{from: "fs/kernel", to: "github.com/hanwen/go-fuse/v2/fuse"},
		},
	},
	{
		name:   "only cluster itself imports serf and memberlist",
		reason: "Serf finds members and hints at failures; its types must not reach the packages that decide, nor the state machines below cluster",
		forbids: func(e edge) bool {
			return (in(e.to, "github.com/hashicorp/serf") || in(e.to, "github.com/hashicorp/memberlist")) && e.from != "cluster"
		},
		breaks: []edge{
			{from: "cluster/watch", to: "github.com/hashicorp/serf/serf"},
			{from: "fs", to: "github.com/hashicorp/memberlist"},
			{from: "test/nodes", to: "github.com/hashicorp/memberlist", test: true},
		},
		keeps: []edge{{from: "cluster", to: "github.com/hashicorp/memberlist", test: true}},
	},
	{
		name:   "rendezvous imports the standard library and x/sys only",
		reason: "it is the vocabulary that all other packages share: an import of ours would be a cycle, one of others would reach everybody",
		forbids: func(e edge) bool {
			return e.from == "rendezvous" && !standard(e.to) && !in(e.to, "golang.org/x/sys")
		},
		breaks: []edge{
			{from: "rendezvous", to: "./cluster"},
			{from: "rendezvous", to: "./ipc", test: true},
			{from: "rendezvous", to: "github.com/spf13/pflag"},
		},
		keeps: []edge{
			{from: "rendezvous", to: "golang.org/x/sys/unix"},
			{from: "rendezvous", to: "net/netip"},
		},
	},
	{
		name:   "rendezvous/launch imports rendezvous, the standard library and x/sys only",
		reason: "it runs other people's programs as root: what it stands on must be small enough to be read",
		forbids: func(e edge) bool {
			return e.from == "rendezvous/launch" && !standard(e.to) && !in(e.to, "golang.org/x/sys") && e.to != "./rendezvous"
		},
		breaks: []edge{
			{from: "rendezvous/launch", to: "./cluster"},
			{from: "rendezvous/launch", to: "./ipc", test: true},
		},
		keeps: []edge{{from: "rendezvous/launch", to: "./rendezvous"}},
	},
	{
		name:   "cluster imports none of ours but its own subfolders",
		reason: "membership does not know what it is used for, so it can be tested without a tree and without streams",
		forbids: func(e edge) bool {
			return in(e.from, "cluster") && ours(e.to) && !in(e.to, "./cluster")
		},
		breaks: []edge{
			{from: "cluster", to: "./rendezvous"},
			{from: "cluster/watch", to: "./fs", test: true},
		},
		keeps: []edge{{from: "cluster", to: "./cluster/watch"}},
	},
	{
		name:   "cluster/watch imports the standard library only",
		reason: "it is a state machine that is fed: what happens depends on its input alone, and every history can be replayed",
		forbids: func(e edge) bool {
			return e.from == "cluster/watch" && !standard(e.to)
		},
		breaks: []edge{
			{from: "cluster/watch", to: "golang.org/x/sys/unix"},
			{from: "cluster/watch", to: "./cluster", test: true},
		},
		keeps: []edge{{from: "cluster/watch", to: "testing/synctest", test: true}},
	},
	{
		name:   "cluster/ring imports the standard library only",
		reason: "the ordering protocol is pure, events in and outputs out, so that its simulator reproduces every run from a seed",
		forbids: func(e edge) bool {
			return e.from == "cluster/ring" && !standard(e.to)
		},
		breaks: []edge{
			{from: "cluster/ring", to: "golang.org/x/sys/unix"},
			{from: "cluster/ring", to: "./cluster/watch"},
		},
		keeps: []edge{{from: "cluster/ring", to: "math/rand/v2", test: true}},
	},
	{
		name:   "cluster/group, session and quorum import none of ours but cluster/ring",
		reason: "each is one part of the ring's life and is tested by itself; what binds them is cluster/engine",
		forbids: func(e edge) bool {
			return (e.from == "cluster/group" || e.from == "cluster/session" || e.from == "cluster/quorum") && ours(e.to) && e.to != "./cluster/ring"
		},
		breaks: []edge{
			{from: "cluster/group", to: "./cluster/session"},
			{from: "cluster/session", to: "./cluster/engine", test: true},
			{from: "cluster/quorum", to: "./cluster"},
		},
		keeps: []edge{{from: "cluster/group", to: "./cluster/ring"}, {from: "cluster/engine", to: "./cluster/group"}},
	},
	{
		name:   "ipc imports none of ours but rendezvous",
		reason: "it is linked into other people's programs, which must not get a file system and a cluster with it",
		forbids: func(e edge) bool {
			return in(e.from, "ipc") && ours(e.to) && !in(e.to, "./rendezvous") && !in(e.to, "./ipc")
		},
		breaks: []edge{
			{from: "ipc", to: "./cluster"},
			{from: "ipc", to: "./fs", test: true},
		},
		keeps: []edge{{from: "ipc", to: "./rendezvous"}, {from: "ipc/shm", to: "./ipc"}},
	},
	{
		name:   "nothing imports cmd",
		reason: "commands parse flags and wire; what somebody else needs from one belongs into the package that owns it",
		forbids: func(e edge) bool {
			return in(e.to, "./cmd") && !in(e.from, "cmd")
		},
		breaks: []edge{
			{from: "fs", to: "./cmd/convoked"},
			{from: "test/sessions", to: "./cmd/convoke", test: true},
		},
		keeps: []edge{{from: "cmd/convoke", to: "./cmd/convoke/completion"}},
	},
	{
		name:   "only cmd and test import fs",
		reason: "the tree stands on top and holds no policy: whoever needs something from it has put a decision into the wrong package",
		forbids: func(e edge) bool {
			return in(e.to, "./fs") && !in(e.from, "fs") && !in(e.from, "cmd") && !in(e.from, "test")
		},
		breaks: []edge{
			{from: "cluster", to: "./fs"},
			{from: "rendezvous", to: "./fs/kernel", test: true},
		},
		keeps: []edge{
			{from: "cmd/convoked", to: "./fs"},
			{from: "test/nodes", to: "./fs", test: true},
		},
	},
	{
		name:   "fs/kernel imports none of ours but fs/quota",
		reason: "the loop moves requests and bytes; it must not learn what a file means",
		forbids: func(e edge) bool {
			return e.from == "fs/kernel" && ours(e.to) && e.to != "./fs/quota" && !in(e.to, "./fs/kernel")
		},
		breaks: []edge{
			{from: "fs/kernel", to: "./fs"},
			{from: "fs/kernel", to: "./rendezvous", test: true},
		},
		keeps: []edge{{from: "fs/kernel", to: "./fs/quota"}},
	},
	{
		name: "only fs/kernel, ipc/supervisor and two files of rendezvous import unsafe",
		reason: "memory that the kernel shares with us is touched in one place, seccomp has no calls in x/sys, the groups of " +
			"one thread are set in a third, since Go's own call sets those of all threads, and each open needs addresses of " +
			"sockets, which cost x/sys two calls each; for everything else x/sys has the call",
		forbids: func(e edge) bool {
			return e.to == "unsafe" && !e.test && e.from != "fs/kernel" && e.from != "ipc/supervisor" &&
				!(e.from == "rendezvous" && (e.file == "identity.go" || e.file == "rawsocket.go"))
		},
		breaks: []edge{
			{from: "rendezvous", file: "path.go", to: "unsafe"},
			{from: "fs", file: "identity.go", to: "unsafe"},
		},
		keeps: []edge{
			{from: "fs/kernel", file: "wire.go", to: "unsafe"},
			{from: "rendezvous", file: "identity.go", to: "unsafe"},
		},
	},
	{
		name:   "cgo is not used",
		reason: "the programs are static and cross-compile; C has its own library and no part in the daemon",
		forbids: func(e edge) bool {
			return e.to == "C"
		},
		breaks: []edge{{from: "ipc", to: "C"}},
		keeps:  []edge{{from: "ipc", to: "runtime/cgo"}},
	},
}

// in reports whether path is dir or lies below it.
func in(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, dir+"/")
}

// ours reports whether an import path of an edge is a package of the module.
func ours(to string) bool {
	return to == "." || strings.HasPrefix(to, "./")
}

// standard reports whether an import path belongs to the standard library: the
// first element of everybody else's has a dot.
func standard(to string) bool {
	first, _, _ := strings.Cut(to, "/")
	return !strings.Contains(first, ".")
}
