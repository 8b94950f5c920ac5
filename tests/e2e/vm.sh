#!/usr/bin/env bash
# tests/e2e/vm.sh SOURCE_DIR BUILD_DIR - machines under lifeboat-vm, from `lifeboat vm run` to a failover from memory.
#
# The machine is one that needs no KVM (tests/lib/fake_vm.c under the product's own lifeboat-vm), so this runs
# everywhere: tokyo runs and protects it with memory points, its agent is killed and finds it again, then both
# are killed and osaka goes on from memory, where the machine survives osaka's agent too. Everything runs in
# network, mount and process namespaces of its own: nothing is left.
set -euo pipefail
top=$1 build=$2 bin=$2/bin
. "$top/tests/lib/pair.sh"
lb_alone vm "${LB_VM_LIMIT_S:-150}" jq nbdkit ip python3
lb_pair_begin "$LB_WORK" "$bin"

refused() { # STATUS WORDS COMMAND...
	local want=$1 words=$2 rc=0
	shift 2
	"$@" > "$work/said" 2>&1 || rc=$?
	[ $rc = "$want" ] || lb_fail "exit $rc, expected $want: $*"
	grep -qF -- "$words" "$work/said" || lb_fail "does not say \"$words\": $*"
	rm -f "$work/said"
}

state_is() { [ "$(lb_pair_vm "$1" "$2" .state)" = "$3" ]; }
# The guest's own count of ticks, in the first word of its memory: the fake guest's exits.
ticks() { lb_pair_vm "$1" "$2" .stats.exits; }
acked() { tokyo status --json | jq -r '.groups[0].last_acked_seq'; }
acked_over() { local n; n=$(acked 2> /dev/null) && [ "$n" != null ] && [ "$n" -gt "$1" ]; }

# ---- two sites

head -c 16M /dev/urandom > "$work/pay.img"
echo hello > "$work/firmware"
lb_pair_tokyo 200ms "vm_program: $build/tests/fake_lifeboat_vm" <<YAML
- name: pay
  driver: vmcore
  vm: {memory: 2MiB, kernel: $work/firmware, cmdline: "a b", memory_points: true}
  volumes: [{name: vda, path: $work/pay.img}]
YAML
lb_pair_osaka "vm_program: $build/tests/fake_lifeboat_vm
hypervisor: {driver: vmcore, kernel: $work/firmware}"
lb_pair_start

say "a machine is started by name"
state_is tokyo pay off || lb_fail "it is not off before anybody started it"
refused 3 "does not run" tokyo vm console pay --once
mv "$work/firmware" "$work/firmware.away"
refused 3 "firmware" tokyo vm run pay
state_is tokyo pay off || lb_fail "it runs though its kernel is not there"
mv "$work/firmware.away" "$work/firmware"
tokyo vm run pay > /dev/null
state_is tokyo pay running || lb_fail "it does not run"
refused 4 "runs already" tokyo vm run pay
refused 3 "no machine of that name" tokyo vm run nobody
tokyo vm list | grep -q "^pay  *machine  *erp  *running" || lb_fail "vm list does not show it"
tokyo vm console pay --once | grep -q hello || lb_fail "its console says nothing"
printf 'typed' | tokyo vm console pay > /dev/null
lb_wait_for 10 "the echo" sh -c "'$bin/lifeboat' --socket '$work/tokyo/s' vm console pay --once | grep -q TYPED"
python3 "$top/tests/lib/console.py" hello abc ABC "$bin/lifeboat" --socket "$work/tokyo/s" vm console pay ||
	lb_fail "its console on a terminal"
tokyo vm screenshot pay | grep -q "fake screen" || lb_fail "no screenshot"
tokyo vm screenshot pay --png "$work/pay.png"
[ "$(head -c 8 "$work/pay.png" | od -An -tx1 | tr -d ' ')" = 89504e470d0a1a0a ] || lb_fail "no PNG"
tokyo vm pause pay > /dev/null
state_is tokyo pay paused || lb_fail "it is not paused"
n=$(ticks tokyo pay)
[ "$n" = "$(ticks tokyo pay)" ] || lb_fail "a paused guest counts"
tokyo vm resume pay > /dev/null
refused 5 "typed name" tokyo vm stop pay
refused 5 "typed name" tokyo vm reset pay --confirm osaka

