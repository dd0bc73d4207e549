package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/convoke-fs/convoke/ipc"
)

// poll waits until ok.
func poll(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(testTime); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("timed out: %s", what)
		}
	}
}

func TestFeed_SendsTheInputAndLeavesAtItsEnd(t *testing.T) {
	tree, groups := groupsTree(t)
	long := strings.Repeat("x", ipc.MaxMessage)
	got := convoke(t, tree, "one\n\ntwo\twords\n"+long+"\nlast without an end", "feed", "--send", "chat")
	want := "conf members=1:100 joined=1:100:JOIN left=-\nmsg 1 100 one\nmsg 1 100 \nmsg 1 100 two\\twords\nmsg 1 100 " + long +
		"\nmsg 1 100 last without an end\n"
	if got.status != 0 || got.stdout != want || got.stderr != "convoke: made the group chat\n" {
		t.Errorf("got %d, %.200q, %q", got.status, got.stdout, got.stderr)
	}
	if n := groups.members("chat"); n != 0 {
		t.Errorf("%d members are left", n)
	}
	// Now the group is there.
	got = convoke(t, tree, "", "feed", "-s", "chat")
	if got.status != 0 || got.stdout != "conf members=1:100 joined=1:100:JOIN left=-\n" || got.stderr != "" {
		t.Errorf("got %+v", got)
	}
}

func TestFeed_JSONHasTheSame(t *testing.T) {
	tree, _ := groupsTree(t)
	got := convoke(t, tree, "a <b>\n\xff\n", "feed", "--json", "--send", "chat")
	want := `{"kind":"conf","ring":"12.1","pos":5,"members":[{"node":1,"pid":100,"n":1}],"joined":[{"node":1,"pid":100,"n":1,"reason":"JOIN"}],"left":[]}
{"kind":"msg","ring":"12.1","pos":5,"node":1,"pid":100,"n":1,"text":"a <b>"}
{"kind":"msg","ring":"12.1","pos":5,"node":1,"pid":100,"n":1,"base64":"/w=="}
`
	if got.status != 0 || got.stdout != want {
		t.Errorf("got %d, %s\nwant %s", got.status, got.stdout, want)
	}
}

func TestFeed_TooLongALineIsRefusedBehindTheLinesBefore(t *testing.T) {
	tree, groups := groupsTree(t)
	got := convoke(t, tree, "good\n"+strings.Repeat("x", ipc.MaxMessage+1)+"\nnot any more\n", "feed", "--send", "chat")
	if got.status != 1 || !strings.Contains(got.stderr, "line 2 of the input: message too long") || strings.Contains(got.stdout, "any more") {
		t.Errorf("got %d, %.200q, %q", got.status, got.stdout, got.stderr)
	}
	if n := groups.members("chat"); n != 0 {
		t.Errorf("%d members are left", n)
	}
}

func TestFeed_ErrorsSayWhatToDo(t *testing.T) {
	tree, _ := groupsTree(t)
	for _, tc := range []struct {
		args   string
		status int
		want   string
	}{
		{"feed mine", 1, "convoke: join mine: permission denied\nconvoke: ask the owner of cluster/groups/mine"},
		{"feed nobody-agrees", 75, "convoke: join nobody-agrees: connection timed out\nconvoke: the cluster does not agree"},
		{"feed no-quorum", 75, "convoke: join no-quorum: no quorum\nconvoke: the group needs a quorum"},
		{"feed a/b", 2, `"a/b" is no name of a group`},
		{"cast a/b x", 2, `"a/b" is no name of a group`},
		{"cast none hello", 1, "convoke: send to none: no such file or directory\nconvoke: there is no such group: mkdir cluster/groups/none makes one"},
		{"cast --wait 0 none hello", 2, "cast: --wait is above 0"},
		{"cast none", 2, "cast: an argument is missing"},
		{"groups a/b", 2, `"a/b" is no name of a group`},
	} {
		got := convoke(t, tree, "", strings.Fields(tc.args)...)
		if got.status != tc.status || !strings.Contains(got.stderr, tc.want) || got.stdout != "" {
			t.Errorf("%s: got %+v\nwant %d and %q", tc.args, got, tc.status, tc.want)
		}
	}
}

// hearing is a feed that runs, whose output is a pipe.
type hearing struct {
	t      *testing.T
	read   *os.File
	lines  *bufio.Reader
	stderr bytes.Buffer // to be looked at after end
	status chan int
}

// hear starts one, which has joined.
func hear(t *testing.T, tree string, input io.Reader, args ...string) *hearing {
	t.Helper()
	r, w, err := os.Pipe() // of which a read can have a deadline
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	h := &hearing{t: t, read: r, lines: bufio.NewReader(r), status: make(chan int, 1)}
	c := &call{
		stdin: input, stdout: w, stderr: &h.stderr,
		locate: func(string) (*ipc.Tree, error) { return &ipc.Tree{Dir: tree}, nil },
	}
	go func() {
		h.status <- run(c, append([]string{"feed"}, args...))
		w.Close()
	}()
	h.want("conf members=1:100 joined=1:100:JOIN left=-")
	return h
}

