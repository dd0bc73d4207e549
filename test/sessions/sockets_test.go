package sessions

// runTrials are the programs that convokefs(4) says were tried under convoke run. They wait by poll, select or epoll, for
// what they would not wait for, or not in time, on a file.
var runTrials = map[string]trial{
	"bash":       {"bash", `convoke run -- bash --norc -c '` + readTimeout + `'`, said + "nothing comes\n"},
	"busybox sh": {"busybox", `convoke run -- busybox sh -c '` + readTimeout + `'`, said + "nothing comes\n"},
	"busybox nc": {"busybox", `{ head -n 1 $TMP/req; sleep 0.5; } | convoke run -- busybox nc -f dev/tcp/local/$PORT_SAID`, said},

	"gawk": {"gawk", `convoke run -- gawk -v f=dev/tcp/local/$PORT_HOLD 'BEGIN {
		PROCINFO[f, "READ_TIMEOUT"] = 10000; print (getline l < f), l
		PROCINFO[f, "READ_TIMEOUT"] = 50; print (getline l < f), ERRNO }'`, "1 hello\n-1 Connection timed out\n"},

	"perl": {"perl", `convoke run -- perl -MIO::Select -MIO::Socket::INET -e '
		open(my $f, "+<", shift) or die $!;
		my $s = IO::Socket::INET->new_from_fd(fileno($f), "r+") or die $!;
		$s->autoflush(1); print $s "pear\n";
		my $sel = IO::Select->new($s);
		$sel->can_read(10) and print scalar <$s>;
		$sel->can_read(0.05) or print "nothing comes\n";
		print "port ", $s->peerport == $ENV{PORT_SAID}, "\n";
		$s->shutdown(1); $sel->can_read(10) and !defined <$s> and print "end\n";' dev/tcp/local/$PORT_SAID`,
		said + "nothing comes\nport 1\nend\n"},

	"pv": {"pv", `convoke run -- pv -q dev/tcp/local/$PORT_DAY; { cat $TMP/req; sleep 0.5; } | convoke run -- sh -c 'pv -q >dev/tcp/local/$PORT_SAID'`, "Monday, 1 o'clock\n"},

	"python3": {"python3", `convoke run -- python3 - dev/tcp/local/$PORT_SAID dev/tcp/local/$PORT_DAY <<'END'
import asyncio, os, socket, sys
async def main():
    sock = socket.socket(fileno=os.open(sys.argv[1], os.O_RDWR))
    print(sock.family.name, sock.getpeername()[1] == int(os.environ['PORT_SAID']))
    reader, writer = await asyncio.open_connection(sock=sock)
    writer.write(b'pear\n'); print((await reader.readline()).decode(), end='')
    try: await asyncio.wait_for(reader.readline(), 0.05)
    except asyncio.TimeoutError: print('nothing comes')
    writer.write_eof(); print(await reader.read()); writer.close()
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), open(sys.argv[2], 'rb', 0))
    print((await reader.read()).decode(), end='')
asyncio.run(main())
END`, "AF_INET True\n" + said + "nothing comes\nb''\nMonday, 1 o'clock\n"},

	"socat": {"socat", `head -n 1 $TMP/req | convoke run -- socat -t 10 - GOPEN:$path; convoke run -- socat -u OPEN:dev/tcp/local/$PORT_DAY,rdonly -`,
		said + "Monday, 1 o'clock\n"},

	"static Go": {"go", `convoke run -- "$TMP/client" --socket dev/tcp/local/$PORT_SAID`,
		"you said: by os.OpenFile\ndeadline and close end a read\nyou said: by net.FileConn\nport true\n"},

	"tail": {"tail", `convoke run -- tail -f dev/tcp/local/$PORT_DAY >$TMP/got & until [ -s $TMP/got ]; do sleep 0.01; done; kill $!; cat $TMP/got`, "Monday, 1 o'clock\n"},

	"tclsh": {"tclsh", `convoke run -- tclsh - <<'END'
set f [open dev/tcp/local/$env(PORT_SAID) r+]
fconfigure $f -blocking 0 -buffering line
fileevent $f readable { puts [gets $f]; set done {something has come} }
puts $f pear
vwait done
puts $done
after 50 { set done {nothing comes} }
vwait done
puts $done
END`, said + "something has come\nnothing comes\n"},

	"zsh": {"zsh", `convoke run -- zsh -fc '
		zmodload zsh/zselect
		exec 3<>dev/tcp/local/$PORT_SAID; echo pear >&3
		zselect -t 1000 -r 3; echo $reply; read -u 3 line; echo $line
		zselect -t 5 -r 3 || echo nothing comes
		read -t 0.05 -u 3 line || echo nothing comes'`, "-r 3\n" + said + "nothing comes\nnothing comes\n"},
}

