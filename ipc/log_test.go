package ipc

import (
	"io"
	"os"
	"testing"
	"testing/synctest"
)

func TestLog_EndsAtTheEnd(t *testing.T) {
	tree := layOut(t, map[string]string{"cluster/log": "one\ntwo\n"})
	r, err := tree.Log(false)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || string(got) != "one\ntwo\n" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestLog_FollowsWhatIsAdded(t *testing.T) {
	tree := layOut(t, map[string]string{"cluster/log": "one\n"})
	synctest.Test(t, func(t *testing.T) {
		f, err := os.OpenFile(tree.path("cluster/log"), os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		r, err := tree.Log(true)
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 64)
		if n, err := r.Read(buf); err != nil || string(buf[:n]) != "one\n" {
			t.Fatalf("got %q, %v", buf[:n], err)
		}
		got := make(chan string)
		go func() {
			n, _ := r.Read(buf)
			got <- string(buf[:n])
		}()
		synctest.Wait() // The reader sleeps at the end.
		if _, err := f.WriteString("two\n"); err != nil {
			t.Fatal(err)
		}
		if text := <-got; text != "two\n" {
			t.Errorf("got %q, want what was added", text)
		}
		go func() {
			n, err := r.Read(buf)
			got <- string(buf[:n]) + err.Error()
		}()
		synctest.Wait()
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		if text := <-got; text != io.EOF.Error() {
			t.Errorf("after Close: got %q, want EOF", text)
		}
	})
}
