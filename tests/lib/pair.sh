# tests/lib/pair.sh - two sites, tokyo and osaka, for tests of machines under lifeboat-vm. Source it; alone.sh and site.sh
# come with it. In namespaces of one's own (lb_alone) nothing is left when the test ends.
#
#   lb_pair_begin DIR BIN          DIR/tokyo and DIR/osaka; $work is DIR; commands `tokyo ARGS` and `osaka ARGS`
#   lb_pair_tokyo INTERVAL [YAML]  tokyo's configuration, with these lines more: the machines on standard input (a
#                                  list), as group erp, are protected to osaka
#   lb_pair_osaka [YAML]           osaka's, with these lines more
#   lb_pair_runbook NAME           $work/NAME.yaml: tokyo is fenced, then the steps on standard input, such as
#   lb_pair_boot MACHINE SECONDS [WORDS [KEYS]]    boot it, until its console says WORDS; KEYS are more of the step's
#   lb_pair_site SITE              or a whole configuration from standard input, but for what every site has
#   lb_pair_start                  both agents, enrolled with each other
#   lb_pair_agent SITE             start an agent (again); ${pid[SITE]} is its pid
#   lb_pair_points N               tokyo's group has N acknowledged points
#   lb_pair_drill [NAME]           a drill by that runbook (erp) at osaka, lb_pair_failover the failover: must succeed
#   lb_pair_run                    the newest run's id; lb_pair_detail STEP: what it says of that step
#   lb_pair_vm SITE VM FIELD       a field of `vm show`
#   lb_pair_kill9 SITE             SIGKILL of an agent
#   lb_pair_kill SITE VM...        SIGKILL of machines and of the agent
#   lb_pair_stop                   both agents end well
#   lb_pair_netns NAME             a network namespace with a bridge br0 without an uplink
#
# Both are in this network namespace, unless ${lb_pair_ns[SITE]} names others; osaka listens at $lb_pair_address.

. "${BASH_SOURCE[0]%/*}/alone.sh"
. "${BASH_SOURCE[0]%/*}/site.sh"
declare -A pid lb_pair_ns
lb_pair_address=127.0.0.1

say() { printf '\n== %s\n' "$*"; }
tokyo() { "$lb_pair_bin/lifeboat" --socket "$work/tokyo/s" "$@"; }
osaka() { "$lb_pair_bin/lifeboat" --socket "$work/osaka/s" "$@"; }

lb_pair_on_exit() {
	local rc=$?
	set +e
	if [ $rc != 0 ]; then
		tail -n 15 "$work"/tokyo/log "$work"/osaka/log 2> /dev/null
		tail -n 20 "$work/run" "$work/said" 2> /dev/null
		tail -n 5 "$work"/*/state/vms/*/vm.log "$work"/*/state/boots/*/*/vm.log 2> /dev/null
	fi
	lb_sites_end
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

# ---- what they are told

lb_pair_site() { # SITE: standard input is the rest of its configuration
	cat > "$work/$1/lifeboat.yaml" <<-YAML
	site: $1
	state_dir: $work/$1/state
	control_socket: $work/$1/s
	$(cat)
	YAML
}

lb_pair_tokyo() { # INTERVAL [YAML]
	lb_pair_site tokyo <<-YAML
	${2:-}
	groups:
	  - name: erp
	    peer: osaka
	    interval: $1
	    machines:
	$(sed 's/^/      /')
	YAML
}

lb_pair_osaka() { # [YAML]
	lb_pair_site osaka <<-YAML
	listen: $lb_pair_address:7400
	enrol_listen: $lb_pair_address:7401
	store: {reserve: 1MiB}
	${1:-}
	YAML
}

lb_pair_runbook() { # NAME
	cat > "$work/$1.yaml" <<-YAML
	apiVersion: lifeboat/v1
	kind: Runbook
	name: $1
	rto: 5m
	modes: [drill, failover]
	steps:
	  - {id: fence, action: fence, site: tokyo}
	$(sed 's/^/  /')
	YAML
}

lb_pair_boot() { # MACHINE SECONDS [WORDS [KEYS]]
	local probes=${3:+", probes: [{serial: \"$3\", within: ${2}s}]"}
	echo "- {id: $1, action: boot, machine: $1, needs: [fence], retries: 0, timeout: $(($2 + 10))s$probes${4:+, $4}}"
}

# ---- what they do

lb_pair_answers() { "$1" status --json > /dev/null 2>&1; }
lb_pair_agent() { # SITE
	local in=()
	[ -z "${lb_pair_ns[$1]:-}" ] || in=(nsenter --net="/run/netns/${lb_pair_ns[$1]}")
	"${in[@]}" "$lb_pair_bin/lifeboatd" --config "$work/$1/lifeboat.yaml" >> "$work/$1/log" 2>&1 < /dev/null &
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

lb_pair_points() { # N
	[ "$(tokyo status --json | jq '.groups[0].points_acked')" -ge "$1" ]
}

lb_pair_drill() { # [NAME]
	osaka drill "$work/${1:-erp}.yaml" > "$work/run" 2>&1 || lb_fail "drill: $(cat "$work/run")"
}

lb_pair_failover() { # [NAME]
	osaka run start "$work/${1:-erp}.yaml" --mode failover --confirm tokyo --unattended > "$work/run" 2>&1 ||
		lb_fail "failover: $(cat "$work/run")"
}

lb_pair_run() { osaka run list --json | jq -r '.runs[0].id'; }
lb_pair_detail() { # STEP
	osaka run show "$(lb_pair_run)" --json | jq -r ".steps[] | select(.id == \"$1\") | .detail"
}

lb_pair_vm() { "$1" vm show "$2" --json | jq -r "$3"; } # SITE VM FIELD

# ---- how they end

# A zombie is gone when its last thread is: until then its files are open and locked.
lb_pair_gone() {
	! [ -d "/proc/$1" ] || { grep -q '^State:.Z' "/proc/$1/status" && [ "$(ls "/proc/$1/task")" = "$1" ]; } 2> /dev/null
}
lb_pair_kill() { # SITE VM...
	local site=$1 vm p pids=()
	shift
	for vm in "$@"; do
		pids+=("$(lb_pair_vm "$site" "$vm" .pid)")
	done
	pids+=("${pid[$site]}")
	kill -9 "${pids[@]}"
	for p in "${pids[@]}"; do
		lb_wait_for 10 "the end of lifeboatd and machines of $site" lb_pair_gone "$p"
	done
}

lb_pair_kill9() { lb_pair_kill "$1"; } # SITE

lb_pair_stop() {
	local site
	for site in tokyo osaka; do
		kill "${pid[$site]}"
		lb_wait_for 20 "lifeboatd of $site to end" lb_pair_gone "${pid[$site]}"
	done
	! grep -lE 'AddressSanitizer|LeakSanitizer|runtime error|ThreadSanitizer' "$work"/*/log || lb_fail "a sanitizer spoke"
}
