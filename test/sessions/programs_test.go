package sessions

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/convoke-fs/convoke/test/daemon"
)

// A trial is a program of the manual's table with a request and an answer over a stream.
type trial struct {
	needs  string // a program that must be there
	script string // for dash, after prelude
	want   string // its whole output
}

// prelude has two ways to let a program talk through descriptor 3. once SEND RECEIVE talks to a server that answers one
// line and ends. whole SEND RECEIVE has what the program sent back when it has sent all. $TMP/req has two lines.
const prelude = `
once() { exec 3<>dev/tcp/local/$PORT_ONCE; eval "$1" >&3; eval "$2" <&3; exec 3>&-; }
whole() {
	exec 3<>dev/tcp/local/$PORT_ECHO; id=$(stat -Lc %i /dev/fd/3)
	eval "$1" >&3; echo shutdown >conn/$id/ctl; eval "$2" <&3; exec 3>&-
}
path=dev/tcp/local/$PORT_ONCE
printf 'pear\napple\n' >$TMP/req
`

const (
	said = "you said: pear\n"

	// inShell is for sh -c '...': lines both ways, then a job in the background that reads until the end.
	inShell = "exec 3<>dev/tcp/local/$PORT_SAID; for w in pear apple; do echo $w >&3; read -r line <&3; echo \"$line\"; done; id=$(stat -Lc %i /dev/fd/3); cat <&3 & echo shutdown >conn/$id/ctl; wait"
)

