#!/usr/bin/env bash
# tests/e2e/demo.sh - the main job, end to end, on this machine (./dev demo):
#
#   two sites, tokyo and osaka, each with its own network namespace, libvirtd and lifeboatd; two real Debian machines at
#   tokyo (erp-db: kernel + ext4 on virtio; old-crm: MBR + GRUB on IDE) append hash-chained records with fsync
#   -> protect both, a recovery point every second -> drill at osaka, in isolation, while replication goes on
#   -> SIGKILL tokyo's QEMU and lifeboatd in the middle of a write -> fail over by runbook
#   -> the booted machines check their own chains; RPO, RTO and records lost are printed.
#
# LB_STORY: a program (tests/e2e/tui_story.c) that drives osaka by keys in the terminal UI instead of commands.
# Exits 0 only when every record covered by an acknowledged point is there. LB_BIN: directory of the programs (default build/release/bin).
set -euo pipefail
top=$(cd "$(dirname "$(readlink -f "$0")")/../.." && pwd)
LB_BIN=${LB_BIN:-$top/build/release/bin}
LB_GUESTS=${LB_GUESTS:-$top/build/guests}
LB_SITES_LIMIT_S=${LB_SITES_LIMIT_S:-840}
LB_SITES_CAPS=${LB_SITES_CAPS:-$top/build/libvirt-caps}
drill_seconds=0
. "$top/tests/lib/site.sh"

missing=$(lb_sites_missing)
if [ -n "$missing" ]; then
	echo "skipped: $missing"
	exit 77
fi

t0=$SECONDS
work=$(mktemp -d "${TMPDIR:-/tmp}/lbdemo.XXXXXX")
lb_sites_begin "$work"

say() {
	printf '\n== %s\n' "$*"
}

show() { # CMD as typed
	printf '$ %s\n' "$*"
}

# ---- set-up

"$top/tests/guests/build-guests.sh" "$LB_GUESTS" > "$work/guests.log" 2>&1 || { cat "$work/guests.log" >&2; exit 1; }

say "two sites on this machine: tokyo ($LB_NS_a, 10.78.0.1) and osaka ($LB_NS_b, 10.78.0.2)"
lb_site_libvirtd a
lb_site_libvirtd b
# The drill's bubble: a bridge without any uplink, the production addresses kept.
lb_sites_drill_net
drill_ns=$LB_NS_drill
# What a failure leaves for whoever looks: the agents' logs and the last lines of them here.
keep_logs() {
	local rc=$? site
	set +e
	if [ "$rc" != 0 ]; then
		mkdir -p "$top/build/demo-logs"
		for site in tokyo osaka; do
			[ -f "$work/$site/lifeboatd.log" ] || continue
			cp "$work/$site/lifeboatd.log" "$top/build/demo-logs/$site.log"
			echo "-- the end of build/demo-logs/$site.log" >&2
			tail -n 25 "$work/$site/lifeboatd.log" >&2
		done
	fi
	lb_sites_end
	exit "$rc"
}
trap keep_logs EXIT

mkdir -p "$work/tokyo" "$work/osaka/runbooks" "$work/disks"
cp --sparse=always "$LB_GUESTS/data.raw" "$work/disks/erp-db.raw"
cp --sparse=always "$LB_GUESTS/legacy.raw" "$work/disks/old-crm.raw"
lb_site_domain data erp-db "$work/disks/erp-db.raw" "$work/disks" > "$work/erp-db.xml"
lb_site_domain legacy old-crm "$work/disks/old-crm.raw" "$work/disks" > "$work/old-crm.xml"
for vm in erp-db old-crm; do
	virsh -q -c "$LB_URI_a" define "$work/$vm.xml" > /dev/null
	virsh -q -c "$LB_URI_a" start "$vm" > /dev/null
done

cat > "$work/tokyo/lifeboat.yaml" <<-YAML
site: tokyo
state_dir: $work/tokyo/state
control_socket: $work/tokyo/control.sock
groups:
  - name: erp
    peer: osaka
    interval: 1s
    machines:
      - {name: erp-db, driver: libvirt, uri: "$LB_URI_a", volumes: [{name: vda}], address: 10.77.0.11}
      - {name: old-crm, driver: libvirt, uri: "$LB_URI_a", volumes: [{name: hda}], address: 10.77.0.12}
