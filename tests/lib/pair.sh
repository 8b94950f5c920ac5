# tests/lib/pair.sh - two sites in one network namespace, for tests of machines under lifeboat-vm. Source it after
# site.sh, in namespaces of one's own (unshare -n -m -p): nothing is left when they end.
#
#   lb_pair_begin DIR BIN   DIR/tokyo and DIR/osaka; $work is DIR; commands `tokyo ARGS` and `osaka ARGS`
#   lb_pair_osaka YAML      osaka's configuration, with these lines more; the test writes tokyo's itself
#   lb_pair_start           both agents, enrolled with each other
#   lb_pair_agent SITE      start an agent (again); ${pid[SITE]} is its pid
#   lb_pair_kill9 SITE      SIGKILL of an agent
#   lb_pair_kill SITE VM... SIGKILL of machines and of the agent
#   lb_pair_netns NAME      a network namespace with a bridge br0 without an uplink
#   lb_pair_points N        tokyo's first group has N acknowledged points

declare -A pid

say() { printf '\n== %s\n' "$*"; }
tokyo() { "$lb_pair_bin/lifeboat" --socket "$work/tokyo/s" "$@"; }
osaka() { "$lb_pair_bin/lifeboat" --socket "$work/osaka/s" "$@"; }

lb_pair_on_exit() {
	local rc=$?
	if [ $rc != 0 ]; then
		tail -n 15 "$work"/tokyo/log "$work"/osaka/log 2> /dev/null
		tail -n 20 "$work/run" 2> /dev/null
		tail -n 5 "$work"/*/state/vms/*/vm.log "$work"/*/state/boots/*/*/vm.log 2> /dev/null
	fi
	exit $rc
}

lb_pair_begin() { # DIR BIN
	work=$1 lb_pair_bin=$2
	mkdir -p "$work"/{tokyo,osaka}/state
	chmod 755 "$work" "$work"/{tokyo,osaka}
	ip link set lo up
	trap lb_pair_on_exit EXIT
}

lb_pair_netns() { # NAME
	if [ ! -e /run/netns/.own ]; then # names of namespaces would be left behind
		mkdir -p /run/netns
		mount --make-private -t tmpfs none /run/netns
		touch /run/netns/.own
	fi
	lb_net_with_bridge "$1"
}

lb_pair_osaka() { # YAML
	cat > "$work/osaka/lifeboat.yaml" <<-YAML
	site: osaka
	state_dir: $work/osaka/state
	control_socket: $work/osaka/s
	plugin_dir: $lb_pair_bin
	listen: 127.0.0.1:7400
	enrol_listen: 127.0.0.1:7401
	store: {reserve: 1MiB}
	$1
	YAML
}

lb_pair_answers() { "$1" status --json > /dev/null 2>&1; }
lb_pair_agent() { # SITE
	"$lb_pair_bin/lifeboatd" --config "$work/$1/lifeboat.yaml" >> "$work/$1/log" 2>&1 < /dev/null &
	pid[$1]=$!
	disown "${pid[$1]}"
	lb_wait_for 30 "lifeboatd of $1" lb_pair_answers "$1"
}

lb_pair_start() {
	lb_pair_agent osaka
	lb_pair_agent tokyo
	osaka site init > /dev/null
	osaka site token tokyo > "$work/token"
	tokyo site join "$work/token" > /dev/null
	rm -f "$work/token"
}

lb_pair_gone() { ! [ -d "/proc/$1" ] || grep -q '^State:.Z' "/proc/$1/status" 2> /dev/null; }
lb_pair_kill9() { # SITE
	kill -9 "${pid[$1]}"
	lb_wait_for 10 "the end of lifeboatd of $1" lb_pair_gone "${pid[$1]}"
}

lb_pair_vm() { "$1" vm show "$2" --json | jq -r "$3"; } # SITE VM FIELD

lb_pair_kill() { # SITE VM...
	local site=$1 vm pids=()
	shift
	for vm in "$@"; do
		pids+=("$(lb_pair_vm "$site" "$vm" .pid)")
	done
	kill -9 "${pids[@]}" "${pid[$site]}"
	lb_wait_for 10 "the end of lifeboatd of $site" lb_pair_gone "${pid[$site]}"
}

lb_pair_points() { # N
	[ "$(tokyo status --json | jq '.groups[0].points_acked')" -ge "$1" ]
}