func (h *hearing) want(line string) {
	h.t.Helper()
	if err := h.read.SetReadDeadline(time.Now().Add(testTime)); err != nil {
		h.t.Fatal(err)
	}
	if got, err := h.lines.ReadString('\n'); err != nil || got != line+"\n" {
		h.t.Fatalf("got %q, %v, want %q", got, err, line)
	}
}

func (h *hearing) wantStatus(want int) {
	h.t.Helper()
	select {
	case got := <-h.status:
		if got != want {
			h.t.Errorf("exit status %d, want %d: %s", got, want, &h.stderr)
		}
	case <-time.After(testTime):
		h.t.Fatal("it does not end")
	}
}

// What comes is printed at once, and a signal leaves.
func TestFeed_PrintsWhatComesUntilASignal(t *testing.T) {
	tree, groups := groupsTree(t)
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		if signal.Ignored(sig) {
			continue // as a shell's background jobs do SIGINT, and whoever runs under nohup SIGHUP
		}
		h := hear(t, tree, nil, "chat")
		groups.say("chat", "hello")
		h.want("msg 2 77.2 hello")
		if err := syscall.Kill(os.Getpid(), sig); err != nil {
			t.Fatal(err)
		}
		h.wantStatus(0)
		if n := groups.members("chat"); n != 0 {
			t.Errorf("%v: %d members are left", sig, n)
		}
		if got := groups.reason(); got != ipc.Left {
			t.Errorf("%v: left with %v", sig, got)
		}
	}
}

// As in convoke feed chat | head -1.
func TestFeed_EndsWithWhoeverReadsTheOutput(t *testing.T) {
	tree, groups := groupsTree(t)
	h := hear(t, tree, nil, "chat")
	h.read.Close()
	h.wantStatus(0)
	if got := groups.reason(); groups.members("chat") != 0 || got != ipc.Left {
		t.Errorf("%d members are left, reason %v", groups.members("chat"), got)
	}
	if h.stderr.String() != "convoke: made the group chat\n" {
		t.Errorf("got %q", &h.stderr)
	}
}

// Lines are sent as they come, while the input stays open.
func TestFeed_SendsLinesAsTheyCome(t *testing.T) {
	tree, groups := groupsTree(t)
	r, w := pipe(t)
	h := hear(t, tree, r, "--send", "chat")
	for i := range 3 {
		fmt.Fprintln(w, "line", i)
		h.want(fmt.Sprint("msg 1 100 line ", i))
	}
	// At the end what is still on its way is waited for.
	groups.set(true)
	fmt.Fprint(w, "last")
	w.Close()
	select {
	case <-h.status:
		t.Error("it has not waited for the last line")
	case <-time.After(20 * time.Millisecond):
	}
	groups.set(false)
	h.want("msg 1 100 last")
	h.wantStatus(0)
}

// A long input does not run far ahead of what is printed: who does not read is put out.
func TestFeed_InputDoesNotRunAhead(t *testing.T) {
	tree, groups := groupsTree(t)
	const lines = 100_000
	line := strings.Repeat("x", 200)
	h := hear(t, tree, strings.NewReader(strings.Repeat(line+"\n", lines)), "--send", "chat")
	time.Sleep(50 * time.Millisecond) // nobody reads the output
	if n, most := groups.count(), uint64(maxBehind/200); n > most+uint64(pipeRoom/200) {
		t.Errorf("%d messages were sent that nobody has read, want at most %d", n, most)
	}
	for range lines {
		h.want("msg 1 100 " + line)
	}
	h.wantStatus(0)
}

// pipeRoom is more than all buffers between the daemon and the reader hold.
const pipeRoom = 2 << 20

func TestFeed_SignalEndsTheWaitForTheLastLines(t *testing.T) {
	tree, groups := groupsTree(t)
	r, w := pipe(t)
	h := hear(t, tree, r, "--send", "chat")
	groups.set(true)
	fmt.Fprint(w, "last")
	w.Close()
	time.Sleep(20 * time.Millisecond)
	time.AfterFunc(20*time.Millisecond, func() { groups.set(false) }) // the leave goes behind the line
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	h.wantStatus(0)
}

