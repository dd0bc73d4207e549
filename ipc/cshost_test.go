package ipc

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/convoke-fs/convoke/rendezvous"
)

func TestPathAddr_OfAllFormsOfAPath(t *testing.T) {
	tree := layOut(t, member(map[string]string{}, "web2", "2", "alive", ""))
	for path, want := range map[string]string{
		"/dev/tcp/10.0.0.1/80":      "10.0.0.1:80",
		"dev/tcp/10.0.0.1":          "10.0.0.1:0",
		"/dev/udp/::1/53":           "[::1]:53",
		"tcp/local/http":            "127.0.0.1:80",
		"/dev/tcp/web2/chat":        "127.0.0.2:5554",
		"/dev/tcp/web2/":            "127.0.0.2:0",
		"/dev/tcp/10.0.0.1/80,now":  "10.0.0.1:80",
		"/dev/tcp/10.0.0.1/80/test": "10.0.0.1:80",
	} {
		got, proto, err := tree.PathAddr(t.Context(), path)
		wantProto := rendezvous.TCP
		if strings.Contains(path, "udp") {
			wantProto = rendezvous.UDP
		}
		if err != nil || got.String() != want || proto != wantProto {
			t.Errorf("%s: got %v, %v, %v, want %s", path, got, proto, err, want)
		}
	}
}

func TestPathAddr_SaysWhyNot(t *testing.T) {
	for path, want := range map[string]rendezvous.Kind{
		"/dev/fdp/local/x":       rendezvous.Unavailable,
		"/dev/tcp":               rendezvous.Invalid,
		"/dev/xyz/local/1":       rendezvous.NotExist,
		"/dev/tcp/local/x,user":  rendezvous.NotExist,
		"/dev/tcp/-bad/1":        rendezvous.Invalid,
		"/dev/tcp/10.0.0.1/x/,y": rendezvous.Invalid,
		"":                       rendezvous.Invalid,
	} {
		if got, _, err := (&Tree{}).PathAddr(t.Context(), path); rendezvous.KindOf(err) != want {
			t.Errorf("%s: got %v, %v, want %v", path, got, err, want)
		}
	}
}

func TestHostAddr_MembersOfTheTreeAndAddresses(t *testing.T) {
	tree := layOut(t, member(map[string]string{}, "web2", "2", "alive", ""))
	for host, want := range map[string]string{"local": "127.0.0.1", "web2": "127.0.0.2", "::ffff:10.0.0.1": "10.0.0.1", "fe80::1": "fe80::1"} {
		if got, err := tree.HostAddr(t.Context(), host); err != nil || got.String() != want {
			t.Errorf("%s: got %v, %v, want %s", host, got, err, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got, err := (&Tree{}).HostAddr(ctx, "web2"); !errors.Is(err, unix.EINTR) {
		t.Errorf("cancelled: got %v, %v, want EINTR", got, err)
	}
	if got, err := (&Tree{}).HostAddr(t.Context(), "../.."); rendezvous.KindOf(err) != rendezvous.Invalid {
		t.Errorf("no name: got %v, %v, want invalid", got, err)
	}
}

func TestAddrText_IsTheShortestForm(t *testing.T) {
	for _, tc := range []struct {
		addr netip.Addr
		want string
	}{
		{netip.MustParseAddr("10.0.0.1"), "10.0.0.1"},
		{netip.MustParseAddr("::ffff:10.0.0.1"), "10.0.0.1"},
		{netip.MustParseAddr("fe80:0:0::1%eth0"), "fe80::1%eth0"},
		{netip.Addr{}, "0.0.0.0"},
	} {
		if got := AddrText(tc.addr); got != tc.want {
			t.Errorf("got %s, want %s", got, tc.want)
		}
	}
}

// inUTS runs this test's process again on a host of that name, and returns
// what it prints.
func inUTS(t *testing.T, hostname string) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("unshare", "--uts", "sh", "-c",
		`printf %s "$1" >/proc/sys/kernel/hostname; exec "$0" -test.run '^TestHostName_Child$' -test.v`, exe, hostname)
	cmd.Env = append(os.Environ(), "CS_HOSTNAME=print")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if text, ok := strings.CutPrefix(line, "names: "); ok {
			return text
		}
	}
	t.Fatalf("no names in %s", out)
	return ""
}

func TestHostName_ShortAndFull(t *testing.T) {
	needRoot(t)
	for name, want := range map[string]string{
		"web1.example.org": "web1 web1.example.org\n",
		"web1.":            "web1",
		"(none)":           "localhost",
	} {
		if got := inUTS(t, name); !strings.HasPrefix(got, want) {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

// TestHostName_Child prints the names of its host, for inUTS.
func TestHostName_Child(t *testing.T) {
	if os.Getenv("CS_HOSTNAME") == "" {
		if HostName() == "" || strings.Contains(HostName(), ".") {
			t.Errorf("got %q", HostName())
		}
		return
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // the resolver is not asked
	os.Stdout.WriteString("names: " + HostName() + " " + FullHostName(ctx) + "\n")
}

func TestMaxFDs_IsTheLimitOfThisProcess(t *testing.T) {
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	if got := MaxFDs(); uint64(got) != before.Cur {
		t.Errorf("got %d, want %d", got, before.Cur)
	}
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &before)
	for limit, want := range map[uint64]int{100: 100, 5: 20} {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: limit, Max: before.Max}); err != nil {
			t.Fatal(err)
		}
		if got := MaxFDs(); got != want {
			t.Errorf("limit %d: got %d, want %d", limit, got, want)
		}
	}
}
