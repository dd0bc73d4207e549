package main

import (
	"fmt"
	"net"
	"os"
	"strings"
	"time"
)

// greetPath is the socket of a local service, below a mount.
const greetPath = "dev/fdp/local/greet"

// show is the session.
func (d *demo) show() error {
	for _, part := range []func() error{
		d.showStart, d.showMembers, d.showStream, d.showLocal, d.showErrors, d.showGroup, d.showDeath,
	} {
		if err := part(); err != nil {
			return err
		}
	}
	return nil
}

// step runs a command and checks that it ends with 0 and that its output has
// all of want.
func (d *demo) step(command string, want ...string) error {
	return d.stepStatus(0, command, want...)
}

// stepStatus is step for a command that is to fail with a status.
func (d *demo) stepStatus(status int, command string, want ...string) error {
	output, got, err := d.shell.run(d.ctx, command)
	if err != nil {
		return fmt.Errorf("demo: %s: %w", command, err)
	}
	if got != status {
		return fmt.Errorf("demo: %s: exit status %d instead of %d", command, got, status)
	}
	for _, text := range want {
		if !strings.Contains(output, text) {
			return fmt.Errorf("demo: %s: no %q in what it printed", command, text)
		}
	}
	return nil
}

// steps runs commands that only have to succeed.
func (d *demo) steps(commands ...string) error {
	for _, command := range commands {
		if err := d.step(command); err != nil {
			return err
		}
	}
	return nil
}

// awaits waits for a line from the background.
func (d *demo) awaits(want string) error {
	if err := d.shell.await(d.ctx, want); err != nil {
		return fmt.Errorf("demo: waiting for %q: %w", want, err)
	}
	return nil
}

func (d *demo) showStart() error {
	d.say("Three members on this host: each daemon has an address, a state and a mount of",
		"its own, and all have one key.")
	// A machine that is busy must not make them take each other for dead.
	if err := d.steps("cd "+d.dir, "convoke keygen key", "printf 'key-file=key\\ndead-after=10s\\n' >demo.conf"); err != nil {
		return err
	}
	for i := range demoNames {
		n := d.newNode(i)
		d.nodes = append(d.nodes, n)
		if err := d.start(n); err != nil {
			return err
		}
	}
	for _, n := range d.nodes {
		if err := d.ready(n); err != nil {
			return err
		}
	}
	for _, n := range d.nodes {
		if err := d.allAlive(n); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) showMembers() error {
	d.say("Who is there? Each mount tells, in files or by the command.")
	if err := d.step("ls web1/cluster/members", demoNames...); err != nil {
		return err
	}
	if err := d.step("cat web2/cluster/members/web3/addr", demoAddrs[2]); err != nil {
		return err
	}
	return d.step("convoke --mount web3 status", demoNames...)
}

func (d *demo) showStream() error {
	l, err := net.Listen("tcp", demoAddrs[1]+":0")
	if err != nil {
		return err
	}
	d.servers = append(d.servers, l)
	go serveCapitals(l)
	port := l.Addr().(*net.TCPAddr).Port
	path := fmt.Sprintf("dev/tcp/web2/%d", port)

	d.say("A connection is a file. At the address of web2 this program now runs a server",
		fmt.Sprintf("on port %d that gives each line back in capitals. From web1:", port))
	if err := d.step("echo hello | convoke --mount web1 connect "+path, "HELLO"); err != nil {
		return err
	}
	d.say("The same with nothing but the shell:")
	if err := d.steps("exec 3<>web1/"+path, "echo any program will do >&3"); err != nil {
		return err
	}
	if err := d.step(`read -r answer <&3; echo "$answer"`, "ANY PROGRAM WILL DO"); err != nil {
		return err
	}
	d.say("While it is open it has a folder, under the file's inode number.")
	if err := d.step("id=$(stat -Lc %i /dev/fd/3); ls web1/conn/$id", "ctl", "peer", "status"); err != nil {
		return err
	}
	if err := d.step("cat web1/conn/$id/status web1/conn/$id/remote",
		"open "+path, fmt.Sprintf("%s!%d", demoAddrs[1], port)); err != nil {
		return err
	}
	if err := d.step("convoke --mount web1 conns", path); err != nil {
		return err
	}
	return d.steps("exec 3>&-")
}

func (d *demo) showLocal() error {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: d.nodes[0].tree.Dir + "/" + greetPath, Net: "unix"})
	if err != nil {
		return err
	}
	// The socket goes with its daemon. Removing it at the end would be one
	// more call that a broken daemon could answer late.
	l.SetUnlinkOnClose(false)
	d.servers = append(d.servers, l)
	go serveGreeting(l)

	d.say("A program on this host can bind a socket in the tree. This program did, and",
		"greets by the uid that the kernel gives it.")
	if err := d.step("ls -l web1/"+greetPath, "srw"); err != nil {
		return err
	}
	return d.step("cat web1/"+greetPath+",stream", fmt.Sprintf("your uid is %d", os.Geteuid()))
}