YAML
cat > "$work/osaka/lifeboat.yaml" <<-YAML
site: osaka
state_dir: $work/osaka/state
control_socket: $work/osaka/control.sock
runbooks: $work/osaka/runbooks
listen: 10.78.0.2:7400
enrol_listen: 10.78.0.2:7401
hypervisor: {driver: libvirt, uri: "$LB_URI_b", kernel: $LB_GUESTS/vmlinuz, initrd: $LB_GUESTS/initrd.gz}
drill_network: {netns: $drill_ns, bridge: br0}
failover_network: {netns: $LB_NS_b, bridge: br0}
YAML
cat > "$work/osaka/runbooks/tokyo-to-osaka.yaml" <<-'YAML'
apiVersion: lifeboat/v1
kind: Runbook
name: tokyo-to-osaka
rto: 4m
modes: [drill, failover]
steps:
  - {id: fence, action: fence, site: tokyo}
  - {id: db, action: boot, machine: erp-db, needs: [fence], timeout: 200s, retries: 1, backoff: 1s..2s,
     probes: [{serial: "LBW CHECK", within: 150s}, {tcp: 7007, within: 30s}, {guest: heartbeat, within: 30s}]}
  - {id: crm, action: boot, machine: old-crm, needs: [fence], timeout: 200s, retries: 1, backoff: 1s..2s,
     probes: [{serial: "LBW CHECK", within: 180s}]}
  - {id: note, action: exec, run: [/bin/echo, "${run.mode} to ${site.target} done"], needs: [db, crm], timeout: 10s}
finally: [{id: report, action: report, timeout: 10s}]
YAML

start_agent() { # SITE NAME
	nsenter --net="/run/netns/$(lb_site_ns "$1")" "$LB_BIN/lifeboatd" --config "$work/$2/lifeboat.yaml" \
		>> "$work/$2/lifeboatd.log" 2>&1 < /dev/null &
	echo $! > "$work/$2/pid"
	disown $!
	lb_wait_for 20 "lifeboatd of $2 ($work/$2/lifeboatd.log)" test -S "$work/$2/control.sock"
}
tokyo() { "$LB_BIN/lifeboat" --socket "$work/tokyo/control.sock" "$@"; }
osaka() { "$LB_BIN/lifeboat" --socket "$work/osaka/control.sock" "$@"; }
story() { "$LB_STORY" "$1" "$LB_BIN/lifeboat" "$work/osaka/control.sock"; }
has_records() { [ -n "$(last_seq "$1")" ]; }
last_seq() { lb_console_seq "$work/disks/$1.serial"; }

say "enrol: osaka creates the deployment, tokyo joins with a single-use token"
start_agent b osaka
start_agent a tokyo
show "osaka$ lifeboat site init; lifeboat site token tokyo | tokyo$ lifeboat site join"
osaka site init
osaka site token tokyo > "$work/token"
tokyo site join "$work/token"
rm -f "$work/token"

# ---- protect

say "protect: a recovery point every second"
show "tokyo$ lifeboat status --watch"
acked() { tokyo status --json | jq -e '.groups[0].points_acked >= 3' > /dev/null; }
lb_wait_for 90 "three acknowledged points" acked
for vm in erp-db old-crm; do
	lb_wait_for 60 "records of $vm" has_records $vm
done

# What the console says is durable, with the time it was seen: the judge of what a point must cover.
(while kill -0 $$ 2> /dev/null && sleep 0.1; do
	for vm in erp-db old-crm; do
		seq=$(last_seq $vm) # read first: the time is then one at which it was durable already
		echo "$(date +%s%N) $vm $seq"
	done
done >> "$work/durable" 2> /dev/null) &
watcher=$!

for _ in 1 2 3 4 5; do
	tokyo status | tail -n +2
	sleep 1
done
[ -z "${LB_STORY:-}" ] || story watch || lb_fail "what the terminal UI shows"

# ---- drill

say "drill: both machines boot at osaka from the newest point, isolated, while replication goes on"
before=$(tokyo status --json | jq .groups[0].points_acked)
show "osaka$ lifeboat drill tokyo-to-osaka.yaml"
drill_t0=$SECONDS
if [ -n "${LB_STORY:-}" ]; then
	story drill || lb_fail "the drill by keys"
else
	osaka drill "$work/osaka/runbooks/tokyo-to-osaka.yaml" || lb_fail "the drill"
fi
drill_seconds=$((SECONDS - drill_t0))
after=$(tokyo status --json | jq .groups[0].points_acked)
echo "points acknowledged during the drill: $((after - before)) in $drill_seconds s"
[ $((after - before)) -ge 3 ] || lb_fail "replication stood still during the drill"
[ "$(osaka status --json | jq -r .groups[0].role)" = BACKUP ] || lb_fail "the drill touched the role"

# ---- disaster

