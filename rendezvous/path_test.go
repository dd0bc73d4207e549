package rendezvous

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParse_ReadsBothForms(t *testing.T) {
	report := Path{TCP, "db", "report", Options{User: &ID{N: 1000}, Qualifiers: []string{"nightly"}}}
	for _, tt := range []struct {
		path string
		want Path
	}{
		{"dev/tcp/db/report,user=1000,nightly", report},
		{"/dev/tcp/db/report/user=1000/nightly", report},
		{"tcp/db/report,user=1000/nightly", report},
		{"/tcp/db/report/nightly,user=1000", report},
		{"//dev//tcp/db///report,user=1000//nightly", report},
		{"dev/tcp/::1/80", Path{TCP, "::1", "80", Options{}}},
		{"dev/tcp/fe80::1%eth0/80", Path{TCP, "fe80::1%eth0", "80", Options{}}},
		{"dev/udp/local/0,create", Path{UDP, "local", "0", Options{Create: true}}},
		{"dev/fdp/local/s,sock", Path{FDP, "local", "s", Options{Sock: true}}},
		{"dev/fdp/local/s,stream", Path{FDP, "local", "s", Options{Stream: true}}},
		{"dev/tcp/dev/dev", Path{TCP, "dev", "dev", Options{}}},
		{"dev/tcp/share/s,local,test,now,slave,remote,other", Path{TCP, "share", "s",
			Options{Other: true, Local: true, Remote: true, Test: true, Now: true, Slave: true}}},
		{"tcp/a/b,user,group", Path{TCP, "a", "b", Options{User: &ID{Self: true}, Group: &ID{Self: true}}}},
		{"tcp/a/b,user=eve,group=staff", Path{TCP, "a", "b", Options{User: &ID{Name: "eve"}, Group: &ID{Name: "staff"}}}},
		{"tcp/a/b,user=0", Path{TCP, "a", "b", Options{User: &ID{}}}},
		{"tcp/a/b,z,x=y,a", Path{TCP, "a", "b", Options{Qualifiers: []string{"z", "x=y", "a"}}}},
		{"tcp/a/user,User", Path{TCP, "a", "user", Options{Qualifiers: []string{"User"}}}},
	} {
		got, err := Parse(tt.path)
		if err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("Parse(%q): got %v, %v, want %v", tt.path, got, err, tt.want)
			continue
		}
		again, err := Parse(got.String())
		if err != nil || !reflect.DeepEqual(again, got) {
			t.Errorf("Parse(%q): got %v, %v, want %v", got.String(), again, err, got)
		}
	}
}

