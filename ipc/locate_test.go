package ipc

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/convoke-fs/convoke/rendezvous"
)

func asFuse(string) (int64, error) { return fuseMagic, nil }

func TestLocate_TreeOfARunningDaemon(t *testing.T) {
	tree := layOut(t, map[string]string{"cluster/version": "0.1\n"})
	got, err := locate(tree.Dir, AnswerTime, asFuse)
	if err != nil || got.Dir != tree.Dir {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestLocate_SaysWhatToDo(t *testing.T) {
	empty := t.TempDir()
	for _, tc := range []struct {
		name   string
		typeOf func(string) (int64, error)
		errno  error // which must be in the chain, or nil
		text   string
	}{
		{"no folder", func(string) (int64, error) { return fsType(empty + "/none") }, syscall.ENOENT, "start convoked"},
		{"nothing mounted", fsType, nil, "nothing is mounted there: start convoked"},
		{"another program's mount", asFuse, nil, "another program"},
		{"daemon gone", func(string) (int64, error) { return 0, syscall.ENOTCONN }, syscall.ENOTCONN, "fusermount3 -u"},
		{"another user's", func(string) (int64, error) { return 0, syscall.EACCES }, syscall.EACCES, "another user"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := locate(empty, AnswerTime, tc.typeOf)
			if err == nil || !strings.Contains(err.Error(), tc.text) || !strings.Contains(err.Error(), empty) {
				t.Errorf("got %v, want %q in it", err, tc.text)
			}
			if tc.errno != nil && !errors.Is(err, tc.errno) {
				t.Errorf("%v does not wrap %v", err, tc.errno)
			}
			if hint := Explain(err); hint != "" {
				t.Errorf("said twice: %v; %s", err, hint)
			}
			if kind := rendezvous.KindOf(err); kind != rendezvous.Unavailable {
				t.Errorf("kind %v, want %v", kind, rendezvous.Unavailable)
			}
		})
	}
}

func TestLocate_DeadMountDoesNotHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		goOn := make(chan struct{})
		_, err := locate("/n", AnswerTime, func(string) (int64, error) {
			<-goOn
			return 0, syscall.EIO
		})
		close(goOn)
		if !errors.Is(err, syscall.ETIMEDOUT) || !strings.Contains(err.Error(), "has not answered for 5s") {
			t.Errorf("got %v, want a timeout", err)
		}
	})
}

func TestLocate_ExplicitFlagThenEnvironmentThenDefault(t *testing.T) {
	set := func(mount, runtime string) {
		t.Setenv(MountEnv, mount)
		t.Setenv("XDG_RUNTIME_DIR", runtime)
	}
	set("/env/n/", "/run/u")
	if got, err := mountPoint("/flag/n"); got != "/flag/n" || err != nil {
		t.Errorf("flag: got %q, %v", got, err)
	}
	if got, err := mountPoint(""); got != "/env/n" || err != nil {
		t.Errorf("environment: got %q, %v", got, err)
	}
	set("", "/run/u")
	want := "/run/u/n"
	if os.Geteuid() == 0 {
		want = "/n"
	}
	if got, err := mountPoint(""); got != want || err != nil {
		t.Errorf("default: got %q, %v, want %q", got, err, want)
	}
	set("", "")
	if os.Geteuid() != 0 {
		if _, err := mountPoint(""); err == nil || !strings.Contains(err.Error(), "--mount") {
			t.Errorf("no runtime folder: got %v", err)
		}
	}
}
