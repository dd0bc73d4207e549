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
		row{name: "fdp", node: newDir(t.uid, t.gid, row{name: "local", node: t.sockets})},
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
	p := rendezvous.Path{Proto: d.proto, Host: d.host, Service: service, Options: options}
	if options.Create {
		return newAnnounce(d.t, p), true
	}
	return newStream(d.t, p), true
}

// list names what is announced on this host, which is all that is known of any.
func (d *hostDir) list(uint32) []entry {
	if !d.t.isHere(d.host) {
		return nil
	}
	var es []entry
	for _, a := range d.t.opts.Host.Announced(d.proto) {
		es = append(es, entry{a.Path().Element(), syscall.S_IFREG})
	}
	return es
}

// isHere tells whether a HOST is this one by its name.
func (t *Tree) isHere(host string) bool {
	return host == "local" || host == t.opts.Cluster.Self().Name
}
