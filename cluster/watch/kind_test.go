package watch

import (
	"slices"
	"strings"
	"testing"
)

func TestParseKinds(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want []Kind // nil: an error
	}{
		{"SNAP", []Kind{Snap}},
		{"MEMBER_LEFT,MASTER_ELECTED", []Kind{MemberLeft, MasterElected}},
		{"LOST,RESET,STAT,SNAPEND", []Kind{Lost, Reset, Stat, SnapEnd}},
		{"", nil},
		{"SNAP,", nil},
		{",SNAP", nil},
		{"snap", nil},
		{"SNAP, LOST", nil},
		{"SNAP,SNAP", nil},
		{"SNAP,NO_SUCH", nil},
		{"SNAP\nLOST", nil},
	} {
		got, err := ParseKinds(tt.in)
		if (err != nil) != (tt.want == nil) || !slices.Equal(got, tt.want) {
			t.Errorf("ParseKinds(%q) = %v, %v, want %v", tt.in, got, err, tt.want)
		}
	}
}

func TestParseKinds_EveryKindIsAccepted(t *testing.T) {
	var words []string
	for _, k := range Kinds() {
		words = append(words, string(k))
	}
	got, err := ParseKinds(strings.Join(words, ","))
	if err != nil || !slices.Equal(got, Kinds()) {
		t.Errorf("got %v, %v, want %v", got, err, Kinds())
	}
}

func FuzzParseKinds(f *testing.F) {
	f.Add("SNAP,MEMBER_LEFT")
	f.Add("SNAP,,x")
	f.Fuzz(func(t *testing.T, in string) {
		got, err := ParseKinds(in)
		if err != nil {
			return
		}
		words := make([]string, len(got))
		for i, k := range got {
			words[i] = string(k)
			if !slices.Contains(kinds, k) || slices.Contains(got[:i], k) {
				t.Fatalf("ParseKinds(%q) = %v", in, got)
			}
		}
		if back := strings.Join(words, ","); back != in {
			t.Fatalf("ParseKinds(%q) comes back as %q", in, back)
		}
	})
}

func TestEscape_FieldsStayFields(t *testing.T) {
	for in, want := range map[string]string{
		"web2":       "web2",
		"state=left": "state=left",
		"":           "-",
		"a b":        `a\x20b`,
		"a\nb":       `a\x0Ab`,
		"\x1b[31m":   `\x1B[31m`,
		`a\b`:        `a\x5Cb`,
		"é":          `\xC3\xA9`,
		"\x7f":       `\x7F`,
	} {
		if got := Escape(in); got != want {
			t.Errorf("Escape(%q) = %q, want %q", in, got, want)
		}
	}
}
