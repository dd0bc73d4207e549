# bash completion for convoke(1) and convoked(8): eval "$(convoke completion bash)"

# _convoke_mount prints the mount point that the command line means.
_convoke_mount() {
	local i
	for ((i = 1; i < COMP_CWORD - 1; i++)); do
		[ "${COMP_WORDS[i]}" = --mount ] && printf %s "${COMP_WORDS[i + 1]}" && return
	done
	if [ -n "$CONVOKE_MOUNT" ]; then printf %s "$CONVOKE_MOUNT"
	elif [ "$EUID" = 0 ]; then printf /n
	else printf %s "$XDG_RUNTIME_DIR/n"; fi
}

_convoke() {
	local cur=$2 prev=$3 verb= words= i
	local verbs='members status events conns groups join leave connect serve send recv run feed cast log keygen demo completion help version'
	case $prev in
	--) COMPREPLY=($(compgen -c -- "$cur")); return ;;
	--fds | --grace | --max | --wait) return ;;
	esac
	[[ " ${COMP_WORDS[*]:0:COMP_CWORD} " = *' -- '* ]] && { COMPREPLY=($(compgen -f -- "$cur")); return; }
	[ "$prev" = --mount ] && { COMPREPLY=($(compgen -d -- "$cur")); return; }
	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		--mount) ((i++)) ;;
		-*) ;;
		*) verb=${COMP_WORDS[i]}; break ;;
		esac
	done
	case $verb in
	'') words="$verbs --mount --help --version" ;;
	members | status | conns) words='--json' ;;
	events) words='--json SNAP SNAPEND MEMBER_JOINED MEMBER_LEFT STALE_CLUSTER INVALID_CLUSTER VALID_CLUSTER LOST RESET' ;;
	groups | feed | cast)
		words=$([ "$verb" = cast ] && echo --wait || echo --json)$([ "$verb" = feed ] && echo ' --send')
		for i in "$(_convoke_mount)"/cluster/groups/*; do [[ ${i##*/} =~ ^[A-Za-z0-9._%-]+$ ]] && words="$words ${i##*/}"; done ;;
	connect | serve | send | recv)
		words='dev/tcp/ dev/udp/ dev/fdp/local/'
		case $verb in
		connect) words="$words --close" ;;
		serve) words='dev/tcp/local/ dev/fdp/local/ --grace --max --once --verbose' ;;
		send) words='dev/fdp/local/ --wait' ;;
		recv) words='dev/fdp/local/ --fds --grace --max --once --verbose' ;;
		esac
		if [[ $cur =~ ^dev/(tcp|udp)/[^/]*$ ]]; then
			# compgen expands what it is given: only names that have nothing to expand.
			for i in "$(_convoke_mount)/${cur%/*}"/*; do
				[[ ${i##*/} =~ ^[A-Za-z0-9._-]+$ ]] && words="$words ${cur%/*}/${i##*/}/"
			done
		fi
		# Services follow the host, with no slash behind them.
		if [[ $cur =~ ^dev/((tcp|udp)/[^/]+|fdp/local)/[^/]*$ ]]; then
			for i in "$(_convoke_mount)/${cur%/*}"/*; do
				[[ ${i##*/} =~ ^[A-Za-z0-9._,=+:@-]+$ ]] && words="$words ${cur%/*}/${i##*/}"
			done
		fi
		compopt -o nospace 2>/dev/null ;;
	run) [[ $cur = -* ]] || { COMPREPLY=($(compgen -c -- "$cur")); return; } ;;
	keygen) COMPREPLY=($(compgen -f -- "$cur")); return ;;
	log) words='--follow' ;; demo) words='--no-wait' ;;
	completion) words='bash zsh fish' ;; help) words=$verbs ;;
	esac
	[ -n "$verb" ] && words="$words --mount --help"
	COMPREPLY=($(compgen -W "$words" -- "$cur"))
}

_convoked() {
	case $3 in
	--key-file | --config) COMPREPLY=($(compgen -f -- "$2")) ;;
	--foreign-net) COMPREPLY=($(compgen -W 'deny allow' -- "$2")) ;;
	--log-format) COMPREPLY=($(compgen -W 'text json' -- "$2")) ;;
	--log-level) COMPREPLY=($(compgen -W 'debug info warn error' -- "$2")) ;;
	--name | --cluster | --bind | --join | --limit | --expect | --dead-after) ;;
	--tie-breaker) COMPREPLY=($(compgen -W lowest -- "$2")) ;;
	*) COMPREPLY=($(compgen -d -W '--name --cluster --bind --join --key-file --insecure --state --run --lib --foreign-net
		--limit --expect --two-node --wait-for-all --tie-breaker --dead-after --log-format --log-level --config --check --version --help' -- "$2")) ;;
	esac
}
complete -F _convoke convoke
complete -F _convoked convoked
