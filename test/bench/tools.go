package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// zeroFile makes a file of size zeros that takes no memory. Tools send it, so that all of them read the same.
func zeroFile(size int64) (int, error) {
	fd, err := unix.MemfdCreate("zeros", unix.MFD_CLOEXEC)
	if err != nil {
		return -1, err
	}
	if err := unix.Ftruncate(fd, size); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// have tells whether all the tools are installed.
func have(tools ...string) bool {
	for _, t := range tools {
		if _, err := exec.LookPath(t); err != nil {
			return false
		}
	}
	return true
}

// addBulkTools adds how people send and receive in a shell. Each command's standard input is the file of zeros and its
// output goes nowhere.
func (b *bench) addBulkTools(m map[column]measure, send bool, block, port int) {
	if b.o.noTools {
		return
	}
	file := quote(string(b.node.stream(port)))
	sub := strings.NewReplacer("FILE", file, "BLOCK", strconv.Itoa(block), "PORT", strconv.Itoa(port)).Replace
	add := func(c column, out, in string, tools ...string) {
		script := in
		if send {
			script = out
		}
		if have(tools...) {
			m[c] = b.timedByPeer(func(ctx context.Context) error { return b.shell(ctx, tools[0], sub(script)) })
		}
	}
	add(ddFile, "dd bs=BLOCK of=FILE", "dd bs=BLOCK if=FILE of=/dev/null", "sh", "dd")
	add(catFile, "cat >FILE", "cat FILE", "sh", "cat")
	add(socat, "socat -u - TCP:127.0.0.1:PORT", "socat -u TCP:127.0.0.1:PORT -", "sh", "socat")
	if openbsdNC() {
		add(nc, "nc -N 127.0.0.1 PORT", "nc -d 127.0.0.1 PORT", "sh", "nc")
	}
	add(bashTCP, "dd bs=BLOCK >/dev/tcp/127.0.0.1/PORT", "dd bs=BLOCK </dev/tcp/127.0.0.1/PORT of=/dev/null", "bash", "dd")
}

// addConnTools adds how people make connections in a shell: a process for each, or bash without any.
func (b *bench) addConnTools(m map[column]measure, threads int) {
	if b.o.noTools {
		return
	}
	add := func(c column, total int, script string, tools ...string) {
		if !have(tools...) {
			return
		}
		each := max(1, total/threads)
		m[c] = func(ctx context.Context) (float64, error) {
			port := b.peer.connPort()
			s := strings.NewReplacer("FILE", quote(string(b.node.stream(port))), "PORT", strconv.Itoa(port), "EACH", strconv.Itoa(each)).Replace(script)
			return perSecond(b.parallel(ctx, threads, each, tools[0], s))
		}
	}
	add(socat, b.o.size.runs, loop("socat -u OPEN:/dev/null TCP:127.0.0.1:PORT"), "sh", "socat")
	if openbsdNC() {
		add(nc, b.o.size.runs, loop("nc -N 127.0.0.1 PORT </dev/null"), "sh", "nc")
	}
	add(bashFile, b.o.size.conns, bashLoop("FILE"), "bash")
	add(bashTCP, b.o.size.conns, bashLoop("/dev/tcp/127.0.0.1/PORT"), "bash")
}

// loop runs a command EACH times.
func loop(command string) string {
	return "i=0; while [ $i -lt EACH ]; do " + command + "; i=$((i+1)); done"
}

// bashLoop opens a path EACH times.
func bashLoop(path string) string {
	return "for ((i = 0; i < EACH; i++)); do exec 3<>" + path + " 3>&-; done"
}

// openbsdNC tells whether nc is the one that understands -N and -d.
func openbsdNC() bool {
	out, _ := exec.Command("nc", "-h").CombinedOutput()
	return bytes.Contains(out, []byte("OpenBSD"))
}

// parallel runs a script in so many shells at once and returns how often they did their work, and in how many
// nanoseconds. A shell says a byte and waits for the end of its standard input, so that its own start is left out.
func (b *bench) parallel(ctx context.Context, threads, each int, shell, script string) (n, nanos int64, err error) {
	gate, open, err := os.Pipe()
	if err != nil {
		return 0, 0, err
	}
	defer gate.Close()
	defer open.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wait []func() error
	for range threads {
		cmd := exec.CommandContext(ctx, shell, "-c", "echo; read -r x; "+script)
		var text bytes.Buffer
		cmd.Stdin, cmd.Stderr = gate, &text
		out, err := cmd.StdoutPipe()
		if err != nil {
			return 0, 0, err
		}
		if err := cmd.Start(); err != nil {
			return 0, 0, err
		}
		wait = append(wait, func() error {
			err := cmd.Wait()
			if err != nil || text.Len() > 0 {
				err = fmt.Errorf("%s: %v: %s", script, err, text.Bytes())
			}
			return err
		})
		if _, err := out.Read(make([]byte, 1)); err != nil {
			return 0, 0, errors.Join(err, wait[len(wait)-1]())
		}
	}
	start := time.Now()
	open.Close()
	for _, f := range wait {
		err = errors.Join(err, f())
	}
	return int64(threads * each), time.Since(start).Nanoseconds(), err
}

// shell runs a script with the zeros as its input.
func (b *bench) shell(ctx context.Context, shell, script string) error {
	in, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", b.zeros)) // a new open file, at its beginning
	if err != nil {
		return err
	}
	defer in.Close()
	cmd := exec.CommandContext(ctx, shell, "-c", script)
	var text bytes.Buffer
	cmd.Stdin, cmd.Stderr = in, &text
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", script, err, text.Bytes())
	}
	return nil
}

// quote makes s one word of a shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
