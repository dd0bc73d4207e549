package watch

import (
	"fmt"
	"slices"
	"strings"
)

// Kind is the third field of a record. Kinds are upper case.
type Kind string

// The kinds of records. All of them may stand in a filter, also those that this
// hub has no reason to post.
const (
	MasterElected     Kind = "MASTER_ELECTED"
	MasterDemoted     Kind = "MASTER_DEMOTED"
	ViceMasterElected Kind = "VICEMASTER_ELECTED"
	ViceMasterDemoted Kind = "VICEMASTER_DEMOTED"
	MemberJoined      Kind = "MEMBER_JOINED"
	MemberLeft        Kind = "MEMBER_LEFT"
	StaleCluster      Kind = "STALE_CLUSTER"
	InvalidCluster    Kind = "INVALID_CLUSTER"
	ValidCluster      Kind = "VALID_CLUSTER"
	Stat              Kind = "STAT"
	Snap              Kind = "SNAP"
	SnapEnd           Kind = "SNAPEND"
	Lost              Kind = "LOST"
	Reset             Kind = "RESET"
)

var kinds = []Kind{
	MasterElected, MasterDemoted, ViceMasterElected, ViceMasterDemoted,
	MemberJoined, MemberLeft, StaleCluster, InvalidCluster, ValidCluster,
	Stat, Snap, SnapEnd, Lost, Reset,
}

// Kinds gives all kinds that ParseKinds accepts, in a stable order. The slice
// is the caller's.
func Kinds() []Kind { return slices.Clone(kinds) }

// ParseKinds reads a filter: kinds separated by commas, without blanks, as they
// follow "events," in a file name. Each kind may be named once. The error names
// the word that is no kind, or is empty, or comes twice; its text is for people.
func ParseKinds(list string) ([]Kind, error) {
	var out []Kind
	for word := range strings.SplitSeq(list, ",") {
		k := Kind(word)
		switch {
		case word == "":
			return nil, fmt.Errorf("filter %q: empty kind", list)
		case !slices.Contains(kinds, k):
			return nil, fmt.Errorf("filter %q: unknown kind %q", list, word)
		case slices.Contains(out, k):
			return nil, fmt.Errorf("filter %q: kind %s comes twice", list, word)
		}
		out = append(out, k)
	}
	return out, nil
}

// accept is a filter as a set. A nil map accepts every kind.
type accept map[Kind]bool

func acceptOf(filter []Kind) accept {
	if filter == nil {
		return nil
	}
	a := make(accept, len(filter))
	for _, k := range filter {
		a[k] = true
	}
	return a
}

func (a accept) has(k Kind) bool { return a == nil || a[k] }
