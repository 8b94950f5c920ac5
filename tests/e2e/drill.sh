#!/usr/bin/env bash
# tests/e2e/drill.sh SOURCE_DIR BUILD_DIR - a drill goes on from a memory point inside a bubble, and then the same
# machine fails over, with real KVM and frames that are seen on real bridges.
#
# The guest (tests/guests/payload: prog=records frames=1) sends a frame for each record it has told, with its clock.
# The drill begins from an old point: its clock is the point's. Its frames are seen in the bubble and nowhere else, as
# nftables counts; the replica's bytes are the same afterwards, and points kept coming. Then the agent is killed in a
# drill, and the drill's machine does not outlive the drill. At last tokyo is lost: the failed-over machine tells its
# bridge where it is, its frames are the counters' proof that they do count, and a reset starts it again.
set -euo pipefail
top=$1 build=$2 bin=$2/bin
. "$top/tests/lib/pair.sh"
lb_alone drill "${LB_DRILL_LIMIT_S:-200}" /dev/kvm /dev/net/tun jq nbdkit ip nft python3
lb_pair_begin "$LB_WORK" "$bin"
mac=52:54:00:12:34:56

# ---- networks: production at tokyo, osaka's own, a bubble; osaka's own has a cable to the agent's namespace

lb_pair_netns prod
lb_pair_netns dr
lb_pair_netns bubble
ip link add up0 type veth peer name up1 netns dr
ip link set up0 up
ip -n dr link set up1 master br0 up
count() { # NETNS DEVICE
	ip netns exec "$1" nft -f - <<-NFT
	table netdev watch {
		counter guest { }
		chain in {
			type filter hook ingress device "$2" priority 0;
			ether type 0x88b5 counter name guest
		}
	}
	NFT
}
counted() { ip netns exec "$1" nft -j list counters | jq '[.nftables[].counter // empty | .packets] | add'; }
ln -s /proc/self/ns/net /run/netns/host
count dr up1
count host up0
see() { # NETNS NAME
	ip netns exec "$1" python3 "$top/tests/lib/frames.py" br0 > "$work/$2" 2> "$work/$2.err" < /dev/null &
	disown
}
see bubble bubble.seen
see dr dr.seen
see prod prod.seen

truncate -s 256M "$work/shop.img"
lb_pair_tokyo 500ms <<YAML
- name: shop
  driver: vmcore
  vm:
    memory: 64MiB
    memory_points: true
    kernel: $build/tests/payload.bin
    cmdline: "prog=records every=10 frames=1"
    nics: ["$mac"]
    netns: prod
    bridge: br0
  volumes: [{name: vda, path: $work/shop.img}]
YAML
lb_pair_osaka "hypervisor: {driver: vmcore, kernel: $build/tests/payload.bin}
drill_network: {netns: bubble, bridge: br0}
failover_network: {netns: dr, bridge: br0}"
lb_pair_start
tokyo vm run shop > /dev/null
lb_wait_for 60 "frames in production" grep -q "^r " "$work/prod.seen"
lb_wait_for 60 "a point" lb_pair_points 2
point=$(osaka point show latest --json)
captured=$(jq .captured_wall_ns <<< "$point")
{
	lb_pair_boot shop 30 "r " "point: \"$(jq -r .id <<< "$point" | cut -c1-16)\""
	echo "- {id: hold, action: exec, run: [/bin/cat, $work/hold], needs: [shop], timeout: 60s}" # until we let it go
} | lb_pair_runbook old
{
	lb_pair_boot shop 30 "r "
	echo '- {id: never, action: probe, machine: shop, needs: [shop], timeout: 25s, retries: 0, probes: [{serial: "never said", within: 20s}]}'
} | lb_pair_runbook long
lb_pair_boot shop 30 "r " | lb_pair_runbook lost

osaka doctor > "$work/doctor" || true
grep "machine shop of group erp can go on from memory here" "$work/doctor" || lb_fail "doctor: $(cat "$work/doctor")"

# ---- a drill from an old point

mkfifo "$work/hold"
old_enough() { tail -n 1 "$work/prod.seen" | awk -v t="$((captured / 1000000000 + 8))" '{ exit !($4 >= t) }'; }
lb_wait_for 60 "the point to be old enough for a guest's clock to tell" old_enough
say "drill from a memory point that is $((($(date +%s%N) - captured) / 1000000000)) s old"
(cd "$work/osaka/state/store" && find . -type f -printf '%p %s\n' | sort | while read -r f n; do
	echo "$(head -c "$n" "$f" | sha256sum | cut -c1-64) $n $f"
done) > "$work/store.before"
points=$(tokyo status --json | jq '.groups[0].points_acked')
production=$(grep -c "^r " "$work/prod.seen")
lb_pair_drill old &
drill=$!
lb_wait_for 60 "frames in the bubble" grep -q "^r " "$work/bubble.seen"
vm=$(osaka vm list --json | jq '[.vms[] | select(.kind == "boot")][0].pid')
# whatever the drill's machine and its views hold open of the replica is open for reading only
for p in "$vm" $(pgrep -x nbdkit); do
	for fd in "/proc/$p/fd"/*; do
		[[ $(readlink "$fd") == "$work/osaka/state/store"* ]] || continue
		flags=$(sed -n 's/^flags:\t*//p' "/proc/$p/fdinfo/${fd##*/}")
		[ $((flags & 3)) = 0 ] || lb_fail "process $p holds $(readlink "$fd") open for writing"
		echo "$p" >> "$work/readers"
	done
