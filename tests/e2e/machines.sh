#!/usr/bin/env bash
# tests/e2e/machines.sh SOURCE_DIR BUILD_DIR - a group of two machines with five disks between them, through two agents.
#
# db has three volumes: an image file, a loop device with a mounted ext4, a small image of an odd size. web has two: a
# loop device of an odd size and an image file. A writer numbers its rounds and writes the number to one volume after
# the other, each time durable before the next. So in every recovery point the numbers fall by at most one, at one
# place, in that order: anything else is an effect without its cause, across disks or machines.
#
# Then the block device itself: what a file system on it writes does not pass the device's page cache, so only
# O_DIRECT reads see it, in the last partial block too.
set -euo pipefail
top=$1 bin=$2/bin
. "$top/tests/lib/pair.sh"
losetup -f > /dev/null 2>&1 || { echo "skipped: needs losetup, root and loop devices"; exit 77; }
lb_alone machines "${LB_AGENT_LIMIT_S:-280}" jq qemu-img nbdkit mkfs.ext4 e2fsck cmp ip
lb_pair_begin "$LB_WORK" "$bin"

acked() { tokyo status --json | jq '.groups[0].last_acked_seq'; }
is_over() { local n; n=$("$1" 2> /dev/null) && [ "$n" != null ] && [ "$n" -gt "$2" ]; }

# A point whose cut began after now is visible at osaka.
fresh_point() {
	local seq
	seq=$(acked)
	[ "$seq" != null ] || seq=0
	lb_wait_for 90 "a point after $seq" is_over acked $((seq + 1))
}

# ---- five volumes, two of them devices

say "two machines, five volumes"
mkdir "$work/fs" "$work/out"
truncate -s 16M "$work/db.vda"
truncate -s 24M "$work/db.vdb"
truncate -s $((3 * 1048576 + 1536)) "$work/db.vdc"
truncate -s $((5 * 1048576 + 2560)) "$work/web.sda" # neither ends at a 4 KiB boundary
truncate -s 4M "$work/web.sdb"
dd if=/dev/urandom of="$work/db.vda" bs=1M count=6 seek=2 conv=notrunc status=none
mkfs.ext4 -q "$work/db.vdb"
# A loop device is the whole host's. Detached while it is held open it goes with its last opener: whatever ends us.
hold() { # DEVICE
	exec {held}< "$1"
	losetup -d "$1"
}
vdb=$(losetup -f --show "$work/db.vdb")
hold "$vdb"
sda=$(losetup -f --show "$work/web.sda")
hold "$sda"
mount "$vdb" "$work/fs"
lb_pair_tokyo 200ms <<YAML
- name: db
  driver: block
  volumes:
    - {name: vda, path: $work/db.vda}
    - {name: vdb, path: $vdb}
    - {name: vdc, path: $work/db.vdc}
- name: web
  driver: block
  volumes:
    - {name: sda, path: $sda}
    - {name: sdb, path: $work/web.sdb}
YAML
lb_pair_osaka
lb_pair_start
lb_wait_for 60 "the first acknowledged point" is_over acked 0
osaka point show latest --json | jq -e '[.volumes[] | .machine + "/" + .volume] == ["db/vda", "db/vdb", "db/vdc", "web/sda", "web/sdb"]' > /dev/null ||
	{ osaka point show latest --json; lb_fail "the point does not name the five volumes"; }

export_all() { # POINT
	local v
	rm -f "$work"/out/*
	for v in db/vda db/vdb db/vdc web/sda web/sdb; do
		osaka point export "$1" "$work/out/${v/\//.}" --machine "${v%/*}" --volume "${v#*/}" > /dev/null
	done
}

# ---- one instant over all of them

say "a writer goes from disk to disk; no point holds an effect without its cause"
places() { echo "$work/db.vda $work/fs/number $work/db.vdc $sda $work/web.sdb"; }
put() { printf '%08d' "$1" | dd of="$2" bs=8 conv=notrunc,fdatasync status=none; }
for place in $(places); do put 0 "$place"; done
write_rounds() {
	local n=0 place
	while [ ! -e "$work/stop" ]; do
		n=$((n + 1))
		for place in $(places); do
			put $n "$place"
			# a driver that can withhold nothing needs a quiet moment for a point
			lb_wait_for 90 "a point after a write" is_over acked "$(acked)"
		done
	done
	echo $n > "$work/rounds"
}
write_rounds &
writer=$!
number() { # VOLUME: as it is in the exported point
	case $1 in
	db.vdb)
		e2fsck -fy "$work/out/db.vdb" > "$work/fsck" 2>&1 || true # replays the journal
		debugfs -R "cat number" "$work/out/db.vdb" 2> /dev/null
		;;
	*) head -c 8 "$work/out/$1" ;;
	esac
}
seen=' ' split=0 judged=0
for round in $(seq 8); do
	fresh_point
	osaka point list --json --max 1000 > "$work/list"
	point=$(osaka point show latest --json | jq -r .id)
	export_all "$point"
	first=$((10#$(number db.vda))) before=$first line=
	for v in db.vda db.vdb db.vdc web.sda web.sdb; do
		n=$((10#$(number $v)))
		line+=" $n"
		[ $n -le $before ] && [ $n -ge $((first - 1)) ] || lb_fail "point $point holds$line: two instants"
		before=$n
	done
	[ $before = $first ] || split=$((split + 1))
	[[ $seen == *" $first "* ]] || seen+="$first "
	judged=$((judged + 1))
done
touch "$work/stop"
wait $writer
[ "$(wc -w <<< "$seen")" -ge 3 ] || lb_fail "only the rounds$seen were seen: the writer and the points did not go together"
say "$judged points, rounds$seen, $split of them between two volumes"

# ---- bit-equal, all five

say "quiet: every volume equals its source"
sync -f "$work/fs"
# A volume is whole 4 KiB blocks: one that ends inside a block is that much longer at the other end, in zeros.
same() {
	local v bytes
	fresh_point
	export_all latest
	for v in db.vda db.vdb db.vdc web.sda web.sdb; do
		bytes=$(((($(stat -c %s "$work/$v") + 4095) / 4096) * 4096))
		[ "$(stat -c %s "$work/out/$v")" = $bytes ] || lb_fail "the export of $v has not $bytes bytes"
		cp --sparse=always "$work/$v" "$work/padded"
		truncate -s $bytes "$work/padded"
		cmp "$work/out/$v" "$work/padded" || lb_fail "the export of $v differs from its source"
	done
}
same

# ---- the page cache of a device lies

say "a mounted file system and the last partial block: seen past the page cache"
dd if=/dev/urandom of="$work/fs/data" bs=1M count=4 status=none
sync -f "$work/fs"
cat "$vdb" "$sda" > /dev/null # fills the devices' page caches
dd if=/dev/urandom of="$work/fs/data" bs=1M count=4 conv=notrunc status=none # in place: no metadata tells of it
sync -f "$work/fs"
printf 'tail' | dd of="$work/web.sda" bs=1 seek=$((5 * 1048576 + 2548)) conv=notrunc status=none
if cmp -s "$vdb" "$work/db.vdb" || cmp -s "$sda" "$work/web.sda"; then
	say "(this kernel's page cache is coherent: nothing is shown)"
fi
same
umount "$work/fs"
fresh_point
export_all latest
e2fsck -fn "$work/out/db.vdb" > "$work/fsck" 2>&1 || { cat "$work/fsck"; lb_fail "the replica is no clean ext4"; }
osaka verify --deep > /dev/null

lb_pair_stop
echo "OK: all conditions met in $SECONDS s"
