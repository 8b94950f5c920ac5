#!/bin/bash
# tests/e2e/guests.sh SOURCE_DIR BUILD_DIR - the test machines themselves: both boot under an isolated
# libvirtd, write records, answer on TCP and on the heartbeat port, lose QEMU to SIGKILL in the middle of
# writes, boot again, and find their own chain whole, with every record they had called durable.
set -uo pipefail
src=${1:?} build=${2:?}
. "$src/tests/lib/site.sh"

why=$(lb_sites_missing)
[ -z "$why" ] || { echo "skipped: $why"; exit 77; }
export LB_GUESTS=$build/guests
LB_SITES_CAPS=$build/libvirt-caps
"$src/tests/guests/build-guests.sh" "$LB_GUESTS" || lb_fail "building the test machines"

lb_sites_begin "$(mktemp -d /tmp/lb-guests.XXXXXX)"
dir=$LB_SITES_DIR/a
lb_site_libvirtd a
lb_say "libvirtd is up: $LB_URI_a"

boot() { # KIND NAME
	lb_site_domain "$1" "$2" "$dir/$2.raw" "$dir" > "$dir/$2.xml"
	virsh -q -c "$LB_URI_a" create "$dir/$2.xml" > /dev/null || lb_fail "starting $2"
}

records_reach() { # FILE COUNT
	local seq
	seq=$(lb_console_seq "$1")
	[ "${seq:-0}" -ge "$2" ]
}

judge() { # KIND IP
	local kind=$1 ip=$2 name=vm-$1 seq checked answer
	local serial=$dir/$name.serial
	cp --sparse=always "$LB_GUESTS/$kind.raw" "$dir/$name.raw"
	boot "$kind" "$name"
	lb_wait_for 240 "20 records of $name" records_reach "$serial" 20
	lb_say "$name: $(grep -ao 'LBW UP.*' "$serial" | tail -1)"
	answer=$(lb_site_run a timeout 60 bash -c "cat < /dev/tcp/$ip/7007") || lb_fail "$name: no answer on $ip:7007"
	[[ $answer == "LBW seq="*" hash="* ]] || lb_fail "$name answered '$answer'"
	answer=$(lb_unix_line "$dir/$name.beat") || lb_fail "$name: no heartbeat"
	[[ $answer == "beat "*" seq="* ]] || lb_fail "$name: heartbeat is '$answer'"
	lb_say "$name: $answer"

	kill -9 "$(lb_site_qemu_pid a "$name")"
	lb_wait_for 60 "$name to be gone" bash -c \
		"! virsh -q -c '$LB_URI_a' list --name | grep -qx $name"
	seq=$(lb_console_seq "$serial")
	mv "$serial" "$serial.1"
	boot "$kind" "$name"
	lb_wait_for 240 "the second boot of $name" records_reach "$serial" $((seq + 5))
	checked=$(sed -n 's/.*LBW CHECK records=\([0-9]*\) .* ok.*/\1/p' "$serial")
	[ "${checked:-0}" -ge "$seq" ] || lb_fail "$name: $seq records were durable, ${checked:-none} came back"
	! grep -aq 'LBW BAD' "$serial" || lb_fail "$name: $(grep -a 'LBW BAD' "$serial")"
	virsh -q -c "$LB_URI_a" destroy "$name" > /dev/null
	lb_say "$name: killed after record $seq, $checked came back, ok"
}

judge data 10.77.0.11
judge legacy 10.77.0.12

# The judge must be able to fail: one byte of a record in the middle is changed.
"$LB_GUESTS/drwriter" "$dir/records" 0 > /dev/null &
writer=$!
lb_wait_for 60 "60 records" bash -c "[ \$(stat -c %s '$dir/records' 2>/dev/null || echo 0) -gt $((60 * 512)) ]"
kill -9 $writer
wait $writer 2> /dev/null
"$LB_GUESTS/drwriter" -c "$dir/records" | grep -q 'LBW CHECK .* ok' || lb_fail "an intact chain is refused"
printf X | dd of="$dir/records" bs=1 seek=$((30 * 512 + 100)) conv=notrunc status=none
! "$LB_GUESTS/drwriter" -c "$dir/records" > "$dir/verdict" || lb_fail "a damaged chain passes"
grep -q 'LBW BAD chain breaks after seq=30' "$dir/verdict" || lb_fail "damage is not named: $(cat "$dir/verdict")"

lb_sites_end
[ -z "$(ip netns list | grep -w "$LB_NS_a")" ] || lb_fail "namespace $LB_NS_a is left"
echo "ok"
