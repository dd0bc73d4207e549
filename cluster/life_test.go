package cluster

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/convoke-fs/convoke/cluster/watch"
)

func TestNode_LeaveThenJoinAgain(t *testing.T) {
	dir := t.TempDir()
	bubble(t, func(t *testing.T) {
		net := newMemnet()
		one := start(t, config(t, net, 1))
		c := config(t, net, 2, 1)
		c.StateDir = dir
		two := start(t, c)
		wantStates(t, 5*time.Second, "node1:alive node2:alive", one, two)
		rs := follow(one, two)
		oneID, twoID := one.Self().ID, two.Self().ID

		began := time.Now()
		if err := two.Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(began); d > 2*time.Second {
			t.Errorf("Leave took %v, want 2 s at most", d)
		}
		wantStates(t, 0, "node2:alive", two)
		wantStates(t, 2*time.Second, "node1:alive node2:left", one)
		time.Sleep(time.Second) // a probe that memberlist was in the middle of may end
		dials := net.dialsTo(at(1))
		time.Sleep(5 * time.Minute)
		wantStates(t, 0, "node2:alive", two)
		if net.listening(at(2)) || net.dialsTo(at(1)) != dials {
			t.Error("a node that has left speaks to the network")
		}
		if text, err := os.ReadFile(filepath.Join(dir, peersFile)); err != nil || len(text) != 0 {
			t.Errorf("it keeps its peers: %q, %v", text, err)
		}
		if err := two.Leave(t.Context()); err != nil {
			t.Errorf("second Leave: %v", err)
		}
		if _, err := two.Join(t.Context(), []string{at(9).String()}); !errors.Is(err, ErrNoAnswer) {
			t.Errorf("Join of nobody: %v, want ErrNoAnswer", err)
		}
		if net.listening(at(2)) {
			t.Error("a join that failed leaves the port open")
		}

		if n, err := two.Join(t.Context(), []string{at(1).String()}); n != 1 || err != nil {
			t.Fatalf("Join = %d, %v", n, err)
		}
		wantStates(t, 5*time.Second, "node1:alive node2:alive", one, two)
		if got, want := told(rs[0]), fmt.Sprintf("MEMBER_LEFT %d node2|MEMBER_JOINED %d node2", twoID, twoID); got != want {
			t.Errorf("node1 was told %q, want %q", got, want)
		}
		if got, want := told(rs[1]), fmt.Sprintf("MEMBER_LEFT %d node1|MEMBER_JOINED %d node1", oneID, oneID); got != want {
			t.Errorf("node2 was told %q, want %q", got, want)
		}
	})
}

func TestNode_RejoinsByItsPeerFile(t *testing.T) {
	for _, how := range []string{"crash", "close"} {
		t.Run(how, func(t *testing.T) {
			dirs := []string{t.TempDir(), t.TempDir(), t.TempDir()}
			bubble(t, func(t *testing.T) {
				net := newMemnet()
				var nodes []*Node
				for i, dir := range dirs {
					c := config(t, net, i+1, 1)
					c.StateDir = dir
					nodes = append(nodes, start(t, c))
				}
				const all = "node1:alive node2:alive node3:alive"
				wantStates(t, 5*time.Second, all, nodes...)
				time.Sleep(2 * time.Second) // the files are written every second
				for _, n := range nodes {
					if how == "crash" {
						n.kill()
					} else {
						n.Close()
					}
				}
				// All come back, and nobody is told where the others are.
				for i := range nodes {
					c := config(t, net, i+1)
					c.StateDir = dirs[i]
					nodes[i] = start(t, c)
				}
				wantStates(t, 15*time.Second, all, nodes...)
			})
		})
	}
}

func TestNode_RemoveForgetsTheFailed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		net := newMemnet()
		nodes := five(t, net)
		ctx := t.Context()
		if err := nodes[0].Remove(ctx, "node2"); !errors.Is(err, ErrAlive) {
			t.Errorf("a living one: %v, want ErrAlive", err)
		}
		if err := nodes[0].Remove(ctx, "node9"); !errors.Is(err, ErrUnknownMember) {
			t.Errorf("an unknown one: %v, want ErrUnknownMember", err)
		}
		if err := nodes[0].Remove(ctx, "node1"); !errors.Is(err, ErrInvalid) {
			t.Errorf("itself: %v, want ErrInvalid", err)
		}
		nodes[4].kill()
		rest := nodes[:4]
		wantStates(t, 5*time.Second, strings.Replace(allFive, "node5:alive", "node5:failed", 1), rest...)
		time.Sleep(time.Minute)
		if before := net.dialsTo(at(5)); before == 0 {
			t.Error("nobody redials the failed member")
		}
		if err := nodes[0].Remove(ctx, "node5"); err != nil {
			t.Fatal(err)
		}
		without := strings.Replace(allFive, " node5:alive", "", 1)
		wantStates(t, 0, without, nodes[0])
		wantStates(t, 2*time.Second, without, rest...)
		time.Sleep(10 * time.Second)
		before := net.dialsTo(at(5))
		time.Sleep(time.Minute)
		if now := net.dialsTo(at(5)); now != before {
			t.Errorf("the removed member was redialled %d times", now-before)
		}
		wantStates(t, 0, without, rest...)
	})
}

