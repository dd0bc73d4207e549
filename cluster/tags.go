package cluster

import (
	"fmt"
	"maps"
	"slices"

	"github.com/hashicorp/memberlist"
)

// fieldNames are no tags: each is a file or a column of a member already.
var fieldNames = []string{"id", "name", "addr", "state", "role", "boot", "tags", "version"}

// checkTag says what is wrong with a user's tag.
func checkTag(key, value string) error {
	switch {
	case !validName(key):
		return fmt.Errorf("tag %q: %w: want letters, digits, '.', '_' and '-'", key, ErrInvalid)
	case slices.Contains(fieldNames, key):
		return fmt.Errorf("tag %q: %w: every member has a field of this name", key, ErrInvalid)
	case !validTagValue(value):
		return fmt.Errorf("tag %q: value %q: %w: want visible characters of ASCII without blanks", key, value, ErrInvalid)
	}
	return nil
}

// validTagValue tells whether a value can stand in a line as it is.
func validTagValue(v string) bool {
	for i := 0; i < len(v); i++ {
		if v[i] <= ' ' || v[i] >= 0x7f {
			return false
		}
	}
	return true
}

// checkTagSize refuses tags that gossip can not carry, the one of the goodbye
// included.
func checkTagSize(tags map[string]string) error {
	tags = maps.Clone(tags)
	tags[tagLeaving] = "1"
	if size := encodedTags(tags); size > memberlist.MetaMaxSize {
		return fmt.Errorf("tags: %w: %d bytes, the limit is %d", ErrTooLarge, size, memberlist.MetaMaxSize)
	}
	return nil
}

// encodedTags is how many bytes serf makes of tags: a magic byte, and a
// MessagePack map of strings in the form without str8.
func encodedTags(tags map[string]string) int {
	size := 1 + 1
	if len(tags) >= 16 {
		size += 2
	}
	for k, v := range tags {
		for _, s := range [2]string{k, v} {
			size += 1 + len(s)
			if len(s) >= 32 {
				size += 2
			}
		}
	}
	return size
}
