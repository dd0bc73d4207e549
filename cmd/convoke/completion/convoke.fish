# fish completion for convoke(1) and convoked(8): convoke completion fish | source

function __convoke_mount
    set -l words (commandline -opc)
    if set -l at (contains -i -- --mount $words)
        echo $words[(math $at + 1)]
    else if set -q CONVOKE_MOUNT
        echo $CONVOKE_MOUNT
    else if test (id -u) = 0
        echo /n
    else
        echo $XDG_RUNTIME_DIR/n
    end
end

function __convoke_path
    set -l mount (__convoke_mount)
    printf '%s/\n' dev/tcp dev/udp dev/fdp/local
    for proto in tcp udp
        printf "dev/$proto/%s/\n" (command ls $mount/dev/$proto 2>/dev/null)
    end
    set -l host (string match -r '^dev/(?:(?:tcp|udp)/[^/]+|fdp/local)/' -- (commandline -ct))
    and printf "$host%s\n" (command ls $mount/$host 2>/dev/null)
end

set -l verbs members status events conns groups join leave connect serve send recv run feed cast log keygen demo completion help version
complete -c convoke -f
complete -c convoke -n "not __fish_seen_subcommand_from $verbs" -a "$verbs"
complete -c convoke -n "not __fish_seen_subcommand_from $verbs" -l version -d 'print the version'
complete -c convoke -l mount -xa '(__fish_complete_directories)' -d 'mount point of the daemon'
complete -c convoke -s h -l help -d explain
complete -c convoke -n '__fish_seen_subcommand_from members status events conns groups feed' -l json -d 'print JSON'
complete -c convoke -n '__fish_seen_subcommand_from events' -a 'SNAP SNAPEND MEMBER_JOINED MEMBER_LEFT STALE_CLUSTER INVALID_CLUSTER VALID_CLUSTER LOST RESET'
complete -c convoke -n '__fish_seen_subcommand_from groups feed cast' -a '(command ls (__convoke_mount)/cluster/groups 2>/dev/null)'
complete -c convoke -n '__fish_seen_subcommand_from feed' -s s -l send -d 'send each line of the input'
complete -c convoke -n '__fish_seen_subcommand_from cast' -l wait -x -d 'seconds for the cluster'
complete -c convoke -n '__fish_seen_subcommand_from connect' -l close -d 'end with the input'
complete -c convoke -n '__fish_seen_subcommand_from connect serve send recv' -a '(__convoke_path)'
complete -c convoke -n '__fish_seen_subcommand_from serve recv' -l grace -x -d 'how long commands may go on'
complete -c convoke -n '__fish_seen_subcommand_from serve recv' -l max -x -d 'most processes at once'
complete -c convoke -n '__fish_seen_subcommand_from serve recv' -l once -d 'serve one client'
complete -c convoke -n '__fish_seen_subcommand_from serve recv' -s v -l verbose -d 'tell who comes'
complete -c convoke -n '__fish_seen_subcommand_from recv' -l fds -x -d 'most descriptors of a client'
complete -c convoke -n '__fish_seen_subcommand_from send' -l wait -x -d 'seconds for the receiver'
complete -c convoke -n '__fish_seen_subcommand_from run' -xa '(__fish_complete_subcommand)'
complete -c convoke -n '__fish_seen_subcommand_from log' -s f -l follow -d 'go on with what comes'
complete -c convoke -n '__fish_seen_subcommand_from keygen' -F
complete -c convoke -n '__fish_seen_subcommand_from demo' -l no-wait -d 'end at once'
complete -c convoke -n '__fish_seen_subcommand_from completion' -a 'bash zsh fish'
complete -c convoke -n '__fish_seen_subcommand_from help' -a "$verbs"

for flag in name cluster bind join limit expect tie-breaker dead-after
    complete -c convoked -l $flag -x
end
for flag in insecure two-node wait-for-all check version help
    complete -c convoked -l $flag
end
for flag in key-file state run lib config
    complete -c convoked -l $flag -r
end
complete -c convoked -l foreign-net -xa 'deny allow'
complete -c convoked -l log-format -xa 'text json'
complete -c convoked -l log-level -xa 'debug info warn error'
