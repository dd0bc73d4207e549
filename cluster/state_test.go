package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func startState(t *testing.T, dir, addr string) identity {
	t.Helper()
	s, err := openState(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	me, err := s.start(netip.MustParseAddr(addr))
	if err != nil {
		t.Fatal(err)
	}
	return me
}

func TestState_NumberStaysAndBootGrows(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	for boot := uint64(1); boot <= 3; boot++ {
		addr := fmt.Sprintf("127.0.0.%d", boot+1) // the first start decides
		if me := startState(t, dir, addr); me != (identity{ID: 2, Boot: boot}) {
			t.Errorf("start %d: %+v", boot, me)
		}
	}
	for path, mode := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, identityFile): 0o600, filepath.Join(dir, lockFile): 0o600} {
		fi, err := os.Stat(path)
		if err != nil || fi.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v, want mode %o", path, fi.Mode(), err, mode)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.new")); len(left) != 0 {
		t.Errorf("temporary files stay: %v", left)
	}
}

func TestState_FirstNumber(t *testing.T) {
	for addr, want := range map[string]uint32{
		"127.0.0.1":    1,
		"10.1.2.3":     2<<8 | 3,
		"fd00::1:0203": 2<<8 | 3,
	} {
		if got := firstID(netip.MustParseAddr(addr)); got != want {
			t.Errorf("firstID(%s) = %d, want %d", addr, got, want)
		}
	}
	for range 1000 {
		if a, b := firstID(netip.MustParseAddr("10.0.0.0")), firstID(netip.Addr{}); a < 1<<16 || b < 1<<16 {
			t.Fatalf("random numbers %d and %d look like those of an address", a, b)
		}
	}
}

func TestState_WithoutAFolderNothingIsKept(t *testing.T) {
	a, b := startState(t, "", "127.0.0.1"), startState(t, "", "127.0.0.1")
	if a.Boot != 1 || b.Boot != 1 || a.ID == b.ID || a.ID == 0 {
		t.Errorf("%+v and %+v", a, b)
	}
}

func TestState_SecondDaemonIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := openState(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = openState(dir)
	if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), fmt.Sprint("process ", os.Getpid())) {
		t.Errorf("%v, want ErrInUse by process %d", err, os.Getpid())
	}
	s.close()
	if s, err = openState(dir); err != nil {
		t.Errorf("after the first is gone: %v", err)
	} else {
		s.close()
	}
}

func TestState_FolderThatOthersWriteIsRefused(t *testing.T) {
	for _, mode := range []os.FileMode{0o777, 0o770, 0o702} {
		dir := t.TempDir()
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := openState(dir); !errors.Is(err, ErrInvalid) {
			t.Errorf("mode %o: %v, want ErrInvalid", mode, err)
		}
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openState(file); err == nil {
		t.Error("a file is taken for a folder")
	}
}

func TestState_DamagedFileIsAnError(t *testing.T) {
	for _, text := range []string{
		"", "convoke node 1\nid 5\nboot 7\n", "convoke node 1\nid 5\nboot 7\nend", "convoke node 2\nid 5\nboot 7\nend\n",
		"convoke node 1\nid 0\nboot 7\nend\n", "convoke node 1\nid 5\nboot 0\nend\n", "convoke node 1\nid 4294967296\nboot 7\nend\n",
		"convoke node 1\nid 5\nboot 18446744073709551616\nend\n", "convoke node 1\nid 5\nboot 18446744073709551615\nend\n",
		"convoke node 1\nid 05\nboot 7\nend\n", "convoke node 1\nid 5\nboot 7\nend\nmore\n", strings.Repeat("\x00", 40),
	} {
		dir := t.TempDir()
		if err := os.Chmod(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, identityFile)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := openState(dir)
		if err != nil {
			t.Fatal(err)
		}
		if me, err := s.start(netip.MustParseAddr("127.0.0.1")); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), path) {
			t.Errorf("%q: %+v, %v, want ErrInvalid that names the file", text, me, err)
		}
		s.close()
		if now, _ := os.ReadFile(path); string(now) != text {
			t.Errorf("%q was changed to %q", text, now)
		}
	}
}

