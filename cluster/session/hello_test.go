package session

import (
	"bytes"
	"strings"
	"testing"

	"github.com/convoke-fs/convoke/cluster/ring"
)

var someHello = hello{
	protoMin: 1, protoMax: 3, cluster: clusterHash("c"), nk: ring.NK{ID: 7, Boot: 1 << 40}, instance: [16]byte{1, 2, 3},
	name: "node.7", maxSeq: 1 << 50, ring: ring.ID{Seq: 9, Rep: 8}, features: 1 << 63,
}

// TestHello_Form holds the form still, for nodes of other versions.
func TestHello_Form(t *testing.T) {
	h := hello{protoMin: 1, protoMax: 2, nk: ring.NK{ID: 3, Boot: 4}, name: "n", maxSeq: 5, ring: ring.ID{Seq: 6, Rep: 7}, features: 8}
	h.cluster, h.instance = [16]byte([]byte("cccccccccccccccc")), [16]byte([]byte("iiiiiiiiiiiiiiii"))
	want := "OSP1" + "\x01\x00" + "\x02\x00" + "cccccccccccccccc" + "\x03\x00\x00\x00" + "\x04\x00\x00\x00\x00\x00\x00\x00" +
		"iiiiiiiiiiiiiiii" + "\x01n" + "\x05\x00\x00\x00\x00\x00\x00\x00" + "\x06\x00\x00\x00\x00\x00\x00\x00" + "\x07\x00\x00\x00" +
		"\x08\x00\x00\x00\x00\x00\x00\x00"
	if got := string(h.append(nil)); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	r := refusal{reason: reasonBoot, boot: 9}
	if got, want := string(r.append(nil)), "\x02\x09\x00\x00\x00\x00\x00\x00\x00"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestHello_RoundTrip(t *testing.T) {
	for _, name := range []string{"n", strings.Repeat("n", maxName)} {
		h := someHello
		h.name = name
		b := h.append(nil)
		if len(b) > maxGreeting {
			t.Errorf("%d bytes", len(b))
		}
		if got, err := parseHello(append(b, "of a later version"...)); err != nil || got != h {
			t.Errorf("%+v, %v, want %+v", got, err, h)
		}
		for n := range len(b) {
			if _, err := parseHello(b[:n]); err == nil {
				t.Errorf("%d of %d bytes are a greeting", n, len(b))
			}
		}
	}
	for r := reasonConflict; r <= reasonInvalid; r++ {
		want := refusal{reason: r, boot: 1 << 60}
		got, err := parseRefusal(want.append(nil))
		if err != nil || *got != want {
			t.Errorf("%+v, %v, want %+v", got, err, want)
		}
		if strings.HasPrefix(got.Error(), "reason") {
			t.Errorf("reason %d has no text", r)
		}
	}
	if r, err := parseRefusal([]byte{200, 0, 0, 0, 0, 0, 0, 0, 0, 1}); err != nil || r.Error() != "reason 200" {
		t.Errorf("a reason of a later version: %v, %v", r, err)
	}
}

func FuzzHello(f *testing.F) {
	f.Add(someHello.append(nil))
	f.Add([]byte("OSP1\x02\x00\x03\x00"))
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, err := parseHello(b); err == nil && h.understood() {
			if !bytes.HasPrefix(b, h.append(nil)) || h.nk.ID == 0 || h.nk.Boot == 0 || !validName(h.name) {
				t.Fatalf("%x is read as %+v", b, h)
			}
		}
		if r, err := parseRefusal(b); err == nil && !bytes.HasPrefix(b, r.append(nil)) {
			t.Fatalf("%x is read as %+v", b, r)
		}
	})
}