func TestNode_TagsAreToldAndBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		net := newMemnet()
		one := start(t, config(t, net, 1))
		two := start(t, config(t, net, 2, 1))
		wantStates(t, 5*time.Second, "node1:alive node2:alive", one, two)
		seen := func(key string) string {
			for _, m := range two.Members() {
				if m.Name == "node1" {
					return m.Tags[key]
				}
			}
			return ""
		}
		rs := follow(two)
		if err := one.SetTag(t.Context(), "zone", "eu=west,1"); err != nil {
			t.Fatal(err)
		}
		if err := one.SetTag(t.Context(), "rack", "7"); err != nil {
			t.Fatal(err)
		}
		within(t, 2*time.Second, "node2 sees the tags", func() bool { return seen("zone") == "eu=west,1" && seen("rack") == "7" })
		if err := one.SetTag(t.Context(), "zone", ""); err != nil {
			t.Fatal(err)
		}
		within(t, 2*time.Second, "node2 sees one go", func() bool { return seen("zone") == "" && seen("rack") == "7" })

		for _, key := range []string{"", "id", "name", "addr", "state", "role", "boot", "version", "tags", "a b", ".a", "a=b", "a\n", strings.Repeat("k", 128)} {
			if err := one.SetTag(t.Context(), key, "x"); !errors.Is(err, ErrInvalid) {
				t.Errorf("tag %q: %v, want ErrInvalid", key, err)
			}
		}
		for _, value := range []string{"a b", "a\n", "\x1b", "é", "\x7f"} {
			if err := one.SetTag(t.Context(), "key", value); !errors.Is(err, ErrInvalid) {
				t.Errorf("value %q: %v, want ErrInvalid", value, err)
			}
		}
		if err := one.SetTag(t.Context(), "big", strings.Repeat("v", 500)); !errors.Is(err, ErrTooLarge) {
			t.Errorf("500 bytes: %v, want ErrTooLarge", err)
		}
		// What is not refused arrives: the limit is that of the gossip.
		size := 0
		for size = 450; size > 0 && one.SetTag(t.Context(), "big", strings.Repeat("v", size)) != nil; size-- {
		}
		within(t, 2*time.Second, fmt.Sprintf("node2 sees a tag of %d bytes", size), func() bool { return len(seen("big")) == size })
		if size < 350 {
			t.Errorf("only %d bytes are left for tags", size)
		}
		if got := told(rs[0]); got != "" {
			t.Errorf("tags are told as a change of membership: %s", got)
		}
		// And such a node can still leave in good order.
		one.Close()
		wantStates(t, 2*time.Second, "node1:left node2:alive", two)
	})
}

func TestNode_StalledReaderHoldsUpNoGossip(t *testing.T) {
	bubble(t, func(t *testing.T) {
		net := newMemnet()
		nodes := five(t, net)
		// Whoever is woken at node1 does not return, as it ought to.
		block := make(chan struct{})
		r := nodes[0].hub.Open(nil, 0)
		r.Notify(func() { <-block })
		nodes[4].kill()
		others := nodes[1:4]
		rs := follow(others...)
		wantStates(t, 5*time.Second, strings.Replace(allFive, "node5:alive", "node5:failed", 1), others...)
		time.Sleep(30 * time.Second)
		c := config(t, net, 6, 1) // node1 even lets somebody in
		six := start(t, c)
		all := strings.Replace(allFive, "node5:alive", "node5:failed", 1) + " node6:alive"
		wantStates(t, 5*time.Second, all, others...)
		within(t, time.Second, "node6 is in", func() bool { return len(six.Members()) >= 5 })
		if len(nodes[0].Members()) < 5 {
			t.Error("Members does not answer")
		}
		close(block)
		wantStates(t, 5*time.Second, all, nodes[0])
		for i, r := range rs {
			if got := told(r); strings.Contains(got, "node1") {
				t.Errorf("%s was told %q", others[i].conf.Name, got)
			}
		}
	})
}

