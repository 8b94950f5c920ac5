#!/bin/bash
# tests/e2e/boot.sh SOURCE_DIR BUILD_DIR - the libvirt boot driver: the descriptions of two machines that site a
# runs are booted at site b, over read-only NBD exports, in a network namespace of their own: probes pass, the
# machines write (into overlays: the exports stay as they were), no frame leaves the namespace, pause,
# crash of the agent, adoption, stop and clean-up.
set -uo pipefail
src=${1:?} build=${2:?}
. "$src/tests/lib/site.sh"

why=$(lb_sites_missing)
[ -z "$why" ] || { echo "skipped: $why"; exit 77; }
export LB_GUESTS=$build/guests PATH=$PATH:/usr/sbin:/sbin
LB_SITES_CAPS=$build/libvirt-caps
"$src/tests/guests/build-guests.sh" "$LB_GUESTS" || lb_fail "building the test machines"

lb_sites_begin "$(mktemp -d /tmp/lb-boot.XXXXXX)"
lb_sites_drill_net
dir=$LB_SITES_DIR/b
lb_site_libvirtd a
lb_site_libvirtd b

ask() { # COMMAND: reply in $reply
	echo "$1" >&"${driver[1]}"
	read -r -t 240 reply <&"${driver[0]}" || lb_fail "no answer to $1"
}

ask_ok() {
	ask "$1"
	[[ $reply == ok* ]] || lb_fail "$1: $reply"
}

is() { # COMMAND REPLY
	ask "$1"
	[[ $reply == $2 ]] || lb_fail "$1: $reply, expected $2"
}

start_driver() { # KIND DISK
	coproc driver { lb_site_run b "$build/tests/boot_machine" "$LB_URI_b" "drill-$1" "$dir/$1.xml" "$dir/$1" \
		"$LB_NS_drill" br0 "$LB_GUESTS/vmlinuz" "$LB_GUESTS/initrd.gz" "$2" "$dir/$1.nbd" 268435456 \
		${LB_MIRROR:+vdb "$dir/mirror.nbd" 8388608}; } \
		2>> "$dir/driver.log"
}

frames() { # NETNS: packets its bridge and WAN have received
	ip -n "$1" -s -j link show | jq '[.[] | select(.ifname != "lo") | .stats64.rx.packets] | add'
}