say "it is in a jail"
for part in no-new-privs uid chroot seccomp; do
	lb_pair_vm tokyo pay '.jail | join(" ")' | grep -qw $part || lb_fail "its jail lacks $part"
done
p=$(lb_pair_vm tokyo pay .pid)
grep -q '^Uid:.*65534' "/proc/$p/status" || grep -q "^Uid:.*$(id -u lifeboat-vm 2> /dev/null)" "/proc/$p/status" ||
	lb_fail "it runs as root"
[ -z "$(ls -A "/proc/$p/root/" 2> /dev/null)" ] || lb_fail "it sees files"

say "who may only look, looks at the list: no screen, no console, no command"
mkdir "$work/bin"
cp "$bin/lifeboat" "$work/bin"
chmod 755 "$work/bin"
looker() { # as somebody of the control socket's group
	setpriv --reuid 65534 --regid "$(stat -c %g "$work/tokyo/s")" --clear-groups \
		"$work/bin/lifeboat" --socket "$work/tokyo/s" "$@"
}
looker vm list | grep -q "^pay " || lb_fail "the group may not look"
for verb in pause power-button; do
	refused 5 "may only look" looker vm $verb pay
done
for verb in reset stop; do
	refused 5 "may only look" looker vm $verb pay --confirm tokyo
done
refused 5 "only root and the agent's own user" looker vm screenshot pay
refused 5 "only root and the agent's own user" looker vm console pay --once
state_is tokyo pay running || lb_fail "somebody who may only look stopped it"

say "its agent is killed, the machine is not"
lb_pair_kill9 tokyo
[ -d "/proc/$p" ] || lb_fail "the machine died with its agent"
lb_pair_agent tokyo
[ "$(lb_pair_vm tokyo pay .pid)" = "$p" ] || lb_fail "the new agent does not find it"
state_is tokyo pay running || lb_fail "the new agent does not speak with it"

say "a killed machine is off, and can be started again"
kill -9 "$p"
lb_wait_for 10 "the machine to be off" state_is tokyo pay off
tokyo vm run pay > /dev/null
p=$(lb_pair_vm tokyo pay .pid)

say "memory points"
lb_wait_for 40 "the first memory point" acked_over 0
n=$(acked)
lb_wait_for 40 "more of them" acked_over $((n + 2))
osaka point show latest --json | jq -e '.consistency == "memory"' > /dev/null ||
	lb_fail "the point is no memory point: $(osaka point show latest --json)"
osaka point show latest --json | jq -e '[.volumes[].volume] | contains(["ram", "vda"])' > /dev/null ||
	lb_fail "the point has no memory"