// trials are the programs that convokefs(4) says were tried on the tree itself, by the names that they have there.
var trials = map[string]trial{
	"dash":       {"dash", "dash -c '" + inShell + "'", said + "you said: apple\n"},
	"bash":       {"bash", "bash --norc -c '" + inShell + "'", said + "you said: apple\n"},
	"busybox sh": {"busybox", "busybox sh -c '" + inShell + "'", said + "you said: apple\n"},

	"cat":    {"cat", `whole "cat $TMP/req" cat; cat dev/tcp/local/$PORT_DAY`, "pear\napple\nMonday, 1 o'clock\n"},
	"cp":     {"cp", `cp dev/tcp/local/$PORT_DAY $TMP/got; cat $TMP/got; exec 3<>$path; id=$(stat -Lc %i /dev/fd/3); cp $TMP/req conn/$id/data; cat <&3`, "Monday, 1 o'clock\n" + said},
	"cut":    {"cut", `whole "cut -c 1-4 $TMP/req" 'cut -c 2-'`, "ear\nppl\n"},
	"dd":     {"dd", `whole 'dd if=/dev/zero bs=1048576 count=1 status=none' "dd bs=1048576 status=none | wc -c"`, "1048576\n"},
	"diff":   {"diff", `diff dev/tcp/local/$PORT_DAY $TMP/req`, "1c1,2\n< Monday, 1 o'clock\n---\n> pear\n> apple\n"},
	"cmp":    {"cmp", `whole "cat $TMP/req" "cmp $TMP/req -" && echo same`, "same\n"},
	"grep":   {"grep", `exec 3<>dev/tcp/local/$PORT_SAID; grep p $TMP/req >&3; grep -m 1 pear <&3; grep -h Mon dev/tcp/local/$PORT_DAY`, said + "Monday, 1 o'clock\n"},
	"gzip":   {"gzip", `whole "gzip -c $TMP/req" "gzip -dc"`, "pear\napple\n"},
	"head":   {"head", `exec 3<>dev/tcp/local/$PORT_SAID; head -n 1 $TMP/req >&3; head -n 1 <&3 2>/dev/null`, said},
	"nl":     {"nl", `whole "nl -w 1 -s : $TMP/req" "nl -w 1 -s :"`, "1:1:pear\n2:2:apple\n"},
	"od":     {"od", `once "head -n 1 $TMP/req" "od -An -c"`, `   y   o   u       s   a   i   d   :       p   e   a   r  \n` + "\n"},
	"sort":   {"sort", `whole "sort $TMP/req" "sort -r"; sort dev/tcp/local/$PORT_DAY`, "pear\napple\nMonday, 1 o'clock\n"},
	"tail":   {"tail", `whole "tail -n 1 $TMP/req" "tail -n 1"; tail -n 1 dev/tcp/local/$PORT_DAY`, "apple\nMonday, 1 o'clock\n"},
	"tar":    {"tar", `mkdir $TMP/out; whole "tar -C $TMP -cf - req" "tar -C $TMP/out -xf -"; cat $TMP/out/req`, "pear\napple\n"},
	"tee":    {"tee", `tee $path <$TMP/req; once "tee <$TMP/req" tee`, "pear\napple\n" + said},
	"tr":     {"tr", `once "tr ap xy <$TMP/req" "tr xy ap"`, "pou said: pear\n"},
	"uniq":   {"uniq", `whole "uniq $TMP/req" "uniq -c | tr -s ' '"`, " 1 pear\n 1 apple\n"},
	"wc":     {"wc", `whole "wc -c <$TMP/req" "wc -l"`, "1\n"},
	"md5sum": {"md5sum", `whole "cat $TMP/req" md5sum`, "1ac6f8f0d8eb3d7921b65dc80ae86db6  -\n"},
	"xargs":  {"xargs", `once "xargs <$TMP/req echo" "xargs echo"`, "you said: pear apple\n"},

	"gawk":        {"gawk", awk("gawk"), said},
	"mawk":        {"mawk", awk("mawk -W interactive"), said},
	"busybox awk": {"busybox", awk("busybox awk"), said},
	"sed":         {"sed", `exec 3<>dev/tcp/local/$PORT_SAID; sed '' $TMP/req >&3; sed q <&3; sed -u q dev/tcp/local/$PORT_DAY`, said + "Monday, 1 o'clock\n"},
	"socat":       {"socat", `head -n 1 $TMP/req | socat -t 10 - GOPEN:$path; socat -u OPEN:dev/tcp/local/$PORT_DAY,rdonly -`, said + "Monday, 1 o'clock\n"},

	"perl": {"perl", `perl -e '
		open(my $f, "+<", shift) or die; syswrite($f, "pear\n");
		my $in = ""; vec($in, fileno($f), 1) = 1;
		select(my $r = $in, undef, undef, 10) == 1 or die "select";
		sysread($f, my $b, 100); print $b;
		select($r = $in, undef, undef, 0.05) == 0 or die "select of an idle stream";' dev/tcp/local/$PORT_SAID`, said},

	"python3": {"python3", `python3 - dev/tcp/local/$PORT_SAID <<'END'
import asyncio, os, select, selectors, sys
with open(sys.argv[1], 'r+b', buffering=0) as f:
    f.write(b'open\n'); print(f.readline().decode(), end='')
fd = os.open(sys.argv[1], os.O_RDWR|os.O_NONBLOCK)
def ask(how, wait):
    os.write(fd, how + b'\n'); wait(); print(os.read(fd, 100).decode(), end='')
ask(b'select', lambda: select.select([fd], [], []))
p = select.poll(); p.register(fd, select.POLLIN); ask(b'poll', p.poll)
e = select.epoll(); e.register(fd, select.EPOLLIN|select.EPOLLET); ask(b'epoll', e.poll)
s = selectors.DefaultSelector(); s.register(fd, selectors.EVENT_READ); ask(b'selectors', s.select)
async def asking():
    loop = asyncio.get_running_loop()
    try: await loop.connect_read_pipe(asyncio.Protocol, os.fdopen(os.dup(fd), 'rb', 0))
    except ValueError: print('connect_read_pipe takes no file')
    come = asyncio.Event(); loop.add_reader(fd, come.set)
    os.write(fd, b'asyncio\n'); await come.wait(); print(os.read(fd, 100).decode(), end='')
asyncio.run(asking())
try: os.read(fd, 1)
except BlockingIOError: print('EAGAIN')
END`, "you said: open\nyou said: select\nyou said: poll\nyou said: epoll\nyou said: selectors\n" +
		"connect_read_pipe takes no file\nyou said: asyncio\nEAGAIN\n"},

	"static Go": {"go", `"$TMP/client" dev/tcp/local/$PORT_SAID`,
		"you said: by os.OpenFile\nyou said: by os.NewFile\ndeadline and close end a read\n"},
}

