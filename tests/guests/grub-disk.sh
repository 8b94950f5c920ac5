#!/bin/bash
# tests/guests/grub-disk.sh OUT TEXT [FILE-TEXT] - a disk of 512 KiB with a master boot record and a GRUB of
# Debian's grub-pc-bin that says TEXT and "That is all." on the screen and on the first serial port, and stops.
# With FILE-TEXT there is a partition with ext4 too, and GRUB shows the file /etc/words of it, which says that.
#
# Without a file system the core is as small as goes (33 KB): unpacking it is what takes the time where ring 0 is
# emulated.
set -euo pipefail

out=$1 text=$2 words=${3:-}
grub=/usr/lib/grub/i386-pc
part_kib=256
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
export PATH=$PATH:/usr/sbin:/sbin LC_ALL=C

modules="biosdisk serial terminal echo"
{
	echo "serial --unit=0 --speed=115200"
	echo "terminal_output console serial"
	echo "echo \"$text\""
	[ -z "$words" ] || echo "cat (hd0,msdos1)/etc/words"
	echo "echo \"That is all.\""
} > "$tmp/grub.cfg"
[ -z "$words" ] || modules+=" part_msdos ext2 cat"
# shellcheck disable=SC2086
grub-mkimage -O i386-pc -d "$grub" -p '' -c "$tmp/grub.cfg" -o "$tmp/core.img" $modules

# boot.img loads sector 1; core.img begins with diskboot.img, which loads the rest from sector 2
cat "$grub/boot.img" "$tmp/core.img" > "$out"
[ "$(stat -c %s "$out")" -le $((part_kib * 1024)) ] || { echo "grub-disk: the core is too large" >&2; exit 1; }
truncate -s 512K "$out"
[ -n "$words" ] || exit 0

mkdir -p "$tmp/tree/etc"
echo "$words" > "$tmp/tree/etc/words"
mke2fs -q -F -t ext4 -b 1024 -O ^has_journal,^metadata_csum_seed,^orphan_file -d "$tmp/tree" \
	-E "offset=$((part_kib * 1024))" "$out" ${part_kib}k > "$tmp/log" 2>&1 || { cat "$tmp/log" >&2; exit 1; }
# the partition table, where boot.img has code for floppy disks: active, type 83, from sector 512, 512 sectors
head -c 64 /dev/zero | dd of="$out" bs=1 seek=446 conv=notrunc status=none
printf '\x80\xfe\xff\xff\x83\xfe\xff\xff\x00\x02\x00\x00\x00\x02\x00\x00' |
	dd of="$out" bs=1 seek=446 conv=notrunc status=none
