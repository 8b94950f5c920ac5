#!/usr/bin/env bash
# tests/e2e/mixed.sh SOURCE_DIR BUILD_DIR - one group, machines of two kinds: one under our own KVM core, with two disks
# and its memory, and a legacy one whose disk is a plain image file (driver block).
#
# Both are of one cut: tests/guests/payload writes hash-chained records to vda; vdb holds random bytes; the image is
# written by this script, a file's worth of the ledger's newest record each time, as an application that follows another
# one would. After a failover, from memory and cold, the image must not know a record that the ledger's disk does not
# hold: an effect without its cause.
set -euo pipefail
top=$1 build=$2 bin=$2/bin
. "$top/tests/lib/pair.sh"
lb_alone mixed "${LB_MIXED_LIMIT_S:-240}" /dev/kvm jq nbdkit ip grub-mkimage
lb_pair_begin "$LB_WORK" "$bin"

truncate -s 64M "$work/ledger.img"
head -c 8M /dev/urandom > "$work/second.img"
"$top/tests/guests/grub-disk.sh" "$work/files.img" "Here are the files."
slot_at=$((400 * 1024)) # of the image: behind GRUB
cat > "$work/files.xml" <<'XML'
<domain type='kvm'><name>files</name><memory unit='MiB'>16</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type><boot dev='hd'/></os>
<devices><disk type='file' device='disk'><target dev='hda' bus='ide'/></disk></devices></domain>
XML
# what both sites have; here they are one host
lb_pair_osaka "hypervisor: {driver: vmcore, kernel: $build/tests/payload.bin}"
lb_pair_agent osaka
osaka vm cpu > "$work/osaka.cpu"
grep -q '^# osaka: ' "$work/osaka.cpu" || lb_fail "vm cpu: $(cat "$work/osaka.cpu")"
lb_pair_kill9 osaka
# another vendor's: leaf 0, EBX
sed '/^#/!s/^\(.\{40\}\).\{8\}/\158585858/' "$work/osaka.cpu" > "$work/other.cpu"
cp "$work/other.cpu" "$work/hosts.cpu"
lb_pair_tokyo 300ms <<YAML
- name: ledger
  driver: vmcore
  vm: {cpu: $work/hosts.cpu, memory: 64MiB, memory_points: true, kernel: $build/tests/payload.bin, cmdline: "prog=records every=5"}
  volumes: [{name: vda, path: $work/ledger.img}, {name: vdb, path: $work/second.img}]
- {name: files, driver: block, xml: $work/files.xml, volumes: [{name: hda, path: $work/files.img}]}
YAML
{
	lb_pair_boot ledger 50 "r "
	lb_pair_boot files 90 "That is all"
} | lb_pair_runbook erp
lb_pair_start
! tokyo vm run ledger > "$work/said" 2>&1 || lb_fail "it runs though no host of osaka can run it"
grep -q "line 2: processors of .* and of " "$work/said" || lb_fail "it does not say why: $(cat "$work/said")"
cp "$work/osaka.cpu" "$work/hosts.cpu"
tokyo vm run ledger > /dev/null
serial=$work/tokyo/state/vms/erp.ledger/serial.log
last() { tail -c 4096 "$serial" | sed -n 's/^r \([0-9]*\) [0-9a-f]\{64\}$/\1/p' | tail -1; }
writes() { [ -n "$(last)" ]; }
lb_wait_for 60 "records" writes
(while :; do # an image that is written all the time never gives a point: after each write there must be one
	printf '%-512s' "$(last)" | dd of="$work/files.img" bs=512 seek=$((slot_at / 512)) conv=notrunc status=none
	lb_wait_for 90 "a point with the image" lb_pair_points $(($(tokyo status --json | jq '.groups[0].points_acked') + 1))
done) 2> /dev/null &
follower=$!
disown $follower
lb_wait_for 90 "points" lb_pair_points 4

say "points of both machines, with memory"
point=$(osaka point show latest --json)
jq -c '.volumes | map(.machine + "/" + .volume) | sort' <<< "$point"
[ "$(jq -c '.volumes | map(.machine + "/" + .volume) | sort' <<< "$point")" = '["files/hda","ledger/ram","ledger/vda","ledger/vdb"]' ] ||
	lb_fail "volumes of the point"
[ "$(jq -r .consistency <<< "$point")" = crash ] || [ "$(jq -r .consistency <<< "$point")" = memory ] || lb_fail "consistency"

# Every point that is kept: what the image knows is on the ledger's disk.
judge() { # POINT
	local knows on
	osaka point export "$1" "$work/files.out" --machine files --volume hda > /dev/null
	osaka point export "$1" "$work/ledger.out" --machine ledger --volume vda > /dev/null
	osaka point export "$1" "$work/second.out" --machine ledger --volume vdb > /dev/null
	cmp -s "$work/second.img" "$work/second.out" || lb_fail "the second disk is another one"
	knows=$(dd if="$work/files.out" bs=512 skip=$((slot_at / 512)) count=1 status=none | tr -dc 0-9)
	# record N is sector N - 1; its sequence number is at byte 8
	on=$(od -An -tu8 -j $(((${knows:-1} - 1) * 512 + 8)) -N 8 "$work/ledger.out" | tr -dc 0-9)
	rm -f "$work"/{files,ledger,second}.out
	[ -z "$knows" ] || [ "$on" = "$knows" ] || lb_fail "point $1: the image knows record $knows, the ledger holds ${on:-nothing} there"
	echo "point $1: the image knows record ${knows:-none}"
	[ -z "$knows" ] || known=1
}
known=
for p in $(osaka point list --json | jq -r '.points[-6:][].id'); do
	judge "${p:0:12}"
done
[ -n "$known" ] || lb_fail "no point has anything in the image"

both() {
	local ledger files
	ledger=$(lb_pair_detail ledger) files=$(lb_pair_detail files)
	echo "ledger: $ledger"
	echo "files: $files"
	[[ $ledger == *"from memory"* ]] || lb_fail "the ledger did not go on from memory"
	[[ $files == *"vmcore: as configured"*"That is all"* ]] || lb_fail "files did not boot"
}
say "drill of both"
lb_pair_drill
both

say "tokyo is lost"
kill $follower
lb_pair_kill tokyo ledger
lb_pair_failover
both
run=$(lb_pair_run)
there=$(grep -l '^r ' "$work/osaka/state/boots/${run:0:8}"/*/serial.log)
more() { [ "$(grep -c '^r ' "$there")" -ge 10 ]; }
lb_wait_for 60 "the ledger to go on" more
! grep BAD "$there" || lb_fail "the ledger's disk and memory do not agree"

say "the same machine once more, cold, from what it wrote here"
osaka vm stop ledger --confirm osaka > /dev/null
osaka vm run ledger > /dev/null
walked() { grep -q '^check [1-9]' "$there"; }
lb_wait_for 60 "the walk over its disk" walked
grep '^check' "$there"
! grep BAD "$there" || lb_fail "its disk is not whole"
echo "passed"