run_kind() { # KIND DISK ADDRESS
	local kind=$1 disk=$2 ip=$3 before
	lb_site_domain "$kind" "$kind" "$LB_SITES_DIR/a/$kind.raw" "$LB_SITES_DIR/a" > "$dir/$kind.def"
	virsh -q -c "$LB_URI_a" define "$dir/$kind.def" > /dev/null || lb_fail "defining $kind"
	virsh -q -c "$LB_URI_a" dumpxml --inactive "$kind" > "$dir/$kind.xml"
	before=$(sha256sum < "$LB_GUESTS/$kind.raw")
	lb_site_run b nbdkit -f -r -U "$dir/$kind.nbd" file "$LB_GUESTS/$kind.raw" > "$dir/nbdkit.log" 2>&1 &
	disown $!
	lb_wait_for 60 "nbdkit" test -S "$dir/$kind.nbd"

	start_driver "$kind" "$disk"
	ask_ok fits
	is adopt "err LB_ENOTFOUND*"
	ask_ok prepare
	is state "ok off"
	ask_ok start
	is state "ok running"
	ask_ok start
	ask_ok "serial LBW CHECK"
	[[ $reply == *"LBW CHECK records=0 "* ]] || lb_fail "$kind is not the exported disk: $reply"
	ask_ok "tcp $ip 7007 LBW"
	lb_say "$kind: TCP: $reply"
	ask_ok heartbeat
	lb_say "$kind: heartbeat: $reply"
	ask_ok pause
	is state "ok paused"
	ask_ok resume
	ask_ok "serial LBW seq=4"
	ask_ok console

	# The agent dies; the next one finds the machine by its name and directory.
	kill -9 "$(pgrep -f "boot_machine .* drill-$kind " | head -1)"
	wait "$driver_PID" 2> /dev/null
	start_driver "$kind" "$disk"
	ask_ok adopt
	is state "ok running"
	kill -9 "$(lb_site_qemu_pid b "drill-$kind")"
	is "serial never printed" "err LB_ECLOSED*"
	ask_ok start
	ask_ok "serial LBW CHECK" # appended to the same log: passes at once
	ask_ok prepare            # over a running one of ours: starts anew
	ask_ok start
	ask_ok "serial LBW CHECK"
	[[ $reply == *"records=0 "* ]] || lb_fail "prepare kept the old overlay: $reply"
	ask_ok stop
	is state "ok gone"
	[ -e "$dir/$kind/$disk.qcow2" ] || lb_fail "stop removed the overlay"
	ask_ok remove
	[ ! -e "$dir/$kind/$disk.qcow2" ] || lb_fail "remove left the overlay"
	[ "$(sha256sum < "$LB_GUESTS/$kind.raw")" = "$before" ] || lb_fail "the export was written to"
	! grep -aq 'LBW BAD' "$dir/$kind/serial.log" || lb_fail "$(grep -a 'LBW BAD' "$dir/$kind/serial.log")"

	# A foreign domain of the same name is left alone.
	sed "s/>$kind</>drill-$kind</" "$dir/$kind.xml" > "$dir/foreign.xml"
	virsh -q -c "$LB_URI_b" define "$dir/foreign.xml" > /dev/null
	is prepare "err LB_EEXIST*"
	virsh -q -c "$LB_URI_b" undefine "drill-$kind" > /dev/null || lb_fail "the foreign domain is gone"
	eval "exec ${driver[1]}>&-" # its input ends, so does it
	wait "$driver_PID"
}

outside=$(frames "$LB_NS_b")
run_kind data vda 10.77.0.11
run_kind legacy hda 10.77.0.12

# A machine of two disks: both are there, each is its own, and both are written to.
truncate -s 8M "$LB_SITES_DIR/a/mirror.raw"
LB_MIRROR=$LB_SITES_DIR/a/mirror.raw
virsh -q -c "$LB_URI_a" undefine data > /dev/null || lb_fail "undefining data"
lb_site_domain data data "$LB_SITES_DIR/a/data.raw" "$LB_SITES_DIR/a" > "$dir/data.def"
virsh -q -c "$LB_URI_a" define "$dir/data.def" > /dev/null || lb_fail "defining data with two disks"
virsh -q -c "$LB_URI_a" dumpxml --inactive data > "$dir/data.xml"
lb_site_run b nbdkit -f -r -U "$dir/mirror.nbd" file "$LB_MIRROR" > "$dir/nbdkit.log" 2>&1 &
disown $!
lb_wait_for 60 "nbdkit" test -S "$dir/mirror.nbd"
start_driver data vda
ask_ok fits
ask_ok prepare
ask_ok start
ask_ok "serial LBW PAIR records=0 mirror=0 ok"
ask_ok "serial LBW seq=4"
ask_ok stop
for disk in vda vdb; do
	[ "$(qemu-img map --output=json -U "$dir/data/$disk.qcow2" | jq '[.[] | select(.depth == 0 and .data)] | length')" -gt 0 ] ||
		lb_fail "nothing was written to $disk"
done
ask_ok remove
[ ! -e "$dir/data/vdb.qcow2" ] || lb_fail "remove left the second overlay"
eval "exec ${driver[1]}>&-"
wait "$driver_PID"
[ "$(frames "$LB_NS_drill")" -gt 0 ] || lb_fail "no frame was counted in the drill's namespace"
after=$(frames "$LB_NS_b")
[ "$after" = "$outside" ] || lb_fail "$((after - outside)) frames were received outside of the drill's namespace"
echo "ok"