func (d *demo) showErrors() error {
	l, err := net.Listen("tcp", demoAddrs[1]+":0")
	if err != nil {
		return err
	}
	port := l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		return err
	}
	d.say("What cannot be connected fails at the open, as connect(2) would.")
	if err := d.stepStatus(1, fmt.Sprintf("cat web1/dev/tcp/web2/%d", port), "Connection refused"); err != nil {
		return err
	}
	d.say("Nobody announces the nightly instance of report.")
	return d.stepStatus(1, "cat web1/dev/tcp/web2/report,nightly", "No such file or directory")
}

func (d *demo) showGroup() error {
	d.say("A process group has members on all nodes, and all of them read the same in the same",
		"order. One on web1 listens:")
	if err := d.steps("mkdir web2/cluster/groups/chat",
		"convoke --mount web1 feed chat | while read -r line; do echo \"web1: $line\"; done &"); err != nil {
		return err
	}
	if err := d.awaits("web1: conf members="); err != nil {
		return err
	}
	if err := d.step("convoke --mount web1 groups", "chat uid="); err != nil {
		return err
	}
	d.say("The shell joins on web2, says something, and leaves. The command on web3 does the",
		"same with its input.")
	if err := d.steps("exec 3<>web2/cluster/groups/chat/feed", "echo hello from web2 >&3", "exec 3>&-"); err != nil {
		return err
	}
	if err := d.awaits(":LEAVE"); err != nil {
		return err
	}
	if err := d.step("echo hello from web3 | convoke --mount web3 feed --send chat", " hello from web3"); err != nil {
		return err
	}
	return d.awaits("web1: msg 3 ")
}

func (d *demo) showDeath() error {
	victim := d.nodes[1]
	d.say("Reading cluster/events tells who is there, and then waits for each change. Let",
		"web3 watch, and kill the daemon of web2.")
	if err := d.steps("while read -r n time kind id name how; do echo \"web3: $kind $name $how\"; done \\\n" +
		"  <web3/cluster/events &"); err != nil {
		return err
	}
	if err := d.awaits("SNAPEND"); err != nil {
		return err
	}
	killed := time.Now()
	if err := d.steps(fmt.Sprintf("kill -9 %d", victim.cmd.Process.Pid)); err != nil {
		return err
	}
	if err := d.awaits("MEMBER_LEFT web2 ring="); err != nil {
		return err
	}
	d.say(fmt.Sprintf("That took %d milliseconds.", time.Since(killed).Milliseconds()))
	if err := d.step("cat web3/cluster/members/web2/state", "failed"); err != nil {
		return err
	}
	d.say("Its mount is dead, and whoever uses it is told at once. Started again the daemon",
		"mounts anew, and the others see it come back.")
	if err := d.stepStatus(1, "convoke --mount web2 members", "the daemon of this mount is gone"); err != nil {
		return err
	}
	<-victim.exited
	if err := d.start(victim); err != nil {
		return err
	}
	if err := d.awaits("MEMBER_JOINED web2"); err != nil {
		return err
	}
	if err := d.ready(victim); err != nil {
		return err
	}
	if err := d.allAlive(victim); err != nil {
		return err
	}
	return d.step("convoke --mount web2 members", demoNames...)
}
