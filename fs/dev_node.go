package fs

import (
	"syscall"

	"github.com/convoke-fs/convoke/rendezvous"
)

// devDir is dev/: one folder a protocol.
func (t *Tree) devDir() node {
	return newDir(t.uid, t.gid,
		row{name: "tcp", node: &protoDir{t.folderBase(0555), t, rendezvous.TCP}},
		row{name: "udp", node: &protoDir{t.folderBase(0555), t, rendezvous.UDP}},
		row{name: "fdp", node: newDir(t.uid, t.gid, row{name: "local", node: newSocketDir(t)})},
	)
}

var (
	_ folder  = (*protoDir)(nil)
	_ folder  = (*hostDir)(nil)
	_ passing = (*hostDir)(nil)
)

// protoDir is dev/tcp or dev/udp: every name that a host can have is in it, and only some are listed.
type protoDir struct {
	base
	t     *Tree
	proto rendezvous.Proto
}

func (d *protoDir) child(name string) (node, bool) {
	if !rendezvous.ValidHost(name) {
		return nil, false
	}
	return &hostDir{d.base, d.t, d.proto, name}, true
}

func (d *protoDir) list(uint32) []entry {
	es := []entry{{"local", syscall.S_IFDIR}}
	for _, m := range d.t.opts.Cluster.Members() {
		es = append(es, entry{m.Name, syscall.S_IFDIR})
	}
	return es
}

// hostDir is dev/tcp/HOST: every name that a service can have is in it, with options.
type hostDir struct {
	base
	t     *Tree
	proto rendezvous.Proto
	host  string
}

func (d *hostDir) passing() {}

func (d *hostDir) child(name string) (node, bool) {
	service, options, err := rendezvous.ParseService(name)
	if err != nil {
		return nil, false
	}
	return newStream(d.t, rendezvous.Path{Proto: d.proto, Host: d.host, Service: service, Options: options}), true
}

// list names nothing: nothing is announced.
func (d *hostDir) list(uint32) []entry { return nil }
