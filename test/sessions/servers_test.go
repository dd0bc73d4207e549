package sessions

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"syscall"
	"testing"
)

// servers starts the servers that sessions talk to, and returns their ports by the names that sessions use for them.
func servers(t *testing.T) map[string]string {
	return map[string]string{
		"PORT_ECHO":   serve(t, echo),
		"PORT_DAY":    serve(t, daytime),
		"PORT_COUNT":  serve(t, count),
		"PORT_RESET":  serve(t, reset),
		"PORT_HOLD":   serve(t, hold),
		"PORT_FILL":   serve(t, fill),
		"PORT_SAID":   serve(t, answer),
		"PORT_ONCE":   serve(t, once),
		"PORT_NONE":   nobody(t, syscall.SOCK_STREAM),
		"PORT_UDP":    serveUDP(t),
		"PORT_NO_UDP": nobody(t, syscall.SOCK_DGRAM),
	}
}

// echo sends back what it gets until the end of it.
func echo(c *net.TCPConn) { _, _ = io.Copy(c, c) }

// daytime says one line and closes, like the service of that name.
func daytime(c *net.TCPConn) { fmt.Fprintln(c, "Monday, 1 o'clock") }

// count tells how many bytes have come when all have.
func count(c *net.TCPConn) {
	n, _ := io.Copy(io.Discard, c)
	fmt.Fprintln(c, n)
}

// reset cuts the connection at the first byte.
func reset(c *net.TCPConn) {
	_, _ = c.Read(make([]byte, 1))
	_ = c.SetLinger(0)
}

// hold greets and keeps the connection until the other side ends it.
func hold(c *net.TCPConn) {
	fmt.Fprintln(c, "hello")
	_, _ = io.Copy(io.Discard, c)
}

// fill sends as many bytes as the line that it gets says.
func fill(c *net.TCPConn) {
	line, _ := bufio.NewReader(c).ReadString('\n')
	n, err := strconv.Atoi(line[:max(len(line)-1, 0)])
	if err == nil {
		_, _ = io.CopyN(c, zeros{}, int64(n))
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// answer answers each line with "you said: " before it, and does not end.
func answer(c *net.TCPConn) {
	for lines := bufio.NewScanner(c); lines.Scan(); {
		fmt.Fprintf(c, "you said: %s\n", lines.Text())
	}
}

// once answers one line, and ends.
func once(c *net.TCPConn) {
	if line, err := bufio.NewReader(c).ReadString('\n'); err == nil {
		fmt.Fprintf(c, "you said: %s", line)
	}
}

// serve runs a server on loopback; it ends with the test.
func serve(t *testing.T, handle func(*net.TCPConn)) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // closed
			}
			go func() {
				defer c.Close()
				handle(c.(*net.TCPConn))
			}()
		}
	}()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// serveUDP answers each datagram with "you said: " before it.
func serveUDP(t *testing.T) string {
	t.Helper()
	p, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	go func() {
		b := make([]byte, 1<<16)
		for {
			n, from, err := p.ReadFrom(b)
			if err != nil {
				return // closed
			}
			_, _ = p.WriteTo(append([]byte("you said: "), b[:n]...), from)
		}
	}()
	return strconv.Itoa(p.LocalAddr().(*net.UDPAddr).Port)
}

// nobody keeps a port on which nobody listens. A datagram to it is refused since the socket is connected to itself.
func nobody(t *testing.T, kind int) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, kind|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	if kind == syscall.SOCK_DGRAM {
		if err := syscall.Connect(fd, name); err != nil {
			t.Fatal(err)
		}
	}
	return strconv.Itoa(name.(*syscall.SockaddrInet4).Port)
}
