#!/usr/bin/env bash
# tests/e2e/cold.sh SOURCE_DIR BUILD_DIR - a legacy disk boots cold under our own KVM core at the other site, in a drill
# and in a failover: SeaBIOS, master boot record, GRUB, from a recovery point's view with an overlay.
#
# Two machines with that disk: crm has it on IDE, wiki on virtio. crm's points hold memory too, but memory that the
# other site's lifeboat-vm refuses (tokyo's machines are tests/lib/fake_vm.c: their checkpoints are not of its format).
# So each boot of crm falls from memory to cold within one attempt, and says why.
set -euo pipefail
top=$1 build=$2 bin=$2/bin
. "$top/tests/lib/pair.sh"
lb_alone cold "${LB_COLD_LIMIT_S:-280}" /dev/kvm jq nbdkit ip grub-mkimage
words="Dear legacy machine, welcome to Osaka."
lb_pair_begin "$LB_WORK" "$bin"

"$top/tests/guests/grub-disk.sh" "$work/crm.img" "$words"
cp "$work/crm.img" "$work/wiki.img"
cp "$work/crm.img" "$work/pristine.img"
lb_pair_tokyo 300ms "vm_program: $build/tests/fake_lifeboat_vm" <<YAML
- name: crm
  driver: vmcore
  vm: {memory: 16MiB, memory_points: true}
  volumes: [{name: hda, path: $work/crm.img}]
- name: wiki
  driver: vmcore
  vm: {memory: 16MiB}
  volumes: [{name: vda, path: $work/wiki.img}]
YAML
lb_pair_osaka "hypervisor: {driver: vmcore}"
{
	lb_pair_boot crm 90 "$words"
	lb_pair_boot wiki 90 "That is all"
} | lb_pair_runbook erp
lb_pair_start
tokyo vm run crm > /dev/null
tokyo vm run wiki > /dev/null
lb_wait_for 40 "points" lb_pair_points 3

judge() {
	local crm wiki
	crm=$(lb_pair_detail crm) wiki=$(lb_pair_detail wiki)
	[[ $crm == *"cold; "*"vmcore: as configured"*"$words"* ]] || lb_fail "crm: $crm"
	[[ $crm != *"from memory"* ]] || lb_fail "crm went on from a memory that is not one: $crm"
	[[ $wiki == *"vmcore: as configured"*"That is all"* ]] || lb_fail "wiki: $wiki"
	echo "crm:  $crm"
	echo "wiki: $wiki"
}

say "it is known before anybody needs it: crm's memory cannot be resumed"
osaka doctor > "$work/doctor" || true
grep memory-resumes "$work/doctor" || lb_fail "doctor: $(cat "$work/doctor")"
grep -q "machine crm of group erp would boot cold here: " "$work/doctor" || lb_fail "doctor does not say it"
grep -q "ev=memory_not_resumable group=erp machine=crm" "$work/osaka/log" || lb_fail "the first point raised no alarm"

say "drill: both boot cold, crm's memory is refused"
lb_pair_drill
judge
[ "$(osaka status --json | jq -r '.groups[0].role')" = BACKUP ] || lb_fail "the drill touched the role"

say "tokyo is lost"
lb_pair_kill tokyo crm wiki
say "failover: cold"
lb_pair_failover
judge
[ "$(lb_pair_vm osaka crm .restored)" = false ] || lb_fail "crm says it was restored"

say "a screen that an operator can look at"
osaka vm screenshot crm > "$work/screen"
grep -qF "$words" "$work/screen" || lb_fail "crm's screen: $(cat "$work/screen")"
"$build/tests/tui_story" screen "$bin/lifeboat" "$work/osaka/s" > "$work/tui" 2>&1 || lb_fail "in the terminal UI: $(cat "$work/tui")"

say "reset: the firmware starts again inside the jail"
osaka vm reset crm --confirm osaka > /dev/null
twice() { [ "$(osaka vm console crm --once | grep -cF "$words")" = 2 ]; }
lb_wait_for 90 "GRUB to say it again" twice
echo "passed"
