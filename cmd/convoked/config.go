package main

import (
	"bufio"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/convoke-fs/convoke/cluster"
	"github.com/convoke-fs/convoke/cluster/engine"
	"github.com/convoke-fs/convoke/cluster/quorum"
	"github.com/convoke-fs/convoke/fs/quota"
	"github.com/convoke-fs/convoke/rendezvous"
)

// config is what flags, environment and configuration file say.
type config struct {
	name, cluster, bind, keyFile, stateDir, runDir, file string
	join, limits, lib                                    []string
	insecure, check, version                             bool
	foreignNet, logFormat, logLevel                      string
	quorum                                               quorum.Options
	deadAfter                                            time.Duration

	mountPoint string
	bindAddr   netip.AddrPort
	level      slog.Level
}

// A member that is silent for less may just not have been scheduled; one that
// may be silent for more holds everybody up.
const (
	minDead = 200 * time.Millisecond
	maxDead = time.Minute
)

var (
	errHelp  = pflag.ErrHelp
	errUsage = errors.New("see convoked --help")
)

// flags returns the flag set that fills c; its order is the order of the help.
func (c *config) flags() *pflag.FlagSet {
	f := pflag.NewFlagSet("convoked", pflag.ContinueOnError)
	f.SortFlags = false
	f.StringVar(&c.name, "name", hostname(), "`NODE`'s name in the cluster")
	f.StringVar(&c.cluster, "cluster", "convoke", "the cluster's `NAME`")
	f.StringVar(&c.bind, "bind", "", "`ADDR[:PORT]` of this node in the cluster (default: the host's address)")
	f.StringArrayVar(&c.join, "join", nil, "`HOST[:PORT]` of a member to join; may be repeated")
	f.StringVar(&c.keyFile, "key-file", "", "`FILE` with the cluster's key, as convoke keygen makes it")
	f.BoolVar(&c.insecure, "insecure", false, "join without a key; for tests, proves no identity")
	f.IntVar(&c.quorum.Expect, "expect", 0, "expected votes, `N`; 0: as many members as were ever seen")
	f.BoolVar(&c.quorum.TwoNode, "two-node", false, "of two members one is enough for a quorum")
	f.BoolVar(&c.quorum.WaitForAll, "wait-for-all", false, "no quorum until all expected members were there once")
	f.StringVar(&c.quorum.TieBreaker, "tie-breaker", "", "`lowest|ID`: exactly half is a quorum with that member")
	f.DurationVar(&c.deadAfter, "dead-after", engine.DefaultDead, "`TIME` of silence after which the others go on without a member")
	f.StringVar(&c.stateDir, "state", defaultDir("/var/lib/convoke", "XDG_STATE_HOME", ".local/state", "convoke"), "`DIR` for what must survive a restart")
	f.StringVar(&c.runDir, "run", defaultDir("/run/convoke", "XDG_RUNTIME_DIR", "", "convoke"), "`DIR` for what must not")
	f.StringArrayVar(&c.lib, "lib", []string{"/etc/convoke", "/usr/lib/convoke"}, "`DIR` with servers to start on demand; may be repeated")
	f.StringVar(&c.foreignNet, "foreign-net", "deny", "callers of other network namespaces: `deny|allow`")
	f.StringArrayVar(&c.limits, "limit", nil, "limit of a user, `\"NAME UID|* N\"`; may be repeated")
	f.StringVar(&c.logFormat, "log-format", "text", "`text|json`")
	f.StringVar(&c.logLevel, "log-level", "info", "`debug|info|warn|error`")
	f.StringVar(&c.file, "config", "", "configuration `FILE` (default: /etc/convoke/convoke.conf for root, if it is there)")
	f.BoolVar(&c.check, "check", false, "check the configuration and exit")
	f.BoolVar(&c.version, "version", false, "print the version and exit")
	return f
}

// usage is what --help prints.
func usage() string {
	return "Usage: convoked [OPTION]... [MOUNTPOINT]\nMount the cluster as a tree of files. See convoked(8) and convokefs(4).\n\n" +
		(&config{}).flags().FlagUsages()
}

