#!/bin/bash
# tests/guests/grub-disk.sh OUT TEXT - a disk of 512 KiB with a master boot record and a GRUB of Debian's
# grub-pc-bin that says TEXT and "That is all." on the screen and on the first serial port, and then stops.
#
# The core is as small as goes (33 KB): unpacking it is what takes the time where ring 0 is emulated.
set -euo pipefail

out=$1 text=$2
grub=/usr/lib/grub/i386-pc
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cat > "$tmp/grub.cfg" <<CFG
serial --unit=0 --speed=115200
terminal_output console serial
echo "$text"
echo "That is all."
CFG
grub-mkimage -O i386-pc -d "$grub" -p '' -c "$tmp/grub.cfg" -o "$tmp/core.img" biosdisk serial terminal echo
# boot.img loads sector 1; core.img begins with diskboot.img, which loads the rest from sector 2
cat "$grub/boot.img" "$tmp/core.img" > "$out"
truncate -s 512K "$out"
