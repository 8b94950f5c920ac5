# tests/lib/site.sh - two isolated sites on one machine, for end-to-end tests and the demo. Source it; needs root.
#
#   lb_sites_begin DIR        DIR (made) holds everything; two sites, a and b:
#                             network namespaces $LB_NS_a and $LB_NS_b, joined by a veth
#                             (10.78.0.1 is a, 10.78.0.2 is b), each with a bridge br0 (10.77.0.1/24) for guests
#   lb_site_libvirtd SITE     a libvirtd of its own there, in a private mount namespace; sets LB_URI_<SITE>
#   lb_site_run SITE CMD...   run a command in the site's namespaces
#   lb_sites_drill_net        a third namespace, $LB_NS_drill, with a bridge br0 like the sites' and no way out
#   lb_site_domain ...        domain XML of a test machine, see below
#   lb_wait_for SECONDS WHAT CMD...   until CMD succeeds; complains by name otherwise
#   lb_sites_end              kills everything in the namespaces, removes them and DIR
#
# Whatever happens to the script that called lb_sites_begin (exit, kill -9, a hang longer than LB_SITES_LIMIT_S), a
# watchdog in a session of its own does what lb_sites_end does. It kills by membership of our two
# network namespaces, so no process we started, nor one of its children, can hide by daemonising.

LB_SITES_LIMIT_S=${LB_SITES_LIMIT_S:-900}

lb_say() {
	echo "$(date +%H:%M:%S) $*"
}

lb_fail() {
	echo "FAILED: $*" >&2
	exit 1
}

# Prints why end-to-end tests cannot run here, or nothing.
lb_sites_missing() {
	local tool
	[ "$(id -u)" = 0 ] || { echo "needs root (network and mount namespaces)"; return; }
	for tool in libvirtd virsh qemu-system-x86_64 qemu-img ip unshare nbdkit; do
		PATH=$PATH:/usr/sbin:/sbin command -v $tool > /dev/null || { echo "needs $tool"; return; }
	done
	ip netns add "lbprobe$$" 2> /dev/null || { echo "may not make network namespaces"; return; }
	ip netns del "lbprobe$$"
	[ -c /dev/net/tun ] || { echo "needs /dev/net/tun"; return; }
}

# kvm where the processor does it natively; elsewhere (also on emulating KVMs, which take minutes for a
# kernel's boot) QEMU's own emulation.
lb_accel() {
	if [ -c /dev/kvm ] && { [ -d /sys/module/kvm_intel ] || [ -d /sys/module/kvm_amd ]; }; then
		echo kvm
	else
		echo qemu
	fi
}

lb_wait_for() {
	local limit=$1 what=$2 end
	shift 2
	end=$((SECONDS + limit))
	until "$@"; do
		[ $SECONDS -lt $end ] || lb_fail "waited ${limit}s for $what"
		sleep 0.1
	done
}

# The first line that a unix socket says, within 10 seconds.
lb_unix_line() { # PATH
	python3 -c 'import socket, sys
s = socket.socket(socket.AF_UNIX)
s.settimeout(10)
s.connect(sys.argv[1])
print(s.makefile().readline(), end="")' "$1"
}

# ---- taking down

lb_sites_kill() { # NS_A NS_B
	local ns pids round
	for round in 1 2 3 4 5; do
		pids=$(for ns in "$@"; do ip netns pids "$ns" 2> /dev/null; done)
		[ -n "$pids" ] || break
		kill -9 $pids 2> /dev/null
		sleep 0.1
	done
	for ns in "$@"; do
		ip netns del "$ns" 2> /dev/null
	done
	return 0
}

# What a test has mounted below DIR.
lb_sites_umount() { # DIR
	awk -v d="$1/" 'index($2, d) == 1 { print $2 }' /proc/mounts | sort -r | while read -r m; do
		umount -l "$m"
	done
}

lb_sites_end() {
	[ -n "${LB_SITES_DIR:-}" ] || return 0
	kill $(jobs -p) 2> /dev/null # what the script itself left in the background
	lb_sites_kill "$LB_NS_a" "$LB_NS_b" "$LB_NS_drill"
	lb_sites_umount "$LB_SITES_DIR"
	kill "$LB_SITES_WATCHDOG" 2> /dev/null
	if [ -z "${LB_SITES_KEEP:-}" ]; then
		rm -rf "$LB_SITES_DIR"
	else
		echo "kept: $LB_SITES_DIR" >&2
	fi
	LB_SITES_DIR=
}

