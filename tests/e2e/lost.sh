#!/usr/bin/env bash
# tests/e2e/lost.sh SOURCE_DIR BUILD_DIR - a machine goes on from memory, and the source of its memory dies before all of
# it was fetched: it must stop, at once and visibly, and not go on with zeros.
#
# The guest (tests/guests/payload: prog=touch fill=1) fills 384 MiB and then writes one word in each of a thousand pages
# anew, again and again, each time saying so: after a failover it touches what was not fetched yet. nbdkit, which
# serves the memory, is killed while pages are left.
#
# Before that the source hangs for a while: the machine must not be shown as one that runs.
#
# Then the machine is started again: cold, from its own disks.
set -euo pipefail
top=$1 build=$2 bin=$2/bin
. "$top/tests/lib/pair.sh"
lb_alone lost "${LB_LOST_LIMIT_S:-220}" /dev/kvm jq nbdkit ip
lb_pair_begin "$LB_WORK" "$bin"

truncate -s 16M "$work/shop.img"
lb_pair_tokyo 500ms <<YAML
- name: shop
  driver: vmcore
  vm: {memory: 448MiB, memory_points: true, kernel: $build/tests/payload.bin, cmdline: "prog=touch fill=1 pages=98304 round=1000"}
  volumes: [{name: vda, path: $work/shop.img}]
YAML
lb_pair_osaka "hypervisor: {driver: vmcore, kernel: $build/tests/payload.bin}"
lb_pair_boot shop 50 | lb_pair_runbook erp
lb_pair_start
tokyo vm run shop > /dev/null
serial=$work/tokyo/state/vms/erp.shop/serial.log
says() { grep -q "^t " "$serial"; }
lb_wait_for 90 "the guest's memory to be full" says
n=$(tokyo status --json | jq '.groups[0].points_acked')
lb_wait_for 90 "a point of all of it" lb_pair_points $((n + 2))

say "tokyo is lost; osaka goes on from memory"
lb_pair_kill tokyo shop
lb_pair_failover &
run=$!
runs() { [ "$(lb_pair_vm osaka shop .state 2> /dev/null)" = running ]; }
until runs; do :; done
source=$(cat "$work"/osaka/state/boots/*/*/ram.pid)
kill -STOP "$source"
wait "$run" || echo "(the boot step may have passed or not: what matters is the machine)"

say "its memory does not come"
alarm() { osaka status --json | jq -r .alarm; }
starves() { [[ $(alarm) == "machine_starves: machine shop: "*"pages of its memory have not come"* ]]; }
lb_wait_for 30 "the alarm" starves
osaka vm list
osaka vm list | grep -q "^shop .* starving .*its memory does not come any more" || lb_fail "vm list shows it as one that runs"
kill -9 "$source"

say "it stands still, and everybody is told"
crashed() { [ "$(lb_pair_vm osaka shop .state)" = crashed ]; }
lb_wait_for 30 "the machine to stop" crashed
osaka vm list
osaka vm list | grep -q "^shop .* crashed .*pager_lost: lazily restored memory" || lb_fail "vm list does not say why"
left=$(lb_pair_vm osaka shop .stats.lazy_left_pages)
[ "$left" -gt 0 ] || lb_fail "all of its memory was there: the test killed nothing"
echo "$left pages were never fetched"
log=$(echo "$work"/osaka/state/boots/*/*/vm.log)
grep -q "ev=guest event=pager_lost" "$log" || lb_fail "vm.log: $(cat "$log")"
alarmed() { osaka status --json | jq -r .alarm | grep -q "machine_crashed: machine shop: pager_lost"; }
lb_wait_for 20 "the alarm" alarmed
said=$(cat "$work"/osaka/state/boots/*/*/serial.log | wc -c)

say "it is started again, cold"
osaka vm stop shop --confirm osaka > /dev/null
osaka vm run shop > /dev/null
[ "$(lb_pair_vm osaka shop .restored)" = false ] || lb_fail "it was restored from a memory that is gone"
again() { grep -q "^payload" "$work"/osaka/state/boots/*/*/serial.log; }
lb_wait_for 60 "its first words" again
echo "passed; it had said $said bytes before"