// readTimeout is for sh -c '...': a read that something comes for, and one that nothing comes for.
const readTimeout = "exec 3<>dev/tcp/local/$PORT_SAID; echo pear >&3; read -t 10 line <&3; echo \"$line\"; read -t 0.1 line <&3 || echo nothing comes"

// connectTrials are the programs that convokefs(4) says were tried by convoke connect and convoke serve.
var connectTrials = map[string]trial{
	"git": {"git", announce + `
export HOME=$TMP GIT_CONFIG_NOSYSTEM=1
git -c init.defaultBranch=main init -q $TMP/repo
git -C $TMP/repo -c user.name=me -c user.email=me@here commit -q --allow-empty -m pear
announce git daemon --inetd --export-all --base-path=$TMP $TMP
printf '#!/bin/sh\nexec convoke connect dev/tcp/$1/$2\n' >$TMP/proxy; chmod 0755 $TMP/proxy
git -c core.gitProxy=$TMP/proxy clone -q git://local:$port/repo $TMP/clone
git -C $TMP/clone log --format=%s; stop`, "pear\n"},

	"rsync": {"rsync", announce + `
printf '[files]\npath = %s\nuse chroot = no\nuid = root\ngid = root\nread only = no\n' $TMP >$TMP/conf
announce rsync --daemon --config=$TMP/conf
export RSYNC_CONNECT_PROG="convoke connect dev/tcp/%H/$port"
rsync rsync://local/files/req $TMP/got; cat $TMP/got; rsync $TMP/got rsync://local/files/sent; cmp $TMP/req $TMP/sent; stop` +
		sshd + `rsync -e "$ssh" $TMP/req web1:$TMP/over; cat $TMP/over; stop`, "pear\napple\npear\napple\n"},

	"ssh": {"sshd", announce + sshd + `$ssh web1 'read -r a; echo "you said: $a"' <$TMP/req; stop`, said},
}

// announce runs a server by convoke serve, at a port that is $port then, until stop.
const announce = `
announce() {
	: >$TMP/path; convoke serve dev/tcp/local/0 -- "$@" >$TMP/path & pid=$!
	until [ -s $TMP/path ]; do sleep 0.01; done; read -r path <$TMP/path; port=${path##*/}
}
stop() { kill $pid; wait $pid; }
`

// sshd announces the server of ssh, one process for each client, and $ssh connects to it by a command.
const sshd = `
mkdir -p /run/sshd
for key in host id; do ssh-keygen -q -t ed25519 -N '' -f $TMP/$key; done
announce /usr/sbin/sshd -i -e -f /dev/null -o LogLevel=ERROR -o HostKey=$TMP/host -o AuthorizedKeysFile=$TMP/id.pub -o StrictModes=no -o UsePAM=no
cat >$TMP/config <<EOF
Host *
	IdentityFile $TMP/id
	LogLevel ERROR
	StrictHostKeyChecking no
	UserKnownHostsFile /dev/null
	ProxyCommand convoke connect dev/tcp/local/$port
EOF
ssh="ssh -F $TMP/config"
`