func TestNode_LostEventsAreOnlyADelay(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nodes := five(t, newMemnet())
		n := nodes[0]
		r := n.hub.Open([]watch.Kind{watch.MemberJoined, watch.MemberLeft}, 0)
		n.drop("node3") // as if its events had not come
		ghost := Member{ID: 77, Name: "ghost", Addr: at(77), State: Failed, Boot: 1}
		n.put(ghost)
		wantStates(t, 3*time.Second, allFive, n)
		if got := told(r); got != "" {
			t.Errorf("told %q, want nothing: the ring is the same", got)
		}
	})
}

func TestNode_StrangersKeysAreRemoved(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nodes := five(t, newMemnet())
		stranger := make([]byte, 32)
		km := nodes[4].instance().serf.KeyManager()
		text := base64.StdEncoding.EncodeToString(stranger)
		installed, err := km.InstallKey(text)
		if err != nil || installed.NumResp == 0 {
			t.Fatalf("InstallKey: %+v, %v", installed, err)
		}
		if _, err := km.UseKey(text); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		for _, n := range nodes {
			keys := n.instance().ring.GetKeys()
			if len(keys) != 1 || !slices.Equal(keys[0], n.key) {
				t.Errorf("%s holds %d keys", n.conf.Name, len(keys))
			}
		}
		wantStates(t, 10*time.Second, allFive, nodes...)
	})
}

func TestNode_EqualNumbersPart(t *testing.T) {
	dirs := []string{t.TempDir(), t.TempDir()}
	for i, boot := range []uint64{7, 3} {
		s, err := openState(dirs[i])
		if err != nil {
			t.Fatal(err)
		}
		if err := s.save(identity{ID: 5, Boot: boot}); err != nil {
			t.Fatal(err)
		}
		s.close()
	}
	bubble(t, func(t *testing.T) {
		net := newMemnet()
		var nodes []*Node
		for i, dir := range dirs {
			c := config(t, net, i+1, 1)
			c.StateDir = dir
			nodes = append(nodes, start(t, c))
		}
		wantStates(t, 5*time.Second, "node1:alive node2:alive", nodes...)
		for _, n := range nodes {
			within(t, 5*time.Second, "two numbers", func() bool { m := n.Members(); return m[0].ID == 5 && m[1].ID != 5 })
			if m := n.Members(); m[0].Name != "node1" {
				t.Errorf("%s keeps the number, which was started less often", m[0].Name)
			}
		}
		id := nodes[1].Self().ID
		nodes[1].Close()
		c := config(t, net, 2, 1)
		c.StateDir = dirs[1]
		if got := start(t, c).Self(); got.ID != id || got.Boot != 5 {
			t.Errorf("after a restart %d, boot %d, want %d, boot 5", got.ID, got.Boot, id)
		}
	})
}

func TestNode_SeedsAreAskedUntilOneAnswers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		net := newMemnet()
		n := start(t, config(t, net, 1, 1, 2, 9)) // itself, one that is late, one that never comes
		time.Sleep(time.Minute)
		if d := net.dialsTo(at(2)); d < 10 || d > 20 {
			t.Errorf("%d tries in a minute, want one every 5 s after some quicker ones", d)
		}
		if net.dialsTo(at(1)) != 0 {
			t.Error("the node has dialled itself")
		}
		start(t, config(t, net, 2))
		wantStates(t, 6*time.Second, "node1:alive node2:alive", n)
		time.Sleep(6 * time.Second)
		before := net.dialsTo(at(9))
		time.Sleep(time.Minute)
		if d := net.dialsTo(at(9)) - before; d != 0 {
			t.Errorf("%d more tries of the one that never came", d)
		}
	})
}

func TestNode_ParallelUseOfEverything(t *testing.T) {
	bubble(t, func(t *testing.T) {
		net := newMemnet()
		one := start(t, config(t, net, 1))
		two := start(t, config(t, net, 2, 1))
		done := make(chan struct{})
		for i := range 4 {
			go func() {
				defer func() { done <- struct{}{} }()
				for j := range 10 {
					switch (i + j) % 4 {
					case 0:
						two.SetTag(t.Context(), fmt.Sprint("k", i), fmt.Sprint(j))
					case 1:
						two.Leave(t.Context())
					case 2:
						two.Join(t.Context(), []string{at(1).String()})
					case 3:
						two.Remove(t.Context(), "node1")
						two.Members()
					}
				}
			}()
		}
		for range 4 {
			<-done
		}
		if _, err := two.Join(t.Context(), []string{at(1).String()}); err != nil {
			t.Fatal(err)
		}
		wantStates(t, 10*time.Second, "node1:alive node2:alive", one, two)
	})
}
