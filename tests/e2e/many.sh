#!/usr/bin/env bash
# tests/e2e/many.sh SOURCE_DIR BUILD_DIR - a runbook that boots six machines at a time boots six at a time.
#
# Each boot's probe waits for a word that is typed only when all six run: were there workers for some of them only,
# those would wait for the others, and these for a worker. The machines need no KVM (tests/lib/fake_vm.c).
set -euo pipefail
top=$1 build=$2 bin=$2/bin
. "$top/tests/lib/alone.sh"
lb_alone many "${LB_MANY_LIMIT_S:-160}" jq nbdkit ip
. "$top/tests/lib/site.sh"
. "$top/tests/lib/pair.sh"
lb_pair_begin "$LB_WORK" "$bin"

machines=(m1 m2 m3 m4 m5 m6)
echo kernel > "$work/kernel"
for m in "${machines[@]}"; do
	truncate -s 1M "$work/$m.img"
	echo "- {name: $m, driver: vmcore, vm: {memory: 2MiB, kernel: $work/kernel}, volumes: [{name: vda, path: $work/$m.img}]}"
done | lb_pair_tokyo 500ms "vm_program: $build/tests/fake_lifeboat_vm"
lb_pair_osaka "vm_program: $build/tests/fake_lifeboat_vm
hypervisor: {driver: vmcore, kernel: $work/kernel}"
for m in "${machines[@]}"; do
	lb_pair_boot "$m" 80 GO
done | lb_pair_runbook erp
lb_pair_start
for m in "${machines[@]}"; do
	tokyo vm run "$m" > /dev/null
done
lb_wait_for 60 "a point of all six" lb_pair_points 1

say "a drill boots all six"
lb_pair_drill &
run=$!
running() { osaka vm list --json | jq -r '.vms[] | select(.kind == "boot" and .state == "running") | .name'; }
all_run() { [ "$(running | wc -l)" = ${#machines[@]} ]; }
lb_wait_for 60 "all of them to run at the same time" all_run
for m in $(running); do
	printf go | osaka vm console "$m" > /dev/null
done
wait "$run"
echo "passed"