// parseConfig takes the file first, then the environment, then the flags; the later one wins. A list, as of --join, is
// taken whole from the last of them that has one.
func parseConfig(args []string, env func(string) (string, bool)) (*config, error) {
	c := &config{}
	f := c.flags()
	f.Usage = func() {}
	if err := f.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return nil, errHelp
		}
		return nil, fmt.Errorf("%w: %w", err, errUsage)
	}
	if c.version {
		return c, nil
	}
	given := map[string]bool{}
	f.Visit(func(fl *pflag.Flag) { given[fl.Name] = true })
	fromEnv, err := c.environment(f, env, given)
	if err != nil {
		return nil, err
	}
	mountPoint, err := c.readFile(f, fromEnv)
	if err != nil {
		return nil, err
	}
	switch f.NArg() {
	case 0:
		c.mountPoint = mountPoint
	case 1:
		c.mountPoint = f.Arg(0)
	default:
		return nil, fmt.Errorf("more than one mount point: %w", errUsage)
	}
	if c.mountPoint == "" {
		c.mountPoint = defaultDir("/n", "XDG_RUNTIME_DIR", "", "n")
	}
	if c.mountPoint == "" && !c.check {
		return nil, fmt.Errorf("no MOUNTPOINT, and XDG_RUNTIME_DIR is not set: %w", errUsage)
	}
	if (c.runDir == "" || c.stateDir == "") && !c.check {
		return nil, fmt.Errorf("no --run or --state, and neither XDG_RUNTIME_DIR nor HOME says where: %w", errUsage)
	}
	return c, c.validate()
}

// environment takes CONVOKE_NAME, CONVOKE_KEY_FILE and so on for the flags that were not given; it returns all names
// that have a value by now.
func (c *config) environment(f *pflag.FlagSet, env func(string) (string, bool), given map[string]bool) (map[string]bool, error) {
	set := map[string]bool{}
	var err error
	f.VisitAll(func(fl *pflag.Flag) {
		if given[fl.Name] {
			set[fl.Name] = true
			return
		}
		name := "CONVOKE_" + strings.ToUpper(strings.ReplaceAll(fl.Name, "-", "_"))
		if v, ok := env(name); ok && fl.Name != "version" && fl.Name != "check" {
			set[fl.Name] = true
			if e := f.Set(fl.Name, v); e != nil {
				err = errors.Join(err, fmt.Errorf("%s: %w", name, e))
			}
		}
	})
	return set, err
}

// readFile takes the lines "name=value" of the configuration file for what is not set yet. The file that is named must
// be there; the default one need not.
func (c *config) readFile(f *pflag.FlagSet, set map[string]bool) (mountPoint string, err error) {
	name := c.file
	if name == "" {
		if os.Geteuid() != 0 {
			return "", nil
		}
		name = "/etc/convoke/convoke.conf"
	}
	r, err := os.Open(name)
	if err != nil {
		if c.file == "" && errors.Is(err, os.ErrNotExist) {
			return "", nil
		}
		return "", err
	}
	defer r.Close()
	seen := map[string]bool{}
	sc := bufio.NewScanner(r)
	for n := 1; sc.Scan(); n++ {
		key, value, ok, err := parseLine(sc.Text())
		switch {
		case err != nil:
			return "", fmt.Errorf("%s:%d: %w", name, n, err)
		case !ok:
			continue
		case key == "mount":
			mountPoint = value
			continue
		}
		fl := f.Lookup(key)
		if fl == nil || key == "config" || key == "check" || key == "version" || key == "help" {
			return "", fmt.Errorf("%s:%d: unknown name %q", name, n, key)
		}
		if _, list := fl.Value.(pflag.SliceValue); seen[key] && !list {
			return "", fmt.Errorf("%s:%d: %s stands here a second time", name, n, key)
		}
		seen[key] = true
		if set[key] {
			continue
		}
		if err := f.Set(key, value); err != nil {
			return "", fmt.Errorf("%s:%d: %w", name, n, err)
		}
	}
	return mountPoint, sc.Err()
}

