#!/bin/bash
# tests/e2e/source.sh SOURCE_DIR BUILD_DIR - the libvirt source against a running guest: each cut, built from
# nothing but what changed since the last kept one, equals the frozen disk, is a clean ext4 after
# journal replay and holds every record that the guest called durable before the cut. Then everything that
# can be lost is lost (nbdkit, the domain, the driver itself): the guest never stops for it, and it re-arms.
set -uo pipefail
src=${1:?} build=${2:?}
. "$src/tests/lib/site.sh"

why=$(lb_sites_missing)
[ -z "$why" ] || { echo "skipped: $why"; exit 77; }
export LB_GUESTS=$build/guests PATH=$PATH:/usr/sbin:/sbin
LB_SITES_CAPS=$build/libvirt-caps
"$src/tests/guests/build-guests.sh" "$LB_GUESTS" || lb_fail "building the test machines"
plugin=$build/bin/lifeboat-journal-plugin.so

lb_sites_begin "$(mktemp -d /tmp/lb-source.XXXXXX)"
dir=$LB_SITES_DIR/a
# A file system that a mirror does not fit on; made before libvirtd, whose namespace must see it.
mkdir -p "$dir/w-legacy"
mount -t tmpfs -o size=6m lbsmall "$dir/w-legacy" || lb_fail "mounting a small file system"
lb_site_libvirtd a

boot() { # KIND
	lb_site_domain "$1" "$1" "$dir/$1.raw" "$dir" > "$dir/$1.xml"
	virsh -q -c "$LB_URI_a" create "$dir/$1.xml" > /dev/null || lb_fail "starting $1"
}

records_reach() { # FILE COUNT
	local seq
	seq=$(lb_console_seq "$1")
	[ "${seq:-0}" -ge "$2" ]
}

grows() { # FILE: the guest writes on
	local seq
	seq=$(lb_console_seq "$1")
	lb_wait_for 60 "$1 to grow after record ${seq:-0}" records_reach "$1" $((${seq:-0} + 5))
}

ask() { # COMMAND: reply in $reply
	echo "$1" >&"${driver[1]}"
	read -r -t 240 reply <&"${driver[0]}" || lb_fail "no answer to $1"
}

ask_ok() {
	ask "$1"
	[[ $reply == ok* ]] || lb_fail "$1: $reply"
}

start_driver() { # KIND
	coproc driver { lb_site_run a "$build/tests/source_cuts" "$plugin" "$LB_URI_a" "$1" "$dir/w-$1" "$dir/replica"; } 2>> "$dir/driver.log"
	driver_pid_saved=$driver_PID
}

# The replica as a machine would find it after a power cut, judged by the guest's own writer.
judge() { # VOLUME KIND AT_LEAST [REPLICA_PREFIX]
	local img=$dir/judged.raw at=0 verdict records from=${4:-$dir/replica}.$1
	[ "$2" = data ] || at=1048576
	rm -f "$img" "$dir/records"
	if [ $at -gt 0 ]; then
		dd if="$from" of="$img" bs=1M skip=1 conv=sparse status=none
	else
		cp --sparse=always "$from" "$img"
	fi
	e2fsck -fy "$img" > "$dir/fsck.log" 2>&1
	e2fsck -fn "$img" > /dev/null 2>&1 || lb_fail "replica of $2 is no clean ext4: $(cat "$dir/fsck.log")"
	! grep -Eqi 'clone|multiply|illegal|corrupt' "$dir/fsck.log" || lb_fail "ext4 of $2: $(cat "$dir/fsck.log")"
	debugfs -R "dump /records $dir/records" "$img" 2> /dev/null
	verdict=$("$LB_GUESTS/drwriter" -c "$dir/records" ${LB_MIRROR:+"$dir/replica.vdb"}) ||
		lb_fail "chain of $2: $verdict"
	records=$(sed -n 's/.*CHECK records=\([0-9]*\) .*/\1/p' <<< "$verdict")
	[ "${records:-0}" -ge "$3" ] || lb_fail "$2: cut holds ${records:-no} records, $3 were durable before it"
}

