#!/bin/bash
# tests/e2e/route.sh SOURCE_DIR BUILD_DIR - machines that run under lifeboat-vm at tokyo are booted by whatever fits at
# osaka (hypervisor driver auto): vmcore where KVM is native; elsewhere, as in CI, a Linux machine goes to libvirt/QEMU,
# cold, and the run says why, also why not from memory.
#
# tokyo's machines are tests/lib/fake_vm.c: only their disks matter. erp-db's holds 40 of the writer's records and boots
# from osaka's own kernel; old-crm boots itself, by MBR and GRUB from IDE.
set -uo pipefail
src=${1:?} build=${2:?} bin=$2/bin
. "$src/tests/lib/site.sh"

why=$(lb_sites_missing)
[ -z "$why" ] || { echo "skipped: $why"; exit 77; }
export LB_GUESTS=$build/guests PATH=$PATH:/usr/sbin:/sbin
LB_SITES_CAPS=$build/libvirt-caps
LB_SITES_LIMIT_S=400
"$src/tests/guests/build-guests.sh" "$LB_GUESTS" || lb_fail "building the test machines"

lb_sites_begin "$(mktemp -d /tmp/lb-route.XXXXXX)"
work=$LB_SITES_DIR
on_exit() {
	local rc=$?
	[ $rc = 0 ] || tail -n 15 "$work"/tokyo/log "$work"/osaka/log "$work/run" 2> /dev/null
	lb_sites_end
	exit $rc
}
trap on_exit EXIT
lb_sites_drill_net
lb_site_libvirtd b

tokyo() { "$bin/lifeboat" --socket "$work/tokyo/s" "$@"; }
osaka() { "$bin/lifeboat" --socket "$work/osaka/s" "$@"; }
answers() { "$1" status > /dev/null 2>&1; }
agent() { # SITE NAME
	lb_site_run "$1" "$bin/lifeboatd" --config "$work/$2/lifeboat.yaml" >> "$work/$2/log" 2>&1 < /dev/null &
	disown $!
	lb_wait_for 30 "lifeboatd of $2" answers "$2"
}

mkdir -p "$work"/{tokyo,osaka}/state
chmod 755 "$work" "$work"/{tokyo,osaka}
cp --sparse=always "$LB_GUESTS/records.raw" "$work/erp-db.raw"
cp --sparse=always "$LB_GUESTS/legacy.raw" "$work/old-crm.raw"
cat > "$work/tokyo/lifeboat.yaml" <<YAML
site: tokyo
state_dir: $work/tokyo/state
control_socket: $work/tokyo/s
vm_program: $build/tests/fake_lifeboat_vm
groups:
  - name: erp
    peer: osaka
    interval: 500ms
    machines:
      - name: erp-db
        driver: vmcore
        vm:
          memory: 256MiB
          memory_points: true
          kernel: $LB_GUESTS/vmlinuz
          cmdline: "console=ttyS0 quiet panic=-1 tsc=unstable no_timer_check lb.root=LABEL=lbrecords"
          nics: ["52:54:00:77:00:11"]
        volumes: [{name: vda, path: $work/erp-db.raw}]
      - name: old-crm
        driver: vmcore
        vm: {memory: 256MiB}
        volumes: [{name: hda, path: $work/old-crm.raw}]
YAML
cat > "$work/osaka/lifeboat.yaml" <<YAML
site: osaka
state_dir: $work/osaka/state
control_socket: $work/osaka/s
listen: 10.78.0.2:7400
enrol_listen: 10.78.0.2:7401
store: {reserve: 1MiB}
hypervisor: {driver: auto, uri: "$LB_URI_b", kernel: $LB_GUESTS/vmlinuz, initrd: $LB_GUESTS/initrd.gz}
drill_network: {netns: $LB_NS_drill, bridge: br0}
YAML
cat > "$work/erp.yaml" <<'YAML'
apiVersion: lifeboat/v1
kind: Runbook
name: erp
rto: 5m
modes: [drill, failover]
steps:
  - {id: fence, action: fence, site: tokyo}
  - {id: db, action: boot, machine: erp-db, needs: [fence], timeout: 150s, retries: 0, probes: [{serial: "LBW CHECK", within: 140s}]}
  - {id: crm, action: boot, machine: old-crm, needs: [db], timeout: 150s, retries: 0, probes: [{serial: "LBW CHECK", within: 140s}]}
YAML
agent b osaka
agent a tokyo
osaka site init > /dev/null || lb_fail "site init"
osaka site token tokyo > "$work/token" && tokyo site join "$work/token" > /dev/null || lb_fail "site join"
tokyo vm run erp-db > /dev/null || lb_fail "running erp-db"
tokyo vm run old-crm > /dev/null || lb_fail "running old-crm"
points() { [ "$(tokyo status --json | jq '.groups[0].points_acked')" -ge 2 ]; }
lb_wait_for 60 "points" points

route="libvirt: KVM is "
[ "$(lb_accel)" = qemu ] || route="vmcore: KVM is native"
judge() { # MODE
	local run db crm
	run=$(osaka run list --json | jq -r '.runs[0].id')
	db=$(osaka run show "$run" --json | jq -r '.steps[] | select(.id == "db") | .detail')
	crm=$(osaka run show "$run" --json | jq -r '.steps[] | select(.id == "crm") | .detail')
	echo "$1: erp-db:  $db"
	echo "$1: old-crm: $crm"
	[[ $db == *"cold; "*"$route"*"LBW CHECK records=40 "*" ok"* ]] || lb_fail "erp-db was not booted cold by the right driver, or lost records"
	[[ $crm == *"$route"*"LBW CHECK records="*" ok"* ]] || lb_fail "old-crm was not booted by the right driver"
}
osaka doctor | grep "kvm" || true
osaka drill "$work/erp.yaml" > "$work/run" 2>&1 || lb_fail "the drill"
judge drill
pids=$(tokyo vm list --json | jq '.vms[].pid')
kill -9 $pids $(pgrep -f "lifeboatd --config $work/tokyo/") || lb_fail "killing tokyo"
osaka run start "$work/erp.yaml" --mode failover --confirm tokyo --unattended > "$work/run" 2>&1 || lb_fail "the failover"
judge failover
echo "passed"
