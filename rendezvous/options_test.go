package rendezvous

import "testing"

func TestID_ResolvesAtOpen(t *testing.T) {
	for _, tt := range []struct {
		id    ID
		user  uint32
		group uint32
		kind  Kind
	}{
		{ID{Self: true}, 77, 77, Other},
		{ID{N: 1000}, 1000, 1000, Other},
		{ID{}, 0, 0, Other},
		{ID{Name: "root"}, 0, 0, Other},
		{ID{Name: "no-such-name-here"}, 0, 0, NotExist},
	} {
		uid, err := tt.id.User(77)
		if uid != tt.user || KindOf(err) != tt.kind {
			t.Errorf("%+v: got uid %d, %v, want %d, kind %v", tt.id, uid, err, tt.user, tt.kind)
		}
		gid, err := tt.id.Group(77)
		if gid != tt.group || KindOf(err) != tt.kind {
			t.Errorf("%+v: got gid %d, %v, want %d, kind %v", tt.id, gid, err, tt.group, tt.kind)
		}
	}
}

func TestOptions_InstanceIsWhatOnlyAnAnnouncementCanMean(t *testing.T) {
	for elem, want := range map[string]bool{
		"s": false, "s,other,local,remote,test,now,slave": false, "s,create": false,
		"s,user": true, "s,group=5": true, "s,nightly": true,
	} {
		_, o, err := ParseService(elem)
		if err != nil || o.Instance() != want {
			t.Errorf("%s: got %v, %v, want %v", elem, o.Instance(), err, want)
		}
	}
}