done
[ -s "$work/readers" ] || lb_fail "nobody holds the replica open: the check sees nothing"
lb_wait_for 60 "points during the drill" lb_pair_points $((points + 2))
timeout 60 bash -c ': > "$1"' hold "$work/hold" || lb_fail "the drill's last step does not wait"
wait $drill
detail=$(lb_pair_detail shop)
echo "shop: $detail"
[[ $detail == *"from memory"* ]] || lb_fail "it did not go on from memory"

say "the judge"
read -r _ first _ date from _ < <(grep "^r " "$work/bubble.seen" | head -1)
at_capture=$(awk -v t=$captured '$1 == "r" && $6 + 0 <= t + 0 { n = $2 } END { print n + 0 }' "$work/prod.seen")
echo "the point is of $((captured / 1000000000)); the drill's guest began with record $first at $date by its clock; production was at $at_capture"
[ "$from" = "$mac" ] || lb_fail "another machine's frames: $from"
[ "$first" -ge "$at_capture" ] || lb_fail "it went on from before the point"
[ $((date - captured / 1000000000)) -le 6 ] && [ "$date" -ge $((captured / 1000000000 - 1)) ] ||
	lb_fail "its clock is not the point's"
! grep -q announce "$work/bubble.seen" || lb_fail "a drill's machine announced itself"
[ "$(counted dr)" = 0 ] && [ "$(counted host)" = 0 ] || lb_fail "frames left the bubble: $(counted dr), $(counted host)"
! grep -q "^r " "$work/dr.seen" || lb_fail "frames of the drill are on osaka's own bridge"
while read -r sum n f; do
	[ "$(head -c "$n" "$work/osaka/state/store/$f" | sha256sum | cut -c1-64)" = "$sum" ] || lb_fail "the drill changed $f of the replica"
done < "$work/store.before"
now=$(tokyo status --json | jq '.groups[0].points_acked')
echo "$(wc -l < "$work/store.before") files of the replica are as they were; points meanwhile: $((now - points)); frames in production: $(($(grep -c "^r " "$work/prod.seen") - production)), in the bubble: $(grep -c "^r " "$work/bubble.seen"), out of it: 0"
gone() { ! [ -d "/proc/$1" ]; }
lb_wait_for 20 "the end of the drill's machine" gone "$vm"

# ---- the agent dies in a drill

say "osaka's agent is killed in the middle of a drill"
osaka run start "$work/long.yaml" --mode drill --unattended > "$work/run" 2>&1 &
client=$!
drilled() { [ "$(osaka vm list --json | jq -r '[.vms[] | select(.kind == "boot" and .state == "running")][0].pid')" != null ]; }
lb_wait_for 60 "the drill's machine" drilled
vm=$(osaka vm list --json | jq '[.vms[] | select(.kind == "boot" and .state == "running")][0].pid')
run=$(lb_pair_run)
lb_pair_kill9 osaka
wait $client || true
[ -d "/proc/$vm" ] || lb_fail "the drill's machine died before its drill"
lb_pair_agent osaka
ended() { [[ $(osaka run show "$run" --json | jq -r .state) == @(DONE*|FAILED*|CANCEL*) ]]; }
lb_wait_for 60 "the end of the drill" ended
lb_wait_for 20 "the end of the drill's machine" gone "$vm"
[ -z "$(pgrep -x nbdkit)" ] || lb_fail "views of the drill are left"
echo "the drill ended as $(osaka run show "$run" --json | jq -r .state); its machine and views are gone"

# ---- failover: the same guest, seen outside

say "tokyo is lost; failover"
lb_pair_kill tokyo shop
lb_pair_failover lost
lb_wait_for 30 "frames on osaka's own bridge" grep -q "^r " "$work/dr.seen"
grep -q "^announce $mac" "$work/dr.seen" || lb_fail "it did not announce itself"
out() { [ "$(counted host)" -gt 0 ]; }
lb_wait_for 10 "frames through osaka's cable" out
read -r _ _ _ date _ < <(grep "^r " "$work/dr.seen" | head -1)
[ "$date" -ge $(($(date +%s) - 20)) ] || lb_fail "a failed-over machine's clock stands at $date"
echo "announced, $(grep -c "^r " "$work/dr.seen") frames on the bridge"

say "the failed-over machine is reset: this site's kernel starts on the disk it has"
! osaka vm console shop --once | grep "^check " || lb_fail "it did not go on from memory"
osaka vm reset shop --confirm osaka > /dev/null
again() { osaka vm console shop --once | grep "^check "; }
lb_wait_for 60 "its start" again
! osaka vm console shop --once | grep "^BAD" || lb_fail "it does not find its records"
echo "passed"