say "disaster: SIGKILL of tokyo's QEMUs and lifeboatd, in the middle of writes"
more=$(($(tokyo status --json | jq .groups[0].points_acked) + 2))
two_more() { [ "$(tokyo status --json | jq .groups[0].points_acked)" -ge "$more" ]; }
lb_wait_for 60 "two more points" two_more
stats=$(tokyo status --json | jq -c '.groups[0] | {points_acked, bytes_changed, bytes_shipped, bytes_read}')
kill -9 "$(lb_site_qemu_pid a erp-db)" "$(lb_site_qemu_pid a old-crm)" "$(cat "$work/tokyo/pid")"
rm -f "$work/tokyo/control.sock"
killed_ns=$(date +%s%N)
all_seen() { tail -n 1 "$work/durable" | awk -v t="$killed_ns" '{ exit !($1 + 0 > t + 0) }'; }
lb_wait_for 10 "the last look at the consoles" all_seen
kill "$watcher" 2> /dev/null || true
osaka status | tail -n +2
point=$(osaka point show latest --json)
# RPO is never under-reported (I17): what osaka says at a later moment covers the point's true age now
age_ns=$(($(date +%s%N) - $(jq .captured_wall_ns <<< "$point")))
shown_ns=$(osaka status --json | jq '.groups[0].rpo_ns')
[ "$shown_ns" -ge "$age_ns" ] || lb_fail "osaka shows an RPO of $shown_ns ns, the point is $age_ns ns old"
rpo_ms=$(((killed_ns - $(jq .captured_wall_ns <<< "$point")) / 1000000))

# ---- failover

say "failover by runbook"
show "osaka$ lifeboat run start tokyo-to-osaka.yaml --confirm tokyo"
if osaka run start "$work/osaka/runbooks/tokyo-to-osaka.yaml" 2> "$work/refused"; then
	lb_fail "a failover without the typed site name was accepted"
fi
echo "(without --confirm: $(head -1 "$work/refused"))"
start_ns=$(date +%s%N)
if [ -n "${LB_STORY:-}" ]; then
	story failover || lb_fail "the failover by keys"
else
	osaka run start "$work/osaka/runbooks/tokyo-to-osaka.yaml" --confirm tokyo || lb_fail "the failover"
fi
rto_ms=$((($(date +%s%N) - start_ns) / 1000000))
run=$(osaka run list --json | jq -r '[.runs[] | select(.mode == "failover")][0].id')

# ---- judge

say "the machines' own verdict"
captured=$(jq .captured_wall_ns <<< "$point")
failed=0
for vm in erp-db old-crm; do
	detail=$(osaka run show "$run" --json | jq -r ".steps[] | select(.machine == \"$vm\") | .detail")
	verdict=$(grep -o 'LBW CHECK records=[0-9]* last=[0-9a-f]* ok' <<< "$detail" | head -1 || true)
	have=$(sed -n 's/.*records=\([0-9]*\).*/\1/p' <<< "$verdict")
	must=$(awk -v vm=$vm -v t="$captured" '$2 == vm && $1 + 0 <= t + 0 && $3 != "" { m = $3 } END { print m + 0 }' "$work/durable")
	had=$(last_seq $vm)
	if [ -z "$verdict" ]; then
		echo "$vm: NO VERDICT: $detail"
		osaka run console "$run" $vm | tail -5
		failed=1
		continue
	fi
	echo "$vm: $verdict"
	echo "$vm: durable before the kill: $had; before the newest acknowledged point: at least $must; recovered: $have; lost: $((had > have ? had - have : 0)) (all newer than the point)"
	[ "$have" -ge "$must" ] || { echo "$vm: LOST RECORDS THAT A POINT COVERED"; failed=1; }
done
[ "$(osaka status --json | jq -r .groups[0].role)" = PRIMARY ] || lb_fail "osaka is not PRIMARY"

say "tokyo comes back: it hears of the higher epoch and stops"
start_agent a tokyo
fenced() { [ "$(tokyo status --json | jq -r .groups[0].role)" = FENCED ]; }
lb_wait_for 30 "tokyo to be fenced" fenced
tokyo status | tail -n +2

say "result"
echo "RPO achieved: $rpo_ms ms (age of the newest acknowledged point when tokyo died)"
echo "RTO achieved: $rto_ms ms (order to all probes green, $(lb_accel) guests)"
echo "shipping:     $(jq -r '"\(.points_acked) points, \(.bytes_changed) bytes changed, \(.bytes_shipped) bytes shipped"' <<< "$stats")"
echo "whole demo:   $((SECONDS - t0)) s"
[ $failed = 0 ] || lb_fail "records were lost"
echo "OK: every record covered by an acknowledged point is there"

# ---- the second part: memory, under our own KVM core

rc=0
"$top/tests/e2e/memory.sh" || rc=$?
[ $rc = 0 ] || [ $rc = 77 ] || lb_fail "the failover from memory"