# What this process of the agent read of the disks until it had two more points.
read_for_two() {
	local n
	n=$(acked)
	lb_wait_for 40 "two points" acked_over $((n + 1))
	tokyo status --json | jq '.groups[0].bytes_read'
}
restart() { # AGENT-ONLY | BOTH | WITHOUT-LOG
	lb_pair_kill9 tokyo
	[ "$1" = AGENT-ONLY ] || kill -9 "$p"
	[ "$1" != WITHOUT-LOG ] || rm "$work"/tokyo/state/vms/erp.pay/vda.log
	lb_pair_agent tokyo
	[ "$1" = AGENT-ONLY ] || tokyo vm run pay > /dev/null
	p=$(lb_pair_vm tokyo pay .pid)
	n=$(read_for_two)
	echo "$1: $n bytes read for two points"
}
say "restarts of agent and machine go on with the log of writes"
restart AGENT-ONLY
[ "$n" -lt $((4 << 20)) ] || lb_fail "the disk was compared again"
restart BOTH
[ "$n" -lt $((4 << 20)) ] || lb_fail "the disk was compared again"
! grep -q "ev=resync" "$work/tokyo/log" || lb_fail "changes were known from elsewhere: $(grep ev=resync "$work/tokyo/log")"
restart WITHOUT-LOG
[ "$n" -ge $((16 << 20)) ] || lb_fail "nothing says what changed, and the disk was not compared"
lb_pair_boot pay 20 "going on" | lb_pair_runbook erp
say "a drill from memory: the order in which memory was touched is kept for the next time"
lb_pair_drill
order() { od -An -v -tu4 -w64 "$work"/osaka/state/orders/*.pay | tr -s ' '; }
[ "$(order)" = " 7 3" ] || lb_fail "the order of the drill is \"$(order)\""
before=$(ticks tokyo pay)

say "tokyo is lost: its agent is killed, its machine stands still"
lost=$p
kill -STOP "$lost"
lb_pair_kill9 tokyo
lb_pair_failover
state_is osaka pay running || lb_fail "the machine does not run at osaka"
run=$(lb_pair_run) detail=$(lb_pair_detail pay)
[[ $detail == *"from memory"* ]] || lb_fail "the step does not say it went on from memory: $detail"
[[ $detail == *"vmcore: as configured"* ]] || lb_fail "the step does not say what booted it: $detail"
[ "$(lb_pair_vm osaka pay .restored)" = true ] || lb_fail "it was booted cold"
[ "$(order)" = " 7 3 7 3" ] || lb_fail "the failover was not given the drill's order: \"$(order)\""
after=$(ticks osaka pay)
# the guest's counter went on from the acknowledged cut: not from 0, and far less than a whole second was lost
[ "$after" -gt 100 ] || lb_fail "it counts from the beginning ($after, $before at tokyo)"

say "osaka's agent is killed, the failed-over machine is not"
p=$(lb_pair_vm osaka pay .pid)
lb_pair_kill9 osaka
[ -d "/proc/$p" ] || lb_fail "the machine died with osaka's agent"
lb_pair_agent osaka
[ "$(lb_pair_vm osaka pay .pid)" = "$p" ] || lb_fail "osaka's new agent does not find it"
[ "$(ticks osaka pay)" -gt "$after" ] || lb_fail "it does not run any more"

python3 "$top/tests/lib/console.py" "going on" abc ABC "$bin/lifeboat" --socket "$work/osaka/s" vm console pay ||
	lb_fail "the failed-over machine's console on a terminal"

say "its guest faults: that is an alarm, and it can be started again, cold"
printf F | osaka vm console pay > /dev/null
lb_wait_for 10 "the fault" state_is osaka pay crashed
osaka vm list | grep -q "^pay  *boot .* crashed .*fault: triple fault" || lb_fail "vm list: $(osaka vm list)"
alarm() { osaka status --json | jq -r .alarm; }
alarmed() { [[ $(alarm) == "machine_crashed: machine pay: fault: triple fault" ]]; }
lb_wait_for 20 "the alarm" alarmed
grep -q "ev=machine_crashed vm=pay of=$run err=\"fault: triple fault\"" "$work/osaka/log" || lb_fail "no event"
osaka doctor > "$work/doctor" || true
grep -q "^BAD  machines .*machine_crashed: machine pay" "$work/doctor" || lb_fail "doctor: $(cat "$work/doctor")"
refused 4 "it has crashed" osaka vm run pay
osaka vm stop pay --confirm osaka > /dev/null
lb_wait_for 10 "the machine to be off" state_is osaka pay off
kill -9 "$(cat "$work/osaka/state/boots/${run:0:8}"/*/vda.pid)" # its views are served anew
osaka vm run pay > /dev/null || lb_fail "it cannot be started again"
state_is osaka pay running || lb_fail "it does not run again"
[ "$(lb_pair_vm osaka pay .restored)" = false ] || lb_fail "it was restored from a memory that is of the past"
no_alarm() { [ "$(alarm)" = "" ]; }
lb_wait_for 20 "the end of the alarm" no_alarm

say "tokyo comes back: it is fenced and may not run its machine"
lb_pair_agent tokyo
is_fenced() { tokyo status --json | jq -e '.groups[0].role == "FENCED"' > /dev/null; }
lb_wait_for 30 "tokyo to be fenced" is_fenced
lb_pair_kill9 tokyo # before it could end the machine, which does not answer
! lb_pair_gone "$lost" || lb_fail "the machine ended too early for this test"
lb_pair_agent tokyo
lb_wait_for 40 "the machine of a fenced site to be ended" lb_pair_gone "$lost"
refused 7 "FENCED" tokyo vm run pay

say "the end"
osaka vm stop pay --confirm osaka > /dev/null
lb_wait_for 10 "the machine to be off" state_is osaka pay off
echo "passed"
