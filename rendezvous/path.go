package rendezvous

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Proto is the protocol of a stream, the element after "dev".
type Proto uint8

const (
	TCP Proto = iota // a TCP connection
	UDP              // datagrams to and from one peer
	FDP              // a local two-way stream (AF_UNIX), which can carry descriptors
)

var protoNames = [...]string{TCP: "tcp", UDP: "udp", FDP: "fdp"}

// String returns the name that stands in a path.
func (p Proto) String() string {
	if int(p) < len(protoNames) {
		return protoNames[p]
	}
	return "proto" + strconv.Itoa(int(p))
}

// ParseProto is the inverse of String.
func ParseProto(s string) (Proto, bool) {
	for p, name := range protoNames {
		if name == s {
			return Proto(p), true
		}
	}
	return 0, false
}

// Path names a stream: dev/PROTO/HOST/SERVICE[,OPTION]...
type Path struct {
	Proto   Proto
	Host    string // for FDP always "local"
	Service string // a name or a port number, in decimal without leading zeros
	Options Options
}

// Parse reads the path of a stream, with or without a leading "/" and "dev/", its options after commas or after
// slashes: "dev/tcp/db/report,user=1000,nightly" and "/dev/tcp/db/report/user=1000/nightly" mean the same. Repeated
// slashes count as one, as for the kernel. The longest path is that whose canonical form keeps MaxHost and MaxElement.
//
// A protocol that is not known, and an FDP host other than "local", is NotExist; all else that is wrong is Invalid.
// Nothing is looked up: the host and the service need not exist.
func Parse(path string) (Path, error) {
	p, err := parse(path)
	if err != nil {
		return Path{}, parseError(path, err)
	}
	return p, nil
}

func parseError(path string, err error) error {
	kind := Invalid
	if errors.Is(err, unix.ENOENT) {
		kind = NotExist
	}
	return &Error{Op: "parse", Path: path, Kind: kind, Err: err}
}

func parse(path string) (Path, error) {
	// Far above what can be valid, and keeps a long path from being split into a million elements.
	if len(path) > unix.PathMax {
		return Path{}, unix.ENAMETOOLONG
	}
	if strings.HasSuffix(path, "/") {
		return Path{}, errors.New("a stream is not a folder")
	}
	elems := make([]string, 0, 8)
	for elem := range strings.SplitSeq(path, "/") {
		if elem != "" {
			elems = append(elems, elem)
		}
	}
	if len(elems) > 0 && elems[0] == "dev" {
		elems = elems[1:]
	}
	if len(elems) < 3 {
		return Path{}, errors.New("want PROTO/HOST/SERVICE")
	}
	proto, ok := ParseProto(elems[0])
	if !ok {
		return Path{}, fmt.Errorf("protocol %s: %w", printable(elems[0]), unix.ENOENT)
	}
	p := Path{Proto: proto, Host: elems[1]}
	var err error
	if p.Service, p.Options, err = parseElement(strings.Join(elems[2:], ",")); err != nil {
		return Path{}, err
	}
	return p, p.check()
}

// ParseService reads one element of a path, SERVICE with its options after commas, as it stands in the tree. It is at
// most MaxElement bytes. The error is Invalid. The protocol is not known here: see Path.Validate.
func ParseService(elem string) (service string, o Options, err error) {
	service, o, err = parseElement(elem)
	if err != nil {
		return "", Options{}, parseError(elem, err)
	}
	return service, o, nil
}

func parseElement(elem string) (string, Options, error) {
	if len(elem) > MaxElement {
		return "", Options{}, unix.ENAMETOOLONG
	}
	service, rest, more := strings.Cut(elem, ",")
	if err := checkService(service); err != nil {
		return "", Options{}, err
	}
	var o Options
	if more {
		for word := range strings.SplitSeq(rest, ",") {
			if err := o.add(word); err != nil {
				return "", Options{}, err
			}
		}
	}
	return service, o, o.conflict()
}

func checkService(s string) error {
	if !ValidName(s) {
		return errors.New("bad name of a service")
	}
	if !allDigits(s) {
		return nil
	}
	if _, err := strconv.ParseUint(s, 10, 16); err != nil || !canonicalNumber(s) {
		return errors.New("bad port number")
	}
	return nil
}

// Validate tells whether Parse could have returned p: nil, or the error that Parse would give. It is for a Path that
// was put together from elements.
func (p Path) Validate() error {
	elem := p.Element()
	service, o, err := parseElement(elem)
	switch {
	case err != nil:
	case service != p.Service || !slices.Equal(o.Qualifiers, p.Options.Qualifiers):
		err = errors.New("an option stands in the place of a service or qualifier")
	default:
		err = p.check()
	}
	if err != nil {
		return parseError(p.String(), err)
	}
	return nil
}

// check is what depends on more than one element.
func (p Path) check() error {
	switch {
	case int(p.Proto) >= len(protoNames):
		return fmt.Errorf("protocol %s: %w", p.Proto, unix.ENOENT)
	case !ValidHost(p.Host):
		return errors.New("bad name of a host")
	case p.Proto == FDP && p.Host != "local":
		return fmt.Errorf("fdp is for the host local only: %w", unix.ENOENT)
	case p.Proto != FDP && p.Options.Stream:
		return errors.New("stream is an option of fdp only")
	case p.Proto != FDP && p.Options.Sock:
		return errors.New("sock is an option of fdp only")
	}
	return nil
}

// Element returns SERVICE with its options after commas, in canonical order: the last element of String.
func (p Path) Element() string {
	words := p.Options.words()
	if len(words) == 0 {
		return p.Service
	}
	return p.Service + "," + strings.Join(words, ",")
}

// String returns the canonical form, "dev/tcp/db/report,user=1000,nightly". Parse returns p for it again, if p is
// valid.
func (p Path) String() string {
	return "dev/" + p.Proto.String() + "/" + p.Host + "/" + p.Element()
}
