#!/usr/bin/env bash
# tests/e2e/memory.sh - the demo's second part: machines under our own KVM core are lost and go on from memory.
#
# Two guests of ours (tests/guests/payload: a kernel whose work is done in ring 3, so that it runs natively on every
# KVM). pay computes a hash chain over its memory and says so; ledger writes hash-chained records to a virtio disk, keeps
# their hashes in memory and reads an earlier record again after each: it stops and says BAD when disk and memory do not
# agree. tokyo protects both with memory points; SIGKILL of the machines and of the agent; osaka goes on from the
# newest point's memory, fetched as it is touched. pay's chain is computed here too: one wrong bit of memory or registers,
# or memory and registers of two instants, and the next line is wrong.
#
# LB_BIN: directory of the programs; LB_PAYLOAD: the guest; LB_PAYLOAD_CHECK: the judge. Needs root and /dev/kvm.
set -euo pipefail
top=$(cd "$(dirname "$(readlink -f "$0")")/../.." && pwd)
LB_BIN=${LB_BIN:-$top/build/release/bin}
LB_PAYLOAD=$(realpath "${LB_PAYLOAD:-$LB_BIN/../tests/payload.bin}")
LB_PAYLOAD_CHECK=$(realpath "${LB_PAYLOAD_CHECK:-$LB_BIN/../tests/payload_check}")
. "$top/tests/lib/pair.sh"
lb_alone mem "${LB_MEMORY_LIMIT_S:-200}" /dev/kvm jq nbdkit ip
lb_pair_begin "$LB_WORK" "$LB_BIN"
pages=1024 seed=7 every=200000
show() { printf '$ %s\n' "$*"; }

# ---- set-up

truncate -s 16M "$work/pay.img"
truncate -s 256M "$work/ledger.img"
lb_pair_tokyo 500ms <<YAML
- name: pay
  driver: vmcore
  vm:
    memory: 64 MiB
    memory_points: true
    kernel: $LB_PAYLOAD
    cmdline: "prog=chain steps=1000000000000 pages=$pages seed=$seed every=$every"
  volumes: [{name: vda, path: $work/pay.img}]
- name: ledger
  driver: vmcore
  vm: {memory: 64 MiB, memory_points: true, kernel: $LB_PAYLOAD, cmdline: "prog=records every=10"}
  volumes: [{name: vda, path: $work/ledger.img}]
YAML
lb_pair_osaka "hypervisor: {driver: vmcore, kernel: $LB_PAYLOAD}"
cat > "$work/failover.yaml" <<'YAML'
apiVersion: lifeboat/v1
kind: Runbook
name: erp
rto: 2m
modes: [drill, failover]
steps:
  - {id: fence, action: fence, site: tokyo}
  - {id: pay, action: boot, machine: pay, needs: [fence], timeout: 60s, retries: 1, backoff: 1ms..1ms,
     probes: [{serial: "c ", within: 30s}]}
  - {id: ledger, action: boot, machine: ledger, needs: [fence], timeout: 60s, retries: 1, backoff: 1ms..1ms,
     probes: [{serial: "r ", within: 30s}]}
finally: [{id: report, action: report, timeout: 10s}]
YAML
lb_pair_start

say "tokyo: two machines of our own under lifeboat-vm"
tokyo doctor 2> /dev/null | grep kvm || true
show "tokyo$ lifeboat vm run pay"
tokyo vm run pay
show "tokyo$ lifeboat vm run ledger"
tokyo vm run ledger
records=$work/tokyo/state/vms/erp.ledger/serial.log
serial=$work/tokyo/state/vms/erp.pay/serial.log
says() { grep -q "^c " "$serial"; }
lb_wait_for 60 "the guest to count" says
writes() { grep -q "^r " "$records"; }
lb_wait_for 60 "the other one to write" writes
show "tokyo$ lifeboat vm console pay"
tokyo vm console pay --once | tail -n 2

by_keys() { # SITE WORDS: the same in the terminal UI
	[ -z "${LB_TUI:-}" ] || LB_SAYS=$2 LB_SHOWS="${LB_SHOWS:-}" timeout 100 "$LB_TUI" machine "$LB_BIN/lifeboat" \
		--socket "$work/$1/s" tui || lb_fail "the machine in the terminal UI of $1"
}
by_keys tokyo "│ c "

say "memory points: disks, memory and processors of one instant"
lb_wait_for 90 "three acknowledged points" lb_pair_points 3
last_step() { tail -c 4096 "$serial" | sed -n 's/^c \([0-9]*\) [0-9a-f]\{16\}$/\1/p' | tail -1; }
last_record() { tail -c 4096 "$records" | sed -n 's/^r \([0-9]*\) [0-9a-f]\{64\}$/\1/p' | tail -1; }
(while sleep 0.05; do
	step=$(last_step) record=$(last_record) # first: the time is then one at which they were said already
	echo "$(date +%s%N) $step $record"
done >> "$work/said" 2> /dev/null) &
watcher=$!
disown $watcher
more=$(($(tokyo status --json | jq '.groups[0].points_acked') + 12))
lb_wait_for 90 "twelve more points" lb_pair_points "$more"
tokyo vm show pay
stats=$(tokyo vm show pay --json | jq -c .stats)
shipped=$(tokyo status --json | jq -c '.groups[0] | {points_acked, bytes_changed, bytes_shipped}')

