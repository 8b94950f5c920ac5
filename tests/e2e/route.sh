#!/bin/bash
# tests/e2e/route.sh SOURCE_DIR BUILD_DIR - machines that run under lifeboat-vm at tokyo are booted by whatever fits at
# osaka (hypervisor driver auto): vmcore where KVM is native; elsewhere, as in CI, a Linux machine goes to libvirt/QEMU,
# cold, and the run says why, also why not from memory.
#
# tokyo's machines are tests/lib/fake_vm.c: only their disks matter. erp-db's holds 40 of the writer's records and boots
# from osaka's own kernel; old-crm boots itself, by MBR and GRUB from IDE.
set -euo pipefail
top=$1 build=$2 bin=$2/bin
. "$top/tests/lib/pair.sh"

why=$(lb_sites_missing)
[ -z "$why" ] || { echo "skipped: $why"; exit 77; }
export LB_GUESTS=$build/guests
LB_SITES_CAPS=$build/libvirt-caps
LB_SITES_LIMIT_S=400
"$top/tests/guests/build-guests.sh" "$LB_GUESTS" || lb_fail "building the test machines"

lb_sites_begin "$(mktemp -d /tmp/lb-route.XXXXXX)"
lb_sites_drill_net
lb_site_libvirtd b
lb_pair_begin "$LB_SITES_DIR" "$bin"
lb_pair_ns=([tokyo]=$LB_NS_a [osaka]=$LB_NS_b)
lb_pair_address=10.78.0.2

cp --sparse=always "$LB_GUESTS/records.raw" "$work/erp-db.raw"
cp --sparse=always "$LB_GUESTS/legacy.raw" "$work/old-crm.raw"
lb_pair_tokyo 500ms "vm_program: $build/tests/fake_lifeboat_vm" <<YAML
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
lb_pair_osaka "hypervisor: {driver: auto, uri: '$LB_URI_b', kernel: $LB_GUESTS/vmlinuz, initrd: $LB_GUESTS/initrd.gz}
drill_network: {netns: $LB_NS_drill, bridge: br0}"
{
	lb_pair_boot erp-db 140 "LBW CHECK"
	lb_pair_boot old-crm 140 "LBW CHECK" | sed 's/fence/erp-db/' # one after the other: they may be emulated
} | lb_pair_runbook erp
lb_pair_start
tokyo vm run erp-db > /dev/null
tokyo vm run old-crm > /dev/null
lb_wait_for 60 "points" lb_pair_points 2

route="libvirt: KVM is "
[ "$(lb_accel)" = qemu ] || route="vmcore: KVM is native"
judge() { # MODE
	local db crm
	db=$(lb_pair_detail erp-db) crm=$(lb_pair_detail old-crm)
	echo "$1: erp-db:  $db"
	echo "$1: old-crm: $crm"
	[[ $db == *"cold; "*"$route"*"LBW CHECK records=40 "*" ok"* ]] || lb_fail "erp-db was not booted cold by the right driver, or lost records"
	[[ $crm == *"$route"*"LBW CHECK records="*" ok"* ]] || lb_fail "old-crm was not booted by the right driver"
}
osaka doctor | grep "kvm" || true
lb_pair_drill
judge drill
lb_pair_kill tokyo erp-db old-crm
lb_pair_failover
judge failover
echo "passed"