// awk answers with the first record at once, though more may come.
func awk(name string) string {
	return `exec 3<>dev/tcp/local/$PORT_SAID; ` + name + ` '{ print }' $TMP/req >&3; ` + name + ` '{ print; exit }' <&3`
}

func TestPrograms_OfTheManualWork(t *testing.T) {
	daemon.Need(t, "fuse", "dash")
	n := daemon.Start(t, daemon.Opts{Name: "web1"})
	vars := servers(t)
	parts := strings.Split(section(t, "PROGRAMS TRIED"), "\n.Ss ")
	tables := map[string]map[string]trial{"": trials, "Under convoke run": runTrials, "By convoke connect and convoke serve": connectTrials}
	if len(parts) != len(tables) {
		t.Errorf("convokefs(4) has %d tables of programs, here are %d", len(parts), len(tables))
	}
	for i, part := range parts {
		title := ""
		if i > 0 {
			title, part, _ = strings.Cut(part, "\n")
		}
		tryAll(t, n, vars, title, listed(part), tables[title])
	}
}

// tryAll runs the programs of one table of convokefs(4).
func tryAll(t *testing.T, n *daemon.Node, vars map[string]string, title string, names []string, trials map[string]trial) {
	t.Helper()
	if len(names) == 0 {
		t.Errorf("convokefs(4) lists no programs: %s", title)
	}
	for name := range trials {
		if !slices.Contains(names, name) {
			t.Errorf("convokefs(4) does not list %s: %s", name, title)
		}
	}
	for _, name := range names {
		t.Run(strings.TrimPrefix(title+"/"+name, "/"), func(t *testing.T) {
			try, ok := trials[name]
			if !ok {
				t.Fatalf("convokefs(4) lists %s, which is not tried", name)
			}
			daemon.Need(t, try.needs)
			if strings.Contains(try.script, "uid = root") {
				daemon.Need(t, "root")
			}
			vars := maps.Clone(vars)
			vars["TMP"] = t.TempDir()
			if name == "static Go" {
				buildClient(t, filepath.Join(vars["TMP"], "client"))
			}
			if got := runScript(t, n, shells["dash"], vars, prelude+try.script+"\n"); got != try.want {
				t.Errorf("%s\ngot  %q\nwant %q", try.script, got, try.want)
			}
		})
	}
}

// listed returns the names in a table of convokefs(4).
func listed(table string) []string {
	var names []string
	for _, m := range regexp.MustCompile(`(?m)^\.It (.*?) Ta `).FindAllStringSubmatch(table, -1) {
		if m[1] != "Em program" {
			names = append(names, m[1])
		}
	}
	return names
}

// section returns a section of convokefs(4) as it stands in the source.
func section(t *testing.T, title string) string {
	t.Helper()
	page, err := os.ReadFile("../../man/convokefs.4")
	if err != nil {
		t.Fatal(err)
	}
	_, after, ok := strings.Cut(string(page), "\n.Sh "+title+"\n")
	if !ok {
		t.Fatalf("convokefs(4) has no section %s", title)
	}
	text, _, _ := strings.Cut(after, "\n.Sh ")
	return text
}

// buildClient builds testdata/client without a C library.
func buildClient(t *testing.T, out string) {
	t.Helper()
	cmd := exec.Command("go", "build", "-o", out, "./testdata/client")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, text)
	}
}