// parseLine reads "name=value", with blanks around both; ok is false for a blank line and for a # comment.
func parseLine(line string) (key, value string, ok bool, err error) {
	line = strings.TrimSpace(line)
	if line == "" || line[0] == '#' {
		return "", "", false, nil
	}
	if strings.ContainsRune(line, 0) {
		return "", "", false, errors.New("the line holds a NUL")
	}
	key, value, ok = strings.Cut(line, "=")
	if !ok {
		return "", "", false, fmt.Errorf("%q is not name=value", line)
	}
	return strings.TrimSpace(key), strings.TrimSpace(value), true, nil
}

// validate checks what can be checked without doing anything.
func (c *config) validate() error {
	for flag, name := range map[string]string{"name": c.name, "cluster": c.cluster} {
		if !rendezvous.ValidName(name) || name == "local" || name == "share" {
			return fmt.Errorf("--%s %q: want letters, digits, '.', '_' and '-', beginning with one of the first two, and not local or share", flag, name)
		}
	}
	var err error
	if c.bindAddr, err = parseBind(c.bind); err != nil {
		return fmt.Errorf("--bind %q: %w", c.bind, err)
	}
	if c.foreignNet != "deny" && c.foreignNet != "allow" {
		return fmt.Errorf("--foreign-net %q: want deny or allow", c.foreignNet)
	}
	if c.logFormat != "text" && c.logFormat != "json" {
		return fmt.Errorf("--log-format %q: want text or json", c.logFormat)
	}
	if err := c.level.UnmarshalText([]byte(c.logLevel)); err != nil {
		return fmt.Errorf("--log-level %q: want debug, info, warn or error", c.logLevel)
	}
	if len(c.join) > 0 && c.keyFile == "" && !c.insecure {
		return errors.New("--join needs --key-file: members know each other by the cluster's key (convoke keygen makes one)")
	}
	for _, dir := range c.lib {
		if dir != "" && !filepath.IsAbs(dir) {
			return fmt.Errorf("--lib %q: want an absolute path", dir)
		}
	}
	if err := c.quorum.Check(); err != nil {
		return err
	}
	if c.deadAfter < minDead || c.deadAfter > maxDead {
		return fmt.Errorf("--dead-after %v: want %v to %v", c.deadAfter, minDead, maxDead)
	}
	limits := quota.New(1)
	for _, l := range c.limits {
		if err := limits.Set(l); err != nil {
			return err
		}
	}
	return nil
}

func (c *config) key() (*cluster.Key, error) {
	if c.keyFile == "" {
		return nil, nil
	}
	return cluster.ReadKeyFile(c.keyFile)
}

// parseBind takes ADDR, ADDR:PORT or [ADDR]:PORT. The zero value leaves the choice to the cluster.
func parseBind(s string) (netip.AddrPort, error) {
	if s == "" {
		return netip.AddrPort{}, nil
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(a, cluster.DefaultPort), nil
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return netip.AddrPort{}, errors.New("want ADDR or ADDR:PORT")
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%q is no address", host)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%q is no port", port)
	}
	return netip.AddrPortFrom(a, uint16(n)), nil
}

// hostname is the host's name up to the first dot.
func hostname() string {
	h, _ := os.Hostname()
	h, _, _ = strings.Cut(h, ".")
	return h
}

// defaultDir is root for root, else name below the folder in the environment, or below dir in the home folder. It is
// empty when there is none: a fixed name in a folder for all could be somebody else's already.
func defaultDir(root, variable, dir, name string) string {
	if os.Geteuid() == 0 {
		return root
	}
	if d := os.Getenv(variable); d != "" {
		return filepath.Join(d, name)
	}
	if home, err := os.UserHomeDir(); err == nil && dir != "" {
		return filepath.Join(home, dir, name)
	}
	return ""
}