cuts() { # KIND VOLUME ROUNDS
	local i before fate copied='' disks=1
	[ -z "${LB_MIRROR:-}" ] || disks=2
	for i in $(seq "$3"); do
		fate=kept
		[ $((i % 4)) != 3 ] || fate=abandoned
		before=$(lb_console_seq "$dir/$1.serial")
		ask_ok "cut $fate"
		copied="$copied $(sed -n 's/.*copied=\([0-9]*\) .*/\1/p' <<< "$reply")"
		if [ "$i" = 1 ]; then
			[[ $reply == *unknown=$disks* ]] || lb_fail "first cut claims to know what changed: $reply"
		else
			[[ $reply == *unknown=0* ]] || lb_fail "cut $i of $1 does not know what changed: $reply"
		fi
		judge "$2" "$1" "${before:-0}"
		grows "$dir/$1.serial"
	done
	lb_say "$1: $3 cuts equal to the disk, bytes copied:$copied"
}

run_kind() { # KIND VOLUME
	local kind=$1 vol=$2
	cp --sparse=always "$LB_GUESTS/$kind.raw" "$dir/$kind.raw"
	rm -f "$dir/replica.$vol"
	start_driver "$kind"
	ask prepare
	[[ $reply == "err LB_"*"$kind"* ]] || lb_fail "preparing a machine that is not there: $reply"
	boot "$kind"
	lb_wait_for 240 "10 records of $kind" records_reach "$dir/$kind.serial" 10
	if [ "$kind" = legacy ]; then
		ask prepare
		[[ $reply == "err LB_ENOSPC"*"hda"*"no space left"* ]] || lb_fail "a mirror on a full disk: $reply"
		grows "$dir/$kind.serial"
		mount -o remount,size=100m "$dir/w-legacy"
	fi
	ask_ok prepare
	[[ $reply == *unlisted=0* ]] || lb_fail "all disks are protected: $reply"
	cuts "$kind" "$vol" 6
}

nbdkit_pid() { # KIND VOLUME
	pgrep -f -- "-U $dir/w-$1/$2/nbd" | head -1
}

run_kind data vda

# nbdkit dies: the guest goes on, the source says so, re-arms and does not pretend to know what changed.
kill -9 "$(nbdkit_pid data vda)"
grows "$dir/data.serial"
ask "cut kept"
[[ $reply == "err LB_ECLOSED"* ]] || lb_fail "cut without a plugin: $reply"
ask state
[[ $reply == "ok lost" ]] || lb_fail "state is $reply"
ask_ok prepare
cuts data vda 3

# nbdkit hangs: the guest's writes wait for it, but not for longer than we do.
kill -STOP "$(nbdkit_pid data vda)"
ask "cut kept"
[[ $reply == "err LB_ECLOSED"*"no answer"* ]] || lb_fail "cut with a hung plugin: $reply"
grows "$dir/data.serial"
ask_ok prepare
cuts data vda 2

# The job is cancelled behind our back.
virsh -q -c "$LB_URI_a" blockjob data vda --abort > /dev/null || lb_fail "cancelling the mirror"
ask "cut kept"
[[ $reply == "err LB_E"* ]] || lb_fail "cut without a mirror: $reply"
ask_ok prepare
cuts data vda 2

# The machine dies, comes back.
kill -9 "$(lb_site_qemu_pid a data)"
ask "cut kept"
[[ $reply == "err LB_E"* ]] || lb_fail "cut of a dead machine: $reply"
lb_wait_for 60 "the domain to be gone" bash -c "! virsh -q -c '$LB_URI_a' list --name | grep -qx data"
ask prepare
[[ $reply == "err LB_"* ]] || lb_fail "preparing a dead machine: $reply"
boot data
lb_wait_for 240 "the second boot" grep -aq 'LBW CHECK' "$dir/data.serial"
ask_ok prepare
cuts data vda 2

# The driver is killed: nothing of it stays, the guest goes on.
kill -9 "$(pgrep -f "source_cuts .* data " | head -1)"
plugin_ended() {
	[ -z "$(nbdkit_pid data vda)" ]
}
lb_wait_for 60 "the plugin to end" plugin_ended
grows "$dir/data.serial"
[ ! -e "$dir/w-data/vda/mirror" ] || lb_fail "the mirror file is left"
start_driver data
ask_ok prepare
cuts data vda 2
block_job() {
	virsh -q -c "$LB_URI_a" blockjob data vda --info 2>&1
}
[ -n "$(block_job)" ] || lb_fail "no block job before quit"
echo quit >&"${driver[1]}"
lb_wait_for 60 "the driver to end" bash -c "! kill -0 $driver_pid_saved 2> /dev/null"
[ -z "$(block_job)" ] || lb_fail "a block job is left after quit: $(block_job)"
grows "$dir/data.serial"
virsh -q -c "$LB_URI_a" destroy data > /dev/null

