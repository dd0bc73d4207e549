package cluster

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/serf/serf"
)

// TestTags_SizeIsSerfs compares the size that we compute with serf's verdict on
// both sides of its limit, for maps and strings with short and long headers.
func TestTags_SizeIsSerfs(t *testing.T) {
	accepts := func(tags map[string]string) bool {
		c := serf.DefaultConfig()
		c.NodeName, c.Tags = "a", tags
		c.Logger = newBridge(config(t, newMemnet(), 1).Log)
		c.LogOutput = nil
		c.MemberlistConfig.Logger = c.Logger
		inner, err := newMemnet().open(at(1))()
		if err != nil {
			t.Fatal(err)
		}
		c.MemberlistConfig.Transport = inner
		s, err := serf.Create(c)
		if err != nil {
			inner.Shutdown()
			return false
		}
		s.Shutdown()
		return true
	}
	for _, count := range []int{0, 2, 14, 15, 16, 30} {
		for _, short := range []int{1, 5} {
			tags := map[string]string{}
			for i := range count {
				tags[fmt.Sprintf("k%02d", i)] = strings.Repeat("v", short)
			}
			for {
				tags["fill"] += "x"
				if encodedTags(tags) == memberlist.MetaMaxSize {
					break
				}
			}
			if !accepts(tags) {
				t.Errorf("%d tags: serf refuses what we find to be just small enough", count)
			}
			tags["fill"] += "x"
			if accepts(tags) {
				t.Errorf("%d tags: serf accepts what we find too large", count)
			}
		}
	}
}