say "disaster: SIGKILL of the machine and of tokyo's agent"
kill -9 "$(lb_pair_vm tokyo pay .pid)" "$(lb_pair_vm tokyo ledger .pid)" "${pid[tokyo]}"
killed_ns=$(date +%s%N)
all_seen() { tail -n 1 "$work/said" | awk -v t="$killed_ns" '{ exit !($1 + 0 > t + 0) }'; }
lb_wait_for 10 "the last look at what they said" all_seen
kill "$watcher" 2> /dev/null || true
had=$(last_step) had_records=$(last_record)
point=$(osaka point show latest --json)
[ "$(jq -r .consistency <<< "$point")" = memory ] || lb_fail "the newest point is no memory point"
captured=$(jq .captured_wall_ns <<< "$point")
must=$(awk -v t="$captured" '$1 + 0 <= t + 0 && $2 != "" { m = $2 } END { print m + 0 }' "$work/said")
must_records=$(awk -v t="$captured" '$1 + 0 <= t + 0 && $3 != "" { m = $3 } END { print m + 0 }' "$work/said")

say "failover: osaka goes on from memory"
show "osaka$ lifeboat run start failover.yaml --confirm tokyo"
start_ns=$(date +%s%N)
osaka run start "$work/failover.yaml" --mode failover --confirm tokyo --unattended || lb_fail "the failover"
rto_ms=$((($(date +%s%N) - start_ns) / 1000000))
run=$(lb_pair_run)
[ "$(osaka run show "$run" --json | grep -c "from memory")" = 2 ] || lb_fail "not both were booted from memory"
[ "$(osaka vm show pay --json | jq -r .restored)" = true ] || lb_fail "its process did not begin from memory"

say "the judge"
there=$(grep -l '^c ' "$work"/osaka/state/boots/*/*/serial.log)
ledger=$(grep -l '^r ' "$work"/osaka/state/boots/*/*/serial.log)
more() { [ "$(grep -c '^c ' "$there")" -ge 5 ]; }
lb_wait_for 30 "the guest to go on" more
# the first line may be the end of one whose beginning tokyo said
grep '^c ' "$there" | sed '$d' > "$work/lines" # the last one may be half there
read -r first last <<< "$("$LB_PAYLOAD_CHECK" $pages $seed < "$work/lines")" || lb_fail "the chain is broken"
echo "said at tokyo before the newest point: at least step $must; before the kill: step $had"
echo "said at osaka: steps $first to $last, every one of them right"
lines() { [ "$(grep -c '^r ' "$ledger")" -ge 20 ]; }
lb_wait_for 60 "the ledger to go on" lines
! grep BAD "$ledger" || lb_fail "the ledger's disk and memory do not agree"
from=$(sed -n 's/^r \([0-9]*\) [0-9a-f]\{64\}$/\1/p' "$ledger" | head -1)
echo "ledger: records before the newest point: at least $must_records; before the kill: $had_records; it goes on at $from, disk and memory agree"
[ "$must_records" -gt 0 ] || lb_fail "no record was seen before the point"
[ "$from" -gt "$must_records" ] || lb_fail "the ledger lost records that the point covers"
[ "$from" -le $((had_records + 20)) ] || lb_fail "the ledger cannot have gone on from that point"
[ "$must" -gt 0 ] || lb_fail "nothing was seen before the point"
[ "$first" -ge "$must" ] || lb_fail "it went back behind what the point covers"
[ "$first" -le $((had + 2 * every)) ] || lb_fail "it cannot have gone on from that point"

by_keys osaka $'\nc '

say "its agent is killed, the machine is not"
p=$(osaka vm show pay --json | jq .pid)
lb_pair_kill9 osaka
lb_pair_agent osaka
[ "$(osaka vm show pay --json | jq .pid)" = "$p" ] || lb_fail "the new agent does not find it"
left() { [ "$(osaka vm show pay --json | jq .stats.lazy_left_pages)" = 0 ]; }
lb_wait_for 60 "all memory to be fetched" left
# what serves its disk outlives the agent too: the ledger reads old records all the time, and others may still connect
n=$(grep -c '^r ' "$ledger")
goes_on() { [ "$(grep -c '^r ' "$ledger")" -ge $((n + 20)) ]; }
lb_wait_for 60 "the ledger to go on without that agent" goes_on
! grep BAD "$ledger" || lb_fail "the ledger lost its disk with the agent"
for sock in "$work"/osaka/state/boots/*/*/vda.sock; do
	[ "$(python3 -c 'import socket, sys
s = socket.socket(socket.AF_UNIX)
s.settimeout(10)
s.connect(sys.argv[1])
print(s.recv(8).decode())' "$sock")" = NBDMAGIC ] || lb_fail "nobody serves $sock any more"
done

say "result"
echo "RPO achieved: $(((killed_ns - captured) / 1000000)) ms (age of the newest acknowledged point when tokyo died)"
echo "RTO achieved: $rto_ms ms (order to the guest's next line, from memory)"
echo "pause of a point: last $(jq '.pause_last_ns / 1000000 | floor' <<< "$stats") ms, longest $(jq '.pause_max_ns / 1000000 | floor' <<< "$stats") ms, $(jq .cuts <<< "$stats") points"
echo "shipping:     $(jq -r '"\(.points_acked) points, \(.bytes_changed) bytes changed, \(.bytes_shipped) bytes shipped"' <<< "$shipped")"
echo "OK: memory went on from the newest acknowledged point"