func TestPath_StringIsCanonical(t *testing.T) {
	p, err := Parse("/tcp/db/report/z/now/group/a/user=7/other=x")
	if err == nil {
		t.Fatalf("a value for other was taken: %v", p)
	}
	p, err = Parse("/tcp/db/report/z/now/group/a/user=7")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := p.String(), "dev/tcp/db/report,user=7,group,now,z,a"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := p.Element(), "report,user=7,group,now,z,a"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestParse_RefusesWhatIsMalformed(t *testing.T) {
	for _, path := range []string{
		"", "/", "dev", "tcp", "tcp/a", "dev/tcp/a", "dev/tcp/a/", "tcp/a/b/", "tcp/a/,", "tcp/a/b,", "tcp/a/b,,c", "tcp/a/b,c,",
		"tcp/./b", "tcp/../b", "tcp/a/..", "tcp/a/b/..", "tcp/a b/c", "tcp/a/b c", "tcp/a/b,c d", "tcp/a/ä", "tcp/a/b\n",
		"tcp/a/65536", "tcp/a/99999999999999999999", "tcp/a/080", "tcp/a/00",
		"tcp/a/b,now,now", "tcp/a/b,user,user=1", "tcp/a/b,user=1,user=1", "tcp/a/b,group,group", "tcp/a/b,x,y,x",
		"tcp/a/b,other,user", "tcp/a/b,group=1,other", "tcp/a/b,create,test", "tcp/a/b,create,now", "fdp/local/b,stream,sock",
		"tcp/a/b,stream", "udp/a/b,sock", "tcp/a/b,create=yes", "tcp/a/b,now=",
		"tcp/a/b,user=", "tcp/a/b,user=-1", "tcp/a/b,user=4294967295", "tcp/a/b,user=4294967296", "tcp/a/b,user=007", "tcp/a/b,user=a b",
		"tcp/a/b,-x", "tcp/a/b,=x", "tcp/a/b,x;y", "tcp/a/b,x$y",
		"tcp/" + strings.Repeat("x", 254) + "/b",
		"tcp/a/" + strings.Repeat("x", 128),
	} {
		p, err := Parse(path)
		if KindOf(err) != Invalid {
			t.Errorf("Parse(%q): got %v, %v, want Invalid", path, p, err)
		}
		var e *Error
		if !errors.As(err, &e) || e.Path != path {
			t.Errorf("Parse(%q): the error does not name the path: %v", path, err)
		}
	}
}

func TestParse_UnknownProtocolIsNotThere(t *testing.T) {
	for _, path := range []string{"dev/sctp/a/b", "dev/TCP/a/b", "dev/dev/tcp/a/b", "dev/fdp/web1/s"} {
		if p, err := Parse(path); KindOf(err) != NotExist || !errors.Is(err, unix.ENOENT) {
			t.Errorf("Parse(%q): got %v, %v, want NotExist", path, p, err)
		}
	}
}

func TestParse_BothFormsHaveOneLimit(t *testing.T) {
	words := ""
	for i := 0; len("s"+words) < MaxElement-5; i++ {
		words += "," + strings.Repeat("q", 3) + string(rune('a'+i%26)) + string(rune('a'+i/26))
	}
	elem := "s" + words
	elem += "," + strings.Repeat("z", MaxElement-len(elem)-1)
	if len(elem) != MaxElement {
		t.Fatalf("got %d bytes, want %d", len(elem), MaxElement)
	}
	for _, tt := range []struct {
		elem string
		ok   bool
	}{{elem, true}, {elem + "z", false}} {
		_, comma := Parse("tcp/a/" + tt.elem)
		_, slash := Parse("tcp/a/" + strings.ReplaceAll(tt.elem, ",", "/"))
		_, _, service := ParseService(tt.elem)
		for _, err := range []error{comma, slash, service} {
			if (err == nil) != tt.ok || !tt.ok && !errors.Is(err, unix.ENAMETOOLONG) {
				t.Errorf("%d bytes: got %v, want ok=%v", len(tt.elem), err, tt.ok)
			}
		}
	}
	if _, err := Parse(strings.Repeat("/", 1<<20)); !errors.Is(err, unix.ENAMETOOLONG) {
		t.Errorf("a million slashes: got %v", err)
	}
}

func TestParseService_ReadsOneElement(t *testing.T) {
	service, o, err := ParseService("report,user=1000,nightly")
	if err != nil || service != "report" || !reflect.DeepEqual(o, Options{User: &ID{N: 1000}, Qualifiers: []string{"nightly"}}) {
		t.Errorf("got %q, %v, %v", service, o, err)
	}
	for _, elem := range []string{"", "a/b", "a,b/c", ",", "a,", ".", "..", "a,now,now"} {
		if service, o, err := ParseService(elem); KindOf(err) != Invalid || service != "" || o.String() != "" {
			t.Errorf("ParseService(%q): got %q, %v, %v, want Invalid", elem, service, o, err)
		}
	}
}

func TestPath_ValidateRefusesWhatParseWouldNotReturn(t *testing.T) {
	good := Path{UDP, "db", "syslog", Options{Now: true, Qualifiers: []string{"b", "a"}}}
	if err := good.Validate(); err != nil {
		t.Errorf("%v: got %v", good, err)
	}
	for _, tt := range []struct {
		p    Path
		want Kind
	}{
		{Path{}, Invalid},
		{Path{TCP, "a", "b,now", Options{}}, Invalid},
		{Path{TCP, "a/b", "c", Options{}}, Invalid},
		{Path{TCP, "a", "b", Options{Qualifiers: []string{"c,create"}}}, Invalid},
		{Path{TCP, "a", "b", Options{Qualifiers: []string{"create"}}}, Invalid},
		{Path{TCP, "a", "b", Options{Sock: true}}, Invalid},
		{Path{TCP, "a", "b", Options{Create: true, Test: true}}, Invalid},
		{Path{FDP, "web1", "b", Options{}}, NotExist},
		{Path{Proto(7), "a", "b", Options{}}, NotExist},
	} {
		if err := tt.p.Validate(); KindOf(err) != tt.want || err == nil {
			t.Errorf("%+v: got %v, want kind %v", tt.p, err, tt.want)
		}
	}
}

func TestProto_NamesRoundTrip(t *testing.T) {
	for _, p := range []Proto{TCP, UDP, FDP} {
		if got, ok := ParseProto(p.String()); !ok || got != p {
			t.Errorf("%v: got %v, %v", p, got, ok)
		}
	}
	if p, ok := ParseProto("sctp"); ok {
		t.Errorf("sctp: got %v", p)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"dev/tcp/db/report,user=1000,nightly", "/dev/tcp/db/report/user=1000/nightly", "udp/::1%eth0/0,create",
		"dev/fdp/local/s,sock", "tcp/share/s,local,x=y,group", "dev//tcp/a/b/", "tcp/a/b,user=eve@x.org,other",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := Parse(s)
		if err != nil {
			if k := KindOf(err); k != Invalid && k != NotExist {
				t.Fatalf("Parse(%q): kind %v: %v", s, k, err)
			}
			return
		}
		text := p.String()
		for _, form := range []string{text, "/" + text, strings.TrimPrefix(text, "dev/"), strings.ReplaceAll(text, ",", "/")} {
			again, err := Parse(form)
			if err != nil || !reflect.DeepEqual(again, p) || again.String() != text {
				t.Fatalf("Parse(%q) for %q: got %v, %v, want %v", form, s, again, err, p)
			}
		}
		if err := p.Validate(); err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		if len(p.Element()) > MaxElement || len(p.Host) > MaxHost || strings.ContainsAny(text, " \n\x00\x1b\"'\\*?;&|<>()") {
			t.Fatalf("%q became %q", s, text)
		}
	})
}

func FuzzParseService(f *testing.F) {
	for _, s := range []string{"report,user=1000,nightly", "0,create", "80", "s,x=y,group=staff,now", "a,,b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		service, o, err := ParseService(s)
		if err != nil {
			if KindOf(err) != Invalid {
				t.Fatalf("ParseService(%q): %v", s, err)
			}
			return
		}
		elem := Path{Service: service, Options: o}.Element()
		service2, o2, err := ParseService(elem)
		if err != nil || service2 != service || !reflect.DeepEqual(o2, o) {
			t.Fatalf("%q became %q: %q, %v, %v", s, elem, service2, o2, err)
		}
		if strings.Count(s, ",") != strings.Count(elem, ",") || len(s) != len(elem) {
			t.Fatalf("%q became %q", s, elem)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse("dev/tcp/db/report,user=1000,nightly"); err != nil {
			b.Fatal(err)
		}
	}
}