lb_sites_watchdog() { # PARENT DIR NS_A NS_B
	local parent=$1 dir=$2
	shift 2
	timeout "$LB_SITES_LIMIT_S" tail --pid="$parent" -f /dev/null
	kill -9 "$parent" 2> /dev/null
	lb_sites_kill "$@"
	lb_sites_umount "$dir"
	rm -rf "$dir"
}

# ---- setting up

lb_net_with_bridge() { # NS
	ip netns add "$1"
	# IPv6 would chatter by itself, and tests count frames.
	nsenter --net="/run/netns/$1" sh -c 'for c in all default; do
		echo 1 > /proc/sys/net/ipv6/conf/$c/disable_ipv6; done' 2> /dev/null
	ip -n "$1" link set lo up
	ip -n "$1" link add br0 type bridge forward_delay 0
	ip -n "$1" addr add 10.77.0.1/24 dev br0
	ip -n "$1" link set br0 up
}

lb_sites_drill_net() {
	lb_net_with_bridge "$LB_NS_drill"
}

lb_sites_begin() { # DIR
	local ns
	LB_NS_a=lb$$a
	LB_NS_b=lb$$b
	LB_NS_drill=lb$$d
	mkdir -p "$1"
	LB_SITES_DIR=$(realpath "$1")
	export -f lb_sites_watchdog lb_sites_kill lb_sites_umount
	LB_SITES_LIMIT_S=$LB_SITES_LIMIT_S setsid bash -c 'lb_sites_watchdog "$@"' watchdog \
		$$ "$LB_SITES_DIR" "$LB_NS_a" "$LB_NS_b" "$LB_NS_drill" < /dev/null > /dev/null 2>&1 &
	LB_SITES_WATCHDOG=$!
	disown "$LB_SITES_WATCHDOG"
	trap lb_sites_end EXIT
	trap 'exit 130' INT TERM HUP

	for ns in "$LB_NS_a" "$LB_NS_b"; do
		lb_net_with_bridge "$ns"
	done
	ip -n "$LB_NS_a" link add wan0 type veth peer name wan0 netns "$LB_NS_b"
	ip -n "$LB_NS_a" addr add 10.78.0.1/30 dev wan0
	ip -n "$LB_NS_b" addr add 10.78.0.2/30 dev wan0
	ip -n "$LB_NS_a" link set wan0 up
	ip -n "$LB_NS_b" link set wan0 up
}

lb_site_ns() {
	local var=LB_NS_$1
	echo "${!var}"
}

# Not "ip netns exec": that hides /sys behind a mount of its own for no use here.
lb_site_run() { # SITE CMD...
	local ns
	ns=$(lb_site_ns "$1")
	shift
	nsenter --net="/run/netns/$ns" "$@"
}

lb_site_libvirtd_conf() { # ROOT
	cat > "$1/etc/qemu.conf" <<-'CONF'
	user = "root"
	group = "root"
	security_driver = "none"
	dynamic_ownership = 0
	remember_owner = 0
	stdio_handler = "file"
	cgroup_controllers = [ ]
	namespaces = [ ]
	CONF
	cat > "$1/etc/libvirtd.conf" <<-CONF
	unix_sock_dir = "$1/sock"
	unix_sock_rw_perms = "0700"
	auth_unix_rw = "none"
	auth_unix_ro = "none"
	log_outputs = "3:file:$1/libvirtd.log"
	host_uuid = "$(cat /proc/sys/kernel/random/uuid)"
	CONF
}

