#!/usr/bin/env bash
# tests/e2e/commit.sh SOURCE_DIR BUILD_DIR - `output: commit`: whatever was seen outside is explained by the point that a
# failover goes on from.
#
# The guest (tests/guests/payload: prog=records frames=1) numbers its frames; an observer on production's bridge is the
# world. A round: protect, let it run, SIGKILL of machine and agent, failover from memory, and the restored guest's first
# frame must be newer than everything the world saw: it does not take anything back.
#
# Rounds:   async, agent first   the agent dies, the machine goes on talking, then dies: the world saw what the failover
#                                takes back. It must be noticed, or the judge is blind.
#           commit, agent first  the same with output held: the world is told nothing more, and the guest waits
#           commit, at random    LB_COMMIT_ROUNDS (2) of them; LB_COMMIT_SEED replays
set -euo pipefail
top=$1 build=$2 bin=$2/bin
. "$top/tests/lib/pair.sh"
lb_alone commit "${LB_COMMIT_LIMIT_S:-220}" /dev/kvm /dev/net/tun jq nbdkit ip python3
rounds=${LB_COMMIT_ROUNDS:-2}
RANDOM=${LB_COMMIT_SEED:-20261}
lb_pair_begin "$LB_WORK" "$bin"
lb_pair_netns prod
lb_pair_netns dr

see() { # NETNS NAME
	ip netns exec "$1" python3 "$top/tests/lib/frames.py" br0 > "$work/$2" 2> "$work/$2.err" < /dev/null &
	watcher[$1]=$!
	disown
}
newest() { sed -n 's/^r \([0-9]*\) .*/\1/p' "$work/$1" | tail -1; }
oldest() { sed -n 's/^r \([0-9]*\) .*/\1/p' "$work/$1" | head -1; }
has_frames() { [ -n "$(newest "$1")" ]; }
shown() { [ "$(newest prod.seen)" -gt "$1" ]; }

declare -A watcher
set_up() { # OUTPUT
	lb_pair_begin "$LB_WORK/$n" "$bin"
	truncate -s 256M "$work/shop.img"
	lb_pair_tokyo 200ms <<-YAML
	- name: shop
	  driver: vmcore
	  vm:
	    memory: 64MiB
	    memory_points: true
	    output: $1
	    output_bound: 1MiB
	    kernel: $build/tests/payload.bin
	    cmdline: "prog=records every=2 frames=1"
	    nics: ["52:54:00:12:34:56"]
	    netns: prod
	    bridge: br0
	  volumes: [{name: vda, path: $work/shop.img}]
	YAML
	lb_pair_osaka "hypervisor: {driver: vmcore, kernel: $build/tests/payload.bin}
failover_network: {netns: dr, bridge: br0}"
	lb_pair_boot shop 30 "r " | lb_pair_runbook erp
	see prod prod.seen
	see dr dr.seen
	lb_pair_start
	tokyo vm run shop > /dev/null
	lb_wait_for 60 "frames in production" has_frames prod.seen
	lb_wait_for 60 "points" lb_pair_points 2
}

fail_over() {
	kill "${watcher[prod]}" # it tells what is on its way, and ends
	lb_wait_for 10 "the end of the world" lb_pair_gone "${watcher[prod]}"
	lb_pair_failover
	[[ $(lb_pair_detail shop) == *"from memory"* ]] || lb_fail "not from memory: $(lb_pair_detail shop)"
	lb_wait_for 30 "frames at osaka" has_frames dr.seen
	seen=$(newest prod.seen) next=$(oldest dr.seen)
	echo "the world saw record $seen; the restored machine goes on with $next"
}

clear_away() {
	osaka vm stop shop --confirm osaka > /dev/null
	kill -9 "${pid[osaka]}" "${watcher[dr]}" $(pgrep -x nbdkit) 2> /dev/null || true
	lb_wait_for 10 "the end of osaka" lb_pair_gone "${pid[osaka]}"
}

agent_first() { # OUTPUT
	set_up "$1"
	vm=$(lb_pair_vm tokyo shop .pid)
	lb_pair_kill9 tokyo
	if [ "$1" = async ]; then
		lb_wait_for 30 "frames without an agent" shown $(($(newest prod.seen) + 20))
	else
		sleep 1.5 # for what must not come: there is no event of that
	fi
	kill -9 "$vm"
	lb_wait_for 10 "the machine's end" lb_pair_gone "$vm"
	fail_over
}

n=1
say "async, the agent dies first"
agent_first async
[ "$seen" -ge "$next" ] || lb_fail "nothing was taken back, though nothing was shipped: the judge is blind"
clear_away

n=2
say "commit, the agent dies first"
agent_first commit
[ "$seen" -lt "$next" ] || lb_fail "the failover takes back what the world saw"
clear_away

for ((n = 3; n < 3 + rounds; n++)); do
	say "commit, killed at random"
	set_up commit
	lb_wait_for 30 "held frames to be let go" shown $(($(newest prod.seen) + RANDOM % 10))
	sleep "0.$((RANDOM % 900 + 100))" # the moment that is random
	lb_pair_kill tokyo shop
	fail_over
	[ "$seen" -lt "$next" ] || lb_fail "the failover takes back what the world saw"
	clear_away
done
echo "passed"
