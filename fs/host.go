package fs

import (
	"github.com/convoke-fs/convoke/fs/quota"
	"github.com/convoke-fs/convoke/rendezvous"
)

// HostLimits counts in q what the users of a rendezvous.Host hold: what they dial, what they
// announce, and who waits for that.
func HostLimits(q *quota.Table) rendezvous.Limits { return hostLimits{q} }

type hostLimits struct{ q *quota.Table }

var limitResources = map[rendezvous.Limit]quota.Resource{
	rendezvous.DialLimit:     quota.Dials,
	rendezvous.AnnounceLimit: quota.Announcements,
	rendezvous.WaitLimit:     quota.Waiting,
}

func (l hostLimits) Take(uid uint32, what rendezvous.Limit) bool {
	return l.q.Take(uid, limitResources[what], 1)
}

func (l hostLimits) Give(uid uint32, what rendezvous.Limit) {
	l.q.Give(uid, limitResources[what], 1)
}