func TestState_CeilingIsKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	for _, want := range []uint64{0, 1024, math.MaxUint64} {
		s, err := openState(dir)
		if err != nil {
			t.Fatal(err)
		}
		if want != 0 {
			if err := s.saveCeiling(want); err != nil {
				t.Errorf("save %d: %v", want, err)
			}
		}
		s.close()
		if s, err = openState(dir); err != nil {
			t.Fatal(err)
		}
		if got, err := s.ceiling(); got != want || err != nil {
			t.Errorf("ceiling %d, %v, want %d", got, err, want)
		}
		s.close()
	}
	fi, err := os.Stat(filepath.Join(dir, ringFile))
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v, want mode 0600", fi, err)
	}
}

func TestState_CeilingWithoutAFolder(t *testing.T) {
	s, err := openState("")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.saveCeiling(5); err != nil {
		t.Error(err)
	}
	if got, err := s.ceiling(); got != 0 || err != nil {
		t.Errorf("%d, %v, want 0: nothing is kept", got, err)
	}
}

func TestState_DamagedCeilingIsAnError(t *testing.T) {
	for _, text := range []string{
		"", "convoke ring 1\nceiling 7\n", "convoke ring 1\nceiling 7\nend", "convoke ring 2\nceiling 7\nend\n",
		"convoke ring 1\nceiling -7\nend\n", "convoke ring 1\nceiling 07\nend\n", "convoke ring 1\nceiling 7\nend\nmore\n",
		"convoke ring 1\nceiling 18446744073709551616\nend\n", strings.Repeat("\x00", 40),
	} {
		s := &stateDir{path: t.TempDir()}
		path := filepath.Join(s.path, ringFile)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := s.ceiling(); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), path) {
			t.Errorf("%q: %d, %v, want ErrInvalid that names the file", text, got, err)
		}
		if now, _ := os.ReadFile(path); string(now) != text {
			t.Errorf("%q was changed to %q", text, now)
		}
	}
}

// What cannot be written is told each time, leaves the old ceiling whole, and
// goes through once it can. A folder in the place of the new file refuses every
// user, root too.
func TestState_CeilingThatCannotBeSaved(t *testing.T) {
	s := &stateDir{path: t.TempDir()}
	if err := s.saveCeiling(1024); err != nil {
		t.Fatal(err)
	}
	block := filepath.Join(s.path, ringFile+".new")
	if err := os.Mkdir(block, 0o700); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.saveCeiling(2048); !errors.Is(err, syscall.EISDIR) {
			t.Errorf("%v, want EISDIR", err)
		}
		if got, err := s.ceiling(); got != 1024 || err != nil {
			t.Errorf("%d, %v, want the old 1024", got, err)
		}
	}
	if err := os.Remove(block); err != nil {
		t.Fatal(err)
	}
	if err := s.saveCeiling(2048); err != nil {
		t.Error(err)
	}
	if got, err := s.ceiling(); got != 2048 || err != nil {
		t.Errorf("%d, %v, want 2048", got, err)
	}
}

func FuzzParseCeiling(f *testing.F) {
	f.Add([]byte("convoke ring 1\nceiling 7\nend\n"))
	f.Add([]byte("convoke ring 1\nceiling -7\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if c, err := parseCeiling(text); err == nil && !bytes.Equal(formatCeiling(c), text) {
			t.Fatalf("%q is read as %d", text, c)
		}
	})
}

func FuzzParseIdentity(f *testing.F) {
	f.Add([]byte("convoke node 1\nid 5\nboot 7\nend\n"))
	f.Add([]byte("convoke node 1\nid -5\nboot 7\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		me, err := parseIdentity(text)
		if err == nil && (!bytes.Equal(formatIdentity(me), text) || me.ID == 0 || me.Boot == 0) {
			t.Fatalf("%q is read as %+v", text, me)
		}
	})
}
