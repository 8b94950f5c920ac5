#!/usr/bin/env bash
# tests/e2e/long.sh SOURCE_DIR BUILD_DIR [POINTS] - memory points as fast as they go (interval 25 ms), POINTS (2000) of
# them: what grows? Both agents' and the machine's memory and descriptors, the store and the catalog, on a tmpfs.
#
# What a point leaves behind at the target (its place in the store's index, rows of the catalog) is bounded by a figure
# for each; everything else must not grow. For tests/soak.sh.
set -euo pipefail
top=$1 build=$2 bin=$2/bin
. "$top/tests/lib/pair.sh"
lb_alone long "${LB_LONG_LIMIT_S:-1800}" /dev/kvm jq nbdkit ip
points=${3:-2000}
mount --make-rprivate /
mount -t tmpfs -o size=3g,mode=755 none "$LB_WORK"
lb_pair_begin "$LB_WORK" "$bin"

truncate -s 256M "$work/shop.img"
lb_pair_tokyo 25ms <<YAML
- name: shop
  driver: vmcore
  vm: {memory: 64MiB, memory_points: true, kernel: $build/tests/payload.bin, cmdline: "prog=records every=10"}
  volumes: [{name: vda, path: $work/shop.img}]
YAML
lb_pair_osaka "hypervisor: {driver: vmcore, kernel: $build/tests/payload.bin}"
lb_pair_start
tokyo vm run shop > /dev/null
vm=$(lb_pair_vm tokyo shop .pid)

rss() { awk '/^RssAnon:/ { print $2 }' "/proc/$1/status"; } # KiB of its own: neither files nor the guest's memory
fds() { ls "/proc/$1/fd" | wc -l; }
size() { du -sk "$1" | cut -f1; }
acked() { tokyo status --json | jq '.groups[0].points_acked'; }
look() { # points, then of each: KiB and descriptors; KiB of the store, of the databases
	echo "$(acked) $(rss "${pid[tokyo]}") $(fds "${pid[tokyo]}") $(rss "${pid[osaka]}") $(fds "${pid[osaka]}")" \
		"$(rss "$vm") $(fds "$vm") $(size "$work/osaka/state/store") $(cat "$work"/osaka/state/*.db* | wc -c) $(size "$work/tokyo/state")"
}
say "points  tokyo KiB fds  osaka KiB fds  machine KiB fds  store KiB  databases B  tokyo's state KiB"
lb_wait_for 900 "the first points" lb_pair_points $((points / 5))
begin=($(look)) began=$(date +%s%N)
echo "${begin[*]}"
for part in 2 3 4 5; do
	lb_wait_for 900 "points" lb_pair_points $((points * part / 5))
	now=($(look))
	echo "${now[*]}"
done
took=$((($(date +%s%N) - began) / 1000000))
n=$((now[0] - begin[0]))
grew() { echo $((now[$1] - begin[$1])); } # COLUMN
echo "$n points in $took ms: one each $((took / n)) ms; each $(($(grew 7) * 1024 / n)) bytes of store, $(($(grew 8) / n)) of databases;" \
	"osaka's memory $(($(grew 3) * 1024 / n)) bytes a point"
at_most() { # COLUMN LIMIT WHAT
	[ "$(grew "$1")" -le "$2" ] || lb_fail "$3 grew by $(grew "$1"), at most $2 are right for $n points"
}
at_most 2 4 "tokyo's descriptors"
# a segment of the store may stay open for readers, at most 64 do (REP_FILES_CACHE)
at_most 4 $((4 + $(grew 7) / (64 << 10))) "osaka's descriptors"
at_most 6 2 "the machine's descriptors"
# the shadow follows what the guest writes in its memory: its table of 32 bytes for each of the disk's sectors
at_most 1 $((8192 + (16 << 10))) "tokyo's memory (KiB)"
at_most 5 4096 "the machine's memory (KiB)"
at_most 3 $((8192 + n)) "osaka's memory (KiB)"
at_most 8 $((8 << 20 | n * 1024)) "osaka's databases (bytes)" # their logs grow to 4 MiB each and are used again
# digests of both volumes, and what a cut was last: flat once the guest has filled them (8,000 points)
at_most 9 8192 "tokyo's state (KiB)"
tokyo vm stop shop --confirm tokyo > /dev/null
osaka point verify latest > "$work/said" || lb_fail "verify: $(cat "$work/said")"
cat "$work/said"
echo "passed"
