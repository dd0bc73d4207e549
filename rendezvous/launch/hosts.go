package launch

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/rendezvous"
)

// maxHosts is how long the file hosts may be.
const maxHosts = 64 << 10

// hosts reads the file of that name in the present folder; nil if there is none.
func (w *walk) hosts() ([]string, error) {
	// Without O_NONBLOCK a fifo of that name would be waited for.
	fd, st, _, err := w.open(hostsFile, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	path := filepath.Join(w.path, hostsFile)
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, fmt.Errorf("%s is no regular file", path)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxHosts+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxHosts {
		return nil, fmt.Errorf("%s is longer than %d bytes", path, maxHosts)
	}
	list, err := parseHosts(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return list, nil
}

// parseHosts reads names of members, one a line, with comments after #. The list of a file without names is empty and
// not nil: nobody may start the service.
func parseHosts(text string) ([]string, error) {
	list := []string{}
	n := 0
	for line := range strings.Lines(text) {
		n++
		line, _, _ = strings.Cut(line, "#")
		name := strings.TrimSpace(line)
		switch {
		case name == "":
		case !rendezvous.ValidName(name):
			return nil, fmt.Errorf("line %d: %q is no name of a member", n, name)
		default:
			list = append(list, name)
		}
	}
	return list, nil
}