func TestFeed_SaysWhyItHasEnded(t *testing.T) {
	tree, groups := groupsTree(t)
	h := hear(t, tree, nil, "chat")
	groups.evict("chat")
	h.wantStatus(1)
	if got := h.stderr.String(); !strings.Contains(got, "convoke: receive from chat: the member was put out of the group\nconvoke: nobody has read") {
		t.Errorf("put out: got %q", got)
	}
	h = hear(t, tree, nil, "chat")
	groups.stop()
	h.wantStatus(1)
	if got := h.stderr.String(); got != "convoke: receive from chat: the daemon has ended\nconvoke: start it again when there is a daemon again\n" {
		t.Errorf("end of the daemon: got %q", got)
	}
}

func TestCast_SendsOneMessage(t *testing.T) {
	tree, groups := groupsTree(t)
	h := hear(t, tree, nil, "chat")
	long := strings.Repeat("x", ipc.MaxMessage)
	for _, tc := range []struct {
		stdin string
		args  []string
		want  string
	}{
		{"", []string{"hello", "world"}, "hello world"},
		{"", []string{""}, ""},
		{"", []string{"a  b", "-"}, "a  b -"},
		{"", []string{"--", "-x"}, "-x"},
		{"two\nlines\n", []string{"-"}, `two\nlines`},
		{"none", []string{"-"}, "none"},
		{long + "\n", []string{"-"}, long},
	} {
		if got := convoke(t, tree, tc.stdin, append([]string{"cast", "chat"}, tc.args...)...); got != (result{}) {
			t.Errorf("%q: got %+v", tc.args, got)
		}
		h.want("msg 1 7.0 " + tc.want)
	}
	for _, stdin := range []string{long + "y", long + "y\n", long + "\n\n"} {
		got := convoke(t, tree, stdin, "cast", "chat", "-")
		if got.status != 1 || got.stderr != "convoke: send to chat: message too long\nconvoke: a message has at most 1048576 bytes\n" {
			t.Errorf("one byte more: got %+v", got)
		}
	}
	groups.set(true)
	got := convoke(t, tree, "", "cast", "--wait", "0.05", "chat", "late")
	if got.status != 75 || !strings.Contains(got.stderr, "convoke: send to chat: connection timed out") {
		t.Errorf("nothing is taken: got %+v", got)
	}
	groups.set(false)
	h.want("msg 1 7.0 late")
	groups.mu.Lock()
	groups.closed = true
	groups.mu.Unlock()
	got = convoke(t, tree, "", "cast", "chat", "x")
	if got.status != 1 || !strings.Contains(got.stderr, "permission denied\nconvoke: its owner may let others send: chmod a+w cluster/groups/chat/send; members send by convoke feed --send\n") {
		t.Errorf("closed: got %+v", got)
	}
	h.read.Close()
	h.wantStatus(0)
}

func TestGroups_ListsGroupsAndMembers(t *testing.T) {
	tree := layOut(t, map[string]string{
		"cluster/groups/chat/feed": "", "cluster/groups/chat/send": "",
		"cluster/groups/chat/members":  "1 4242 web1 2026-01-31T10:00:00.123Z\n2 77.2 - 2026-01-31T10:00:01.000Z\n",
		"cluster/groups/a%20b/feed":    "",
		"cluster/groups/a%20b/send":    "",
		"cluster/groups/a%20b/members": "",
	})
	var st syscall.Stat_t
	if err := syscall.Stat(tree, &st); err != nil {
		t.Fatal(err)
	}
	owner := fmt.Sprintf("uid=%d gid=%d feed=0644 send=0644", st.Uid, st.Gid)
	for _, tc := range []struct{ args, want string }{
		{"groups", "a%20b " + owner + " members=-\nchat " + owner + " members=1:4242,2:77.2\n"},
		{"groups chat", "1 4242 web1 2026-01-31T10:00:00.123Z\n2 77.2 - 2026-01-31T10:00:01.000Z\n"},
		{"groups a%20b", ""},
	} {
		if got := convoke(t, tree, "", strings.Fields(tc.args)...); got.status != 0 || got.stdout != tc.want || got.stderr != "" {
			t.Errorf("%s: got %+v\nwant %s", tc.args, got, tc.want)
		}
	}
	got := convoke(t, tree, "", "groups", "--json", "chat")
	var g ipc.GroupInfo
	var list []any
	if !strings.Contains(got.stdout, `"name": "web1"`) || !strings.Contains(got.stdout, `"feed": "0644"`) {
		t.Errorf("got %+v", got)
	}
	got = convoke(t, tree, "", "groups", "--json")
	if err := json.Unmarshal([]byte(got.stdout), &list); err != nil || len(list) != 2 {
		t.Errorf("got %+v, %v", got, err)
	}
	got = convoke(t, tree, "", "groups", "none")
	if got.status != 1 || !strings.Contains(got.stderr, "there is no such group") {
		t.Errorf("got %+v", got)
	}
	g.Name = "x"
	if line := groupLine(g); line != "x uid=0 gid=0 feed=0000 send=0000 members=?" {
		t.Errorf("got %q", line)
	}
}
