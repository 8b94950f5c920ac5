#!/bin/bash
# tests/vmcore/acpi_qemu.sh SOURCE_DIR BUILD_DIR ACPI_DUMP - a stock Debian kernel on pc1's ACPI tables and a
# hypervisor that is not ours: QEMU without tables of its own gets them as firmware files. The kernel must
# start both processors, route INTx through _PRT and the link devices to a disk it mounts, and reset the
# machine through the FADT's register, without a complaint of ACPICA but for what QEMU lacks without its own
# tables: the power management ports read all ones there (unit.vm_pm and vmcore.linux test ours). Its timer
# reaches another input of the IOAPIC than KVM's, which pc1 describes: hence noapic. 77: skipped.
set -uo pipefail
src=${1:?} build=${2:?} dump=${3:?}
ram=256

for tool in qemu-system-x86_64 cpio busybox; do
	command -v $tool > /dev/null || { echo "skipped: no $tool"; exit 77; }
done
guests=$build/guests
"$src/tests/guests/build-guests.sh" "$guests" || { echo "skipped: no guests"; exit 77; }
dir=$(mktemp -d /tmp/lb-acpi-qemu.XXXXXX)
trap 'rm -rf "$dir"' EXIT

fail() {
	tail -60 "$dir/serial" >&2
	echo "acpi_qemu: $*" >&2
	exit 1
}

# A later archive's files replace an earlier one's. Packed: a plain one is only looked for at multiples of four.
mkdir "$dir/tree"
cat > "$dir/tree/init" <<'INIT'
#!/bin/sh
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
for m in $(cat /modules.order); do insmod "/modules/$m.ko" 2>/dev/null; done
mount -t ext4 /dev/vda /data && echo "LBV mounted"
echo "LBV cpus=$(grep -c ^processor /proc/cpuinfo)"
sed 's/^/LBV irq /' /proc/interrupts
for d in /sys/bus/acpi/devices/*; do echo "LBV acpi $(cat "$d/path") $(cat "$d/hid" 2>/dev/null)"; done
dmesg | grep -E 'ACPI.*(Error|Warning|Exception|BIOS Bug)' |
	grep -vE 'for GPE 0[1-7]|RealTimeClock' | sed 's/^/LBV complaint /'
echo "LBV done"
reboot -f
INIT
chmod 755 "$dir/tree/init"
(cd "$dir/tree" && echo init | cpio -o -H newc -R 0:0 --quiet | gzip -1) > "$dir/init.gz"
cat "$guests/initrd.gz" "$dir/init.gz" > "$dir/initrd"
cp --sparse=always "$guests/data.raw" "$dir/disk.raw"
"$dump" "$dir" 2 $ram || fail "no tables"

timeout 150 qemu-system-x86_64 -M pc,acpi=off -accel tcg -m $ram -smp 2 -nodefaults -display none -no-reboot \
	-serial "file:$dir/serial" \
	-drive "file=$dir/disk.raw,format=raw,if=none,id=d" -device virtio-blk-pci,drive=d,addr=5 \
	-fw_cfg "name=etc/acpi/rsdp,file=$dir/rsdp" -fw_cfg "name=etc/acpi/tables,file=$dir/tables" \
	-fw_cfg "name=etc/table-loader,file=$dir/table-loader" \
	-kernel "$guests/vmlinuz" -initrd "$dir/initrd" \
	-append "console=ttyS0 panic=-1 tsc=unstable no_timer_check pci=nomsi noapic reboot=acpi" > "$dir/qemu.log" 2>&1
rc=$?
[ $rc -eq 0 ] || fail "QEMU ended with $rc, not by the guest's reset: $(tail -3 "$dir/qemu.log")"
expect() {
	grep -aqE "$1" "$dir/serial" || fail "the guest did not say: $1"
}
expect 'ACPI: DSDT .* LIFEBT PC1'
expect 'LBV mounted'
expect 'LBV cpus=2'
expect 'LBV irq +9:.*XT-PIC +acpi'
expect 'LBV irq +(10|11):.*XT-PIC +virtio'
expect 'LBV acpi \\_SB_\.PCI0 PNP0A03'
expect 'LBV acpi \\_SB_\.LNKD PNP0C0F'
expect 'LBV acpi \\_SB_\.VGEN LBVM0001'
expect 'LBV done'
! grep -a 'LBV complaint' "$dir/serial" || fail "ACPICA complains"
echo "a stock kernel ran on pc1's tables and reset the machine"
