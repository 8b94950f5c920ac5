#!/bin/bash
# tests/guests/build-guests.sh OUT - build the test machines from Debian packages, without root rights,
# loop mounts, or a network once the kernel package is there. Makes in OUT:
#
#   vmlinuz, initrd.gz   Debian's cloud kernel and a busybox initramfs
#   data.raw             256 MiB: ext4 on the whole disk            (direct kernel boot, virtio disk)
#   legacy.raw           256 MiB: MBR, GRUB, one active ext4 root   (SeaBIOS, IDE disk)
#   lean.cpio            an initramfs for a machine with an emulated kernel: tests/guests/lean.c
#   ide.cpio             the same for a machine with an IDE disk: tests/guests/ide.c
#   records.raw          16 MiB: ext4 with a chain of 40 of the writer's records
#   drwriter             the guests' writer, also runs here: drwriter -c FILE
#
# Nothing is done when OUT already holds what these inputs give (OUT/stamp). The kernel is an installed
# linux-image-*-cloud-amd64, else the package is downloaded and unpacked (not installed: its dependencies
# would change the host's init) into ${XDG_CACHE_HOME:-~/.cache}/lifeboat/kernel.
# build-guests.sh --fetch only sees to the kernel.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
export PATH=$PATH:/usr/sbin:/sbin LC_ALL=C
cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/lifeboat/kernel
modules="virtio_pci virtio_blk ata_piix sd_mod virtio_console virtio_net"
cmdline="console=ttyS0 quiet panic=-1 tsc=unstable no_timer_check"
mib=1048576

die() {
	echo "build-guests: $*" >&2
	exit 1
}

# Sets kroot (the tree that holds boot/ and lib/modules/) and kver.
find_kernel() {
	local dir
	for dir in / "$cache"; do
		kver=$(ls "$dir/lib/modules" 2>/dev/null | grep -- -cloud-amd64 | sort -V | tail -1) || true
		if [ -n "$kver" ] && [ -f "$dir/boot/vmlinuz-$kver" ]; then
			kroot=$dir
			return 0
		fi
	done
	return 1
}

fetch_kernel() {
	local tmp package
	find_kernel && return
	package=$(apt-cache depends linux-image-cloud-amd64 | awk '$1 == "Depends:" { print $2; exit }')
	[ -n "$package" ] || die "apt knows no linux-image-cloud-amd64: run apt-get update"
	mkdir -p "$(dirname "$cache")"
	tmp=$(mktemp -d "$cache.XXXXXX")
	if ! (cd "$tmp" && apt-get -qq -o APT::Sandbox::User=root download "$package" &&
		dpkg -x "$package"_*.deb tree); then
		rm -rf "$tmp"
		die "downloading $package"
	fi
	depmod -b "$tmp/tree" "$(ls "$tmp/tree/lib/modules")"
	rm -rf "$cache"
	mv "$tmp/tree" "$cache"
	rm -rf "$tmp"
	find_kernel || die "$package holds no kernel"
}

# ext4_at IMAGE OFFSET_MIB SIZE_MIB LABEL [TREE]
ext4_at() {
	mke2fs -q -F -t ext4 -L "$4" -O ^metadata_csum_seed,^orphan_file \
		-E "offset=$(($2 * mib)),lazy_itable_init=0,root_owner=0:0" \
		${5:+-d "$5"} "$1" "$3M" > "$tmp/mke2fs.log" 2>&1 || die "$(cat "$tmp/mke2fs.log")"
}

le32() {
	printf '%b' "$(printf '\\x%02x\\x%02x\\x%02x\\x%02x' $(($1 & 255)) $(($1 >> 8 & 255)) \
		$(($1 >> 16 & 255)) $(($1 >> 24 & 255)))"
}