# As root a libvirtd is always the host's one: only a private mount namespace over its five directories makes it ours. It
# also refuses to start without the account libvirt-qemu, which comes with a package that wants systemd:
# it sees a passwd with that line added.
lb_site_libvirtd() { # SITE
	local site=$1 root=$LB_SITES_DIR/$1/libvirt cache=${LB_SITES_CAPS:-$LB_SITES_DIR/caps} d
	mkdir -p "$root"/{run,lib,log,etc,sock} "$cache"
	for d in /run/libvirt /var/{lib,cache,log}/libvirt /etc/libvirt; do
		[ -d $d ] || mkdir -p $d
	done
	lb_site_libvirtd_conf "$root"
	cp /etc/passwd "$root/passwd"
	cp /etc/group "$root/group"
	grep -q '^libvirt-qemu:' /etc/passwd ||
		echo 'libvirt-qemu:x:64055:64055::/nonexistent:/usr/sbin/nologin' >> "$root/passwd"
	grep -q '^libvirt-qemu:' /etc/group || echo 'libvirt-qemu:x:64055:' >> "$root/group"
	grep -q '^kvm:' /etc/group || echo 'kvm:x:64056:' >> "$root/group"
	lb_site_run "$site" setsid unshare -m --propagation private bash -e -c '
		root=$1 cache=$2
		mount --bind "$root/run" /run/libvirt
		mount --bind "$root/lib" /var/lib/libvirt
		mount --bind "$cache" /var/cache/libvirt
		mount --bind "$root/log" /var/log/libvirt
		mount --bind "$root/etc" /etc/libvirt
		mount --bind "$root/passwd" /etc/passwd
		mount --bind "$root/group" /etc/group
		exec /usr/sbin/libvirtd -f /etc/libvirt/libvirtd.conf -p "$root/libvirtd.pid"
	' -- "$root" "$cache" < /dev/null > "$root/libvirtd.out" 2>&1 &
	disown $!
	lb_wait_for 60 "libvirtd of site $site ($root/libvirtd.log)" test -S "$root/sock/libvirt-sock"
	printf -v "LB_URI_$site" '%s' "qemu+unix:///system?socket=$root/sock/libvirt-sock"
}

# The pid of a running domain's QEMU.
lb_site_qemu_pid() { # SITE NAME
	cat "$LB_SITES_DIR/$1/libvirt/run/qemu/$2.pid"
}

# lb_site_domain data|legacy NAME DISK DIR: domain XML of a test machine over the raw image DISK, with
# DIR/NAME.serial (console) and DIR/NAME.beat (socket of the heartbeat port). LB_GUESTS is what
# build-guests.sh made; LB_BRIDGE (br0) its bridge, LB_INTERVAL (100) the milliseconds between records; LB_MIRROR a
# raw image that becomes the second disk vdb.
lb_site_domain() {
	local kind=$1 name=$2 disk=$3 dir=$4 os dev bus mac second=
	[ -z "${LB_MIRROR:-}" ] || second="<disk type='file' device='disk'>
	      <driver name='qemu' type='raw' cache='writeback' discard='unmap'/>
	      <source file='$LB_MIRROR'/><target dev='vdb' bus='virtio'/>
	    </disk>"
	if [ "$kind" = data ]; then
		dev=vda bus=virtio mac=52:54:00:77:00:11
		os="<kernel>$LB_GUESTS/vmlinuz</kernel><initrd>$LB_GUESTS/initrd.gz</initrd>
    <cmdline>console=ttyS0 quiet panic=-1 tsc=unstable no_timer_check lb.root=LABEL=lbdata lb.ip=10.77.0.11/24 lb.interval=${LB_INTERVAL:-100}</cmdline>"
	else
		dev=hda bus=ide mac=52:54:00:77:00:12
		os="<boot dev='hd'/>"
	fi
	cat <<-XML
	<domain type='$(lb_accel)'>
	  <name>$name</name>
	  <memory unit='MiB'>256</memory>
	  <vcpu>1</vcpu>
	  <os><type arch='x86_64' machine='pc-i440fx-7.2'>hvm</type>$os</os>
	  <features><acpi/></features>
	  <on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot><on_crash>destroy</on_crash>
	  <devices>
	    <emulator>/usr/bin/qemu-system-x86_64</emulator>
	    <disk type='file' device='disk'>
	      <driver name='qemu' type='raw' cache='writeback' discard='unmap'/>
	      <source file='$disk'/><target dev='$dev' bus='$bus'/>
	    </disk>
	    $second
	    <controller type='usb' model='none'/>
	    <interface type='bridge'>
	      <source bridge='${LB_BRIDGE:-br0}'/><mac address='$mac'/><model type='virtio'/><rom enabled='no'/>
	    </interface>
	    <serial type='file'><source path='$dir/$name.serial' append='on'/></serial>
	    <channel type='unix'>
	      <source mode='bind' path='$dir/$name.beat'/>
	      <target type='virtio' name='org.lifeboat.heartbeat'/>
	    </channel>
	    <memballoon model='none'/>
	  </devices>
	</domain>
	XML
}

# lb_console_seq FILE: the number of the last record that the guest called durable.
lb_console_seq() {
	sed -n 's/.*LBW seq=\([0-9]*\) hash=[0-9a-f]\{64\}.*/\1/p' "$1" | tail -1
}