run_kind legacy hda
echo quit >&"${driver[1]}"
wait "$driver_pid_saved"
virsh -q -c "$LB_URI_a" destroy legacy > /dev/null

# Two disks: the writer makes each record durable on one, then on the other. No cut may hold it on the second only.
truncate -s 8M "$dir/mirror.raw"
LB_MIRROR=$dir/mirror.raw
rm -f "$dir/data.serial" "$dir"/replica.*
run_kind data vda
[ -s "$dir/replica.vdb" ] || lb_fail "the second disk was not captured"
! grep -aq 'LBW BAD' "$dir"/*.serial || lb_fail "$(grep -a 'LBW BAD' "$dir"/*.serial)"
echo quit >&"${driver[1]}"
wait "$driver_pid_saved"
virsh -q -c "$LB_URI_a" destroy data > /dev/null

# A disk that the configuration leaves out is counted, not overlooked.
boot data
lb_wait_for 240 "records with two disks" records_reach "$dir/data.serial" 10
SOURCE_CUTS_ONLY_VDA=1 start_driver data
ask_ok prepare
[[ $reply == *volumes=1*unlisted=1* ]] || lb_fail "a disk that is not protected: $reply"
echo quit >&"${driver[1]}"
wait "$driver_pid_saved"
virsh -q -c "$LB_URI_a" destroy data > /dev/null

# One group over two libvirtds of this host: one cut of both machines; without one of the two there is none, its
# error names the machine, and the other guest never waits.
unset LB_MIRROR
dir_b=$LB_SITES_DIR/b
lb_site_libvirtd b
rm -f "$dir"/*.serial "$dir"/replica.*
boot_b() {
	lb_site_domain data second "$dir_b/second.raw" "$dir_b" > "$dir_b/second.xml"
	virsh -q -c "$LB_URI_b" create "$dir_b/second.xml" > /dev/null || lb_fail "starting second"
}
cp --sparse=always "$LB_GUESTS/data.raw" "$dir/data.raw"
cp --sparse=always "$LB_GUESTS/data.raw" "$dir_b/second.raw"
boot data
boot_b
coproc driver { lb_site_run a "$build/tests/source_cuts" "$plugin" "$LB_URI_a" data "$dir/w-data" "$dir/replica" \
	"$LB_URI_b" second "$dir_b/w-second" "$dir_b/replica"; } 2>> "$dir/driver.log"
driver_pid_saved=$driver_PID
for f in "$dir/data.serial" "$dir_b/second.serial"; do
	lb_wait_for 240 "10 records in $f" records_reach "$f" 10
done
group_cuts() { # ROUNDS UNKNOWN_AT_FIRST
	local i first second unknown=$2
	for i in $(seq "$1"); do
		first=$(lb_console_seq "$dir/data.serial") second=$(lb_console_seq "$dir_b/second.serial")
		ask_ok "cut kept"
		[[ $reply == *unknown=$unknown* ]] || lb_fail "cut $i of the group: $reply"
		unknown=0
		judge vda data "${first:-0}"
		judge vda data "${second:-0}" "$dir_b/replica"
		grows "$dir/data.serial"
		grows "$dir_b/second.serial"
	done
	lb_say "two libvirtds: $1 cuts of both machines, the last: $reply"
}
ask_ok prepare
group_cuts 3 2
kill -9 "$(cat "$dir_b/libvirt/libvirtd.pid")"
ask "cut kept"
[[ $reply == "err LB_E"*"second"* ]] || lb_fail "cut without the second libvirtd: $reply"
grows "$dir/data.serial"
grows "$dir_b/second.serial"
ask "prepare"
[[ $reply == "err LB_EAGAIN machine second"* ]] || lb_fail "prepare without the second libvirtd: $reply"
rm -f "$dir_b/libvirt/sock/libvirt-sock" "$dir_b/libvirt/libvirtd.pid"
lb_site_libvirtd b
ask_ok prepare
group_cuts 2 1
echo "ok"
