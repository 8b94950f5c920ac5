# tests/lib/alone.sh - to be sourced: a script runs once more in namespaces of its own, with a watchdog, as pid 1's only
# child: whatever it starts ends with it.

lb_self=("$0" "$@")
PATH=$PATH:/usr/sbin:/sbin

# lb_alone NAME LIMIT_S NEED... - NEED is a program or a device. Returns inside, with LB_WORK a directory that is removed
# afterwards; outside it runs "$0" with the same arguments and ends as that does, 77 when something is missing.
lb_alone() {
	local name=$1 limit_s=$2 need
	shift 2
	if [ -n "${LB_ALONE:-}" ]; then
		unset LB_ALONE
		return
	fi
	for need in "$@" unshare; do
		case $need in
		/*) [ -c "$need" ] || { echo "skipped: no $need"; exit 77; } ;;
		*) command -v "$need" > /dev/null || { echo "skipped: needs $need"; exit 77; } ;;
		esac
	done
	[ "$(id -u)" = 0 ] || { echo "skipped: needs root (namespaces)"; exit 77; }
	unshare -n -m -p -f --kill-child true 2> /dev/null || { echo "skipped: may not make namespaces"; exit 77; }
	LB_WORK=$(mktemp -d "/tmp/lb$name.XXXXXX")
	trap 'rm -rf "$LB_WORK"' EXIT
	export LB_WORK
	LB_ALONE=1 timeout -k 5 "$limit_s" unshare -n -m -p -f --kill-child --mount-proc "${lb_self[@]}"
	exit
}