put() { # IMAGE OFFSET: stdin into the image there
	dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

build_initramfs() {
	local t=$tmp/initramfs module
	mkdir -p "$t"/{bin,modules,proc,sys,dev,data}
	cp /bin/busybox "$t/bin/busybox"
	ln -s busybox "$t/bin/sh"
	cp "$here/init" "$here/rc" "$tmp/drwriter" "$t/"
	chmod 755 "$t/init" "$t/rc"
	# One "insmod PATH" line per module, in the order of dependencies; none for what is built in.
	for module in $modules; do
		modprobe -d "$kroot" -S "$kver" -D "$module" 2>/dev/null | awk '$1 == "insmod" { print $2 }'
	done | awk '!seen[$0]++' | while read -r ko; do
		cp "$ko" "$t/modules/"
		basename "$ko" .ko >> "$t/modules.order"
	done
	[ -s "$t/modules.order" ] || die "no modules in $kroot/lib/modules/$kver"
	(cd "$t" && find . -print0 | sort -z | cpio -0 -o -H newc -R 0:0 --quiet) |
		gzip -1 > "$tmp/initrd.gz"
}

# A tiny but whole system on the disk itself: kernel, GRUB's configuration, busybox, the writer.
build_legacy_tree() {
	local t=$tmp/legacy applet
	mkdir -p "$t"/{bin,sbin,proc,sys,dev,tmp,etc,boot/grub}
	cp /bin/busybox "$t/bin/busybox"
	/bin/busybox --list | grep -vx busybox | while read -r applet; do
		ln -s busybox "$t/bin/$applet"
	done
	cp "$here/rc" "$t/sbin/init"
	cp "$tmp/drwriter" "$t/drwriter"
	chmod 755 "$t/sbin/init"
	cp "$tmp/vmlinuz" "$tmp/initrd.gz" "$t/boot/"
	cat > "$t/boot/grub/grub.cfg" <<-CFG
	serial --unit=0 --speed=115200
	terminal_output serial console
	set timeout=0
	echo LBW GRUB
	menuentry lifeboat {
	  linux /boot/vmlinuz $cmdline lb.root=LABEL=lbroot lb.ip=10.77.0.12/24
	  initrd /boot/initrd.gz
	}
	CFG
}

# GRUB for BIOS by hand: boot.img is the MBR's code, core.img follows it in the gap before the first
# partition. Both hold defaults that suit "core.img is contiguous from sector 1".
build_legacy() {
	local img=$tmp/legacy.raw grub=/usr/lib/grub/i386-pc start=2048 sectors=$((255 * 2048))
	build_legacy_tree
	truncate -s 256M "$img"
	ext4_at "$img" 1 255 lbroot "$tmp/legacy"
	grub-mkimage -O i386-pc -d $grub -o "$tmp/core.img" -p '(hd0,msdos1)/boot/grub' \
		biosdisk part_msdos ext2 normal linux configfile serial terminal echo minicmd
	[ "$(stat -c %s "$tmp/core.img")" -lt $(((start - 1) * 512)) ] || die "core.img is too large"
	head -c 440 $grub/boot.img | put "$img" 0
	dd if="$tmp/core.img" of="$img" bs=512 seek=1 conv=notrunc status=none
	le32 $((0x1b0a7)) | put "$img" 440
	{ printf '\x80\x20\x21\x00\x83\xfe\xff\xff'; le32 $start; le32 $sectors; } | put "$img" 446
	printf '\x55\xaa' | put "$img" 510
}

# lean_initramfs NAME SOURCE MODULE...: not packed, no shell, modules without signatures and debug information: what
# an emulator would have to read.
lean_initramfs() {
	local name=$1 source=$2 t=$tmp/$1 module
	shift 2
	mkdir -p "$t"/{dev,sys,data,modules}
	gcc -std=gnu17 -D_GNU_SOURCE -O2 -Wall -Wextra -static -s -o "$t/init" "$source"
	for module in "$@"; do
		modprobe -d "$kroot" -S "$kver" -D "$module" 2>/dev/null | awk '$1 == "insmod" { print $2 }'
	done | awk '!seen[$0]++' | while read -r ko; do
		strip -g -o "$t/modules/$(basename "$ko")" "$ko"
		basename "$ko" .ko >> "$t/modules.order"
	done
	[ "$name" != lean ] || strip -o "$t/drwriter" "$tmp/drwriter"
	(cd "$t" && find . -print0 | sort -z | cpio -0 -o -H newc -R 0:0 --quiet) > "$tmp/$name.cpio"
}

build_lean() {
	lean_initramfs lean "$here/lean.c" virtio_pci virtio_blk button evdev
	lean_initramfs ide "$here/ide.c" ata_piix sd_mod
	mkdir "$tmp/records"
	"$tmp/drwriter" -w 40 "$tmp/records/records" > /dev/null
	truncate -s 16M "$tmp/records.raw"
	ext4_at "$tmp/records.raw" 0 16 lbrecords "$tmp/records"
}

build_data() {
	truncate -s 256M "$tmp/data.raw"
	ext4_at "$tmp/data.raw" 0 256 lbdata
}

main() {
	local out=${1:?usage: build-guests.sh OUT | --fetch} stamp file
	fetch_kernel
	[ "$out" != --fetch ] || return 0
	mkdir -p "$out"
	exec 9> "$out/.lock"
	flock 9
	stamp=$(cat "$here"/{build-guests.sh,init,rc,init.h,lean.c,ide.c,drwriter.c,sha256.h} /bin/busybox |
		sha256sum | cut -c1-64)-$kver
	if [ -f "$out/stamp" ] && [ "$(cat "$out/stamp")" = "$stamp" ]; then
		return 0
	fi
	rm -f "$out/stamp"
	tmp=$(mktemp -d "$out/tmp.XXXXXX")
	trap 'rm -rf "$tmp"' EXIT
	gcc -std=gnu17 -D_GNU_SOURCE -O2 -Wall -Wextra -static -o "$tmp/drwriter" "$here/drwriter.c"
	cp "$kroot/boot/vmlinuz-$kver" "$tmp/vmlinuz"
	build_initramfs
	build_data
	build_legacy
	build_lean
	for file in drwriter vmlinuz initrd.gz lean.cpio ide.cpio records.raw data.raw legacy.raw; do
		mv "$tmp/$file" "$out/$file"
	done
	echo "$stamp" > "$out/stamp"
}

main "$@"
