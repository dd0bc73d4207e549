package run

import (
	"testing"

	"github.com/convoke-fs/convoke/test/daemon"
)

// The kernel checks a Landlock domain in open(2) itself, which a socket from the supervisor would pass by.
func TestLandlock_IsLeftToTheKernel(t *testing.T) {
	n := start(t)
	path := echo(t)
	const restrict = `
import ctypes, subprocess
libc = ctypes.CDLL(None, use_errno=True)
def call(*args):
    r = libc.syscall(*args)
    if r < 0: raise OSError(ctypes.get_errno(), "landlock")
    return r
if libc.syscall(444, None, 0, 1) < 0: print("no Landlock"); sys.exit()
def restrict(rights): # to what is handled, and nothing is allowed
    attr = ctypes.c_uint64(rights)
    call(446, call(444, ctypes.byref(attr), 8, 0), 0)
`
	for _, tc := range []struct{ want, program string }{
		// A child that may open no file any more, and its parent, which is not restricted.
		{"socket\nEACCES EACCES\n0\nfile\n", `
print(opened(sys.argv[1]), flush=True)
child = os.fork()
if child == 0:
    restrict(2 | 4) # WRITE_FILE, READ_FILE
    print(opened(sys.argv[1]), opened("/etc/passwd", os.O_RDONLY), flush=True); os._exit(0)
print(os.waitpid(child, 0)[1]); print(opened(sys.argv[1]))`},
		// A domain that does not keep files from being opened, of one thread: its end does not end that.
		{"socket\nfile\nfile\n0\n", `
import threading
print(opened(sys.argv[1]), flush=True)
def work(): restrict(32); print(opened(sys.argv[1]), flush=True) # REMOVE_FILE
t = threading.Thread(target=work); t.start(); t.join()
print(opened(sys.argv[1]), flush=True)
restrict(32) # a run within still finds its supervisor
print(subprocess.run([*sys.argv[2:], "run", "--mount", os.getcwd(), "--", "true"]).returncode)`},
	} {
		r := run(t, n, daemon.U1000, append(py(restrict+tc.program), path, daemon.Convoke(t))...)
		if r.Out == "no Landlock\n" {
			t.Skip("needs Landlock")
		}
		if r.Code != 0 || r.Out != tc.want {
			t.Errorf("got status %d, stderr %s\n%s\nwant\n%s", r.Code, r.Err, r.Out, tc.want)
		}
	}
}
