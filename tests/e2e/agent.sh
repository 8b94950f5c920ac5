#!/usr/bin/env bash
# tests/e2e/agent.sh SOURCE_DIR BUILD_DIR - two agents and the command line, from an empty disk to a full one.
#
# tokyo protects an image file, osaka takes it: enrolment, points, verify, export, catalog; then what an operator meets
# when something is wrong: no agent, a second agent, bad configuration, a dead peer, SIGKILL of both, a source that
# is away, a full store. Everything runs in network, mount and process namespaces of its own: nothing is left.
set -euo pipefail
top=$1 bin=$2/bin
. "$top/tests/lib/alone.sh"
lb_alone agent "${LB_AGENT_LIMIT_S:-280}" jq qemu-img nbdkit mkfs.ext4 cmp openssl curl
. "$top/tests/lib/site.sh"
work=$LB_WORK
ip link set lo up
declare -A pid

# ---- helpers

tokyo() { "$bin/lifeboat" --socket "$work/tokyo/s" "$@"; }
osaka() { "$bin/lifeboat" --socket "$work/osaka/s" "$@"; }

say() { printf '== %s\n' "$*"; }

on_exit() {
	local rc=$?
	if [ $rc != 0 ]; then
		tail -n 15 "$work"/tokyo/log "$work"/osaka/log 2> /dev/null
		cat "$work/said" 2> /dev/null
	fi
	exit $rc
}
trap on_exit EXIT

# refused STATUS WORDS COMMAND...: it must end with STATUS and say WORDS.
refused() {
	local want=$1 words=$2 rc=0
	shift 2
	"$@" > "$work/said" 2>&1 || rc=$?
	[ $rc = "$want" ] || lb_fail "exit $rc, expected $want: $*"
	grep -qF -- "$words" "$work/said" || lb_fail "does not say \"$words\": $*"
	rm -f "$work/said"
}

# json_error CODE COMMAND...: with --json standard output is one object, with that error.
json_error() {
	local want=$1
	shift
	! "$@" --json > "$work/said" 2> /dev/null || lb_fail "expected $want: $*"
	[ "$(jq -r .error.code "$work/said")" = "$want" ] || lb_fail "no JSON of $want: $*"
	rm -f "$work/said"
}

start() { # SITE
	PATH=$work/tools:$PATH "$bin/lifeboatd" --config "$work/$1/lifeboat.yaml" >> "$work/$1/log" 2>&1 < /dev/null &
	pid[$1]=$!
	lb_wait_for 30 "lifeboatd of $1" "$1" status --json > "$work/$1/first" 2> /dev/null
}

stop() { # SITE: SIGTERM, must end by itself and well
	local rc=0
	kill "${pid[$1]}"
	lb_wait_for 20 "lifeboatd of $1 to end" not_alive "${pid[$1]}"
	wait "${pid[$1]}" || rc=$?
	[ $rc = 0 ] || lb_fail "lifeboatd of $1 ended with $rc"
	[ ! -e "$work/$1/s" ] || lb_fail "lifeboatd of $1 left its socket"
}

not_alive() { [ ! -d "/proc/$1" ] || grep -q '^State:.*Z' "/proc/$1/status" 2> /dev/null; }

kill9() { # SITE...
	local s
	for s in "$@"; do kill -9 "${pid[$s]}"; done
	for s in "$@"; do wait "${pid[$s]}" 2> /dev/null || true; done
}

group() { "$1" status --json | jq -r ".groups[0]$2"; }
acked() { group tokyo .last_acked_seq; }
newest() { osaka point show latest --json | jq .seq; }
is_over() { local n; n=$("$1" 2> /dev/null) && [ "$n" != null ] && [ "$n" -gt "$2" ]; }

# A point whose cut began after now is visible at osaka.
fresh_point() {
	local seq
	seq=$(acked)
	[ "$seq" != null ] || seq=0
	lb_wait_for "${1:-60}" "a point after $seq" is_over acked $((seq + 1))
}

scribble() { # MIB AT_MIB
	dd if=/dev/urandom of="$work/disk.raw" bs=1M count="$1" seek="$2" conv=notrunc status=none
}

same_as_source() {
	rm -f "$work/out.raw"
	osaka point export latest "$work/out.raw" > /dev/null
	cmp "$work/out.raw" "$work/disk.raw" || lb_fail "the export differs from the source"
}

# ---- what is refused before anything runs

say "no agent; configurations that are wrong"
mkdir -p "$work/tokyo" "$work/osaka" "$work/tools"
refused 4 "is lifeboatd running?" tokyo status
json_error LB_EAGAIN tokyo status
json_error LB_EAGAIN tokyo point export latest "$work/x"
json_error LB_ENOTFOUND tokyo config check "$work/none.yaml"
json_error LB_ENOTFOUND tokyo runbook lint "$work/none.yaml"
json_error LB_EINPUT tokyo completion tcsh
refused 4 "$work/tokyo/s" tokyo point list
truncate -s 48M "$work/disk.raw"
scribble 12 0
cat > "$work/tokyo/lifeboat.yaml" <<-YAML
site: tokyo
state_dir: $work/tokyo/state
control_socket: $work/tokyo/s
groups:
  - name: erp
    peer: osaka
    interval: 500ms
    machines:
      - {name: db, driver: block, volumes: [{name: hda, path: $work/disk.raw}]}
YAML
cat > "$work/osaka/lifeboat.yaml" <<-YAML
site: osaka
state_dir: $work/osaka/state
control_socket: $work/osaka/s
listen: 127.0.0.1:7400
enrol_listen: 127.0.0.1:7401
store: {segment_size: 4MiB, reserve: 4MiB}
YAML
"$bin/lifeboatd" --check --config "$work/tokyo/lifeboat.yaml" > /dev/null
sed 's/^    peer:/    per:/' "$work/tokyo/lifeboat.yaml" > "$work/bad.yaml"
refused 3 'bad.yaml:6:5: error: unknown key "per", did you mean "peer"?' \
	"$bin/lifeboatd" --check --config "$work/bad.yaml"
refused 3 '^~' "$bin/lifeboatd" --config "$work/bad.yaml"
sed 's/500ms/fast/' "$work/tokyo/lifeboat.yaml" > "$work/bad.yaml"
refused 3 'bad.yaml:7:' "$bin/lifeboatd" --config "$work/bad.yaml"
refused 3 'bad.yaml:7:' "$bin/lifeboat" config check "$work/bad.yaml"
refused 3 "$work/none.yaml" "$bin/lifeboatd" --config "$work/none.yaml"
refused 2 '"stray" is no option' "$bin/lifeboatd" stray
printf 'kind: Runbook\n\0' > "$work/nul.yaml"
refused 3 "holds a zero byte" tokyo runbook lint "$work/nul.yaml"

# ---- enrolment

say "enrolment"
dd if=/dev/zero of="$work/osaka.img" bs=1M count=0 seek=160 status=none
mkdir "$work/osaka/state"
mkfs.ext4 -q "$work/osaka.img"
if ! mount -o loop "$work/osaka.img" "$work/osaka/state" 2> /dev/null; then
	echo "(no loop device: the small file system is a tmpfs)"
	mount -t tmpfs -o size=150m,mode=0700 tmpfs "$work/osaka/state"
fi
rm -rf "$work/osaka/state/lost+found"
chmod 700 "$work/osaka/state"
start osaka
start tokyo
listeners() { awk 'FNR > 1 && $4 == "0A"' /proc/net/tcp /proc/net/tcp6 2> /dev/null | wc -l; }
[ "$(listeners)" = 0 ] || lb_fail "something listens before enrolment"
osaka site init > /dev/null
refused 3 LB_EEXIST osaka site init
json_error LB_EEXIST osaka site init
osaka site token tokyo > "$work/token"
sed 's/:[0-9a-f]\{32\}:/:00000000000000000000000000000000:/' "$work/token" > "$work/forged"
refused 1 LB_EAUTH tokyo site join "$work/forged"
osaka site token tokyo > "$work/token"
tokyo site join - < "$work/token" > /dev/null
refused 3 LB_EEXIST tokyo site join "$work/token"
tokyo site list --json | jq -e '[.sites[].name] | index("osaka") != null' > /dev/null

# ---- protect, look, verify, export

say "points"
lb_wait_for 60 "three acknowledged points" is_over acked 2
tokyo status --json | jq -e '.groups[0] | .role == "PRIMARY" and .link == "up" and .rpo_ns > 0 and .problem == null' > /dev/null
lb_wait_for 10 "an RPO at osaka" sh -c "'$bin/lifeboat' --socket '$work/osaka/s' status --json | jq -e '.groups[0].rpo_ns > 0' > /dev/null"
[ "$(group osaka .role)" = BACKUP ] || lb_fail "osaka is $(group osaka .role)"
refused 4 "another lifeboatd runs on $work/tokyo/state" "$bin/lifeboatd" --config "$work/tokyo/lifeboat.yaml"
tokyo status --json > /dev/null || lb_fail "the second daemon took the first one's socket"
inbound_is() { [ "$(osaka site list --json | jq -r '.sites[] | select(.name == "tokyo") | .inbound')" = "$1" ]; }
inbound_is up || lb_fail "osaka does not know that tokyo is connected"
osaka machine list --json | jq -e '.machines[0] | .state == "replica" and .group != ""' > /dev/null
curves() { # SITE: a sample of every group, of how fast and how old
	curl -s --unix-socket "$work/$1/s" http://x/v1/history |
		jq -e '.groups | length > 0 and all(.shipped_bytes_per_s | length > 0) and all(.rpo_ns | length > 0)' > /dev/null
}
lb_wait_for 30 "tokyo's history" curves tokyo
lb_wait_for 30 "osaka's history" curves osaka
LIFEBOAT_SOCKET="$work/tokyo/s" "$bin/lifeboat" completion words group cut '' | grep -qx erp || lb_fail "completion does not know the group"
scribble 3 20
fresh_point
osaka verify > /dev/null
osaka verify --deep > /dev/null
osaka point verify latest --deep > /dev/null
osaka point list --json --max 10000 | jq -e '[.points[].marks[]] | index("deep-verified") != null' > /dev/null
same_as_source
osaka point export latest "$work/out.qcow2" --format qcow2 > /dev/null
qemu-img compare -q "$work/out.qcow2" "$work/disk.raw" || lb_fail "the qcow2 differs from the source"
[ "$(qemu-img info --output=json "$work/out.qcow2" | jq -r .format)" = qcow2 ] || lb_fail "not a qcow2"
[ -z "$(ls "$work/osaka/state/exports")" ] || lb_fail "the export left its view"
refused 3 LB_EEXIST osaka point export latest "$work/out.raw"
refused 3 LB_EEXIST osaka point export latest "$work/out.qcow2" --format qcow2
refused 3 "raw or qcow2" osaka point export latest "$work/x" --format vmdk
refused 3 'volume "vdz"' osaka point export latest "$work/x" --volume vdz
refused 3 LB_ENOTFOUND osaka point show 00000000
refused 3 LB_ENOTFOUND osaka point show latest --group nosuch
refused 3 LB_ENOTFOUND tokyo point list --group nosuch
refused 3 LB_ENOTFOUND "$bin/lifeboat" --socket "$work/osaka/s" point show "$(printf 'a/b?c%%00')"

json_error LB_ENOTFOUND osaka point show 00000000
json_error LB_EEXIST osaka point export latest "$work/out.raw"
json_error LB_EDENIED osaka site remove tokyo
refused 3 'is not a number' osaka point list --max many
refused 3 'is not a number' osaka watch --once --after yesterday
for verb in status doctor "site list" "machine list" "group list" "point list" "point show latest" "point verify latest" \
	"verify --deep" "catalog dump" "catalog rebuild" "runbook list" "runbook schema" "run list" "vm list" "config keys" \
	"config check $work/osaka/lifeboat.yaml" "completion bash"; do
	osaka $verb --json > "$work/said" 2> /dev/null || [ "$verb" = doctor ] || lb_fail "osaka $verb --json fails"
	jq -e 'type == "object" and length > 0' "$work/said" > /dev/null || lb_fail "no JSON object: $verb"
done

# ---- an operator who does not want to wait

say "an export is interrupted: it ends at the agent too"
mkfifo "$work/hold"
cat > "$work/tools/qemu-img" <<-SH
	#!/bin/sh
	[ ! -e $work/hold ] || read -r _ < $work/hold
	exec $(command -v qemu-img) "\$@"
SH
chmod +x "$work/tools/qemu-img"
"$bin/lifeboat" --socket "$work/osaka/s" point export latest "$work/never.qcow2" --format qcow2 > "$work/said" 2>&1 &
cli=$!
jobs_running() { curl -s --unix-socket "$work/osaka/s" http://x/v1/jobs | jq '[.jobs[] | select(.state == "running")] | length'; }
running_is() { [ "$(jobs_running)" = "$1" ]; }
lb_wait_for 30 "the export to run" running_is 1
kill -TERM $cli # as ^C, which shells hide from what they run in the background
rc=0
wait $cli || rc=$?
[ $rc = 4 ] && grep -q 'LB_ECANCELED: export was cancelled' "$work/said" || { cat "$work/said"; lb_fail "exit $rc of an interrupted export"; }
running_is 0 || lb_fail "the job goes on"
[ -z "$(ls "$work/osaka/state/exports")" ] || lb_fail "the export left its view"
! compgen -G "$work/never.qcow2*" || lb_fail "the export left a file"
rm "$work/hold" "$work/tools/qemu-img" "$work/said"

# ---- a source that is away for a while

say "the source disappears and comes back"
mv "$work/disk.raw" "$work/disk.away"
has_problem() { [ "$(group tokyo .problem)" != null ]; }
lb_wait_for 30 "a problem in the status" has_problem
tokyo status | grep -q "$work/disk.raw" || lb_fail "the status does not name the source"
mv "$work/disk.away" "$work/disk.raw"
fresh_point

say "the source grows, and shrinks again: points follow its size"
size_is() { [ "$(osaka point show latest --json | jq '.volumes[0].size_bytes')" = "$1" ]; }
truncate -s 56M "$work/disk.raw"
scribble 2 53
lb_wait_for 60 "a point of the new size" size_is $((56 << 20))
fresh_point
same_as_source
truncate -s 48M "$work/disk.raw"
lb_wait_for 60 "a point of the old size" size_is $((48 << 20))
fresh_point
same_as_source
osaka verify --deep > /dev/null

# ---- the catalog is only an index

say "catalog: rebuilt and lost"
stop tokyo
osaka catalog dump > "$work/dump1"
[ "$(grep -c '^point ' "$work/dump1")" -ge 3 ] || lb_fail "the dump holds no points"
osaka catalog rebuild > /dev/null
osaka catalog dump > "$work/dump2"
stop osaka
rm -f "$work"/osaka/state/catalog.db*
start osaka
osaka catalog dump > "$work/dump3"
cmp "$work/dump1" "$work/dump2"
cmp "$work/dump1" "$work/dump3"
start tokyo
fresh_point

# ---- a dead peer, SIGKILL

say "who watches an agent sees it again when it was started again"
"$bin/lifeboat" --socket "$work/osaka/s" watch --json > "$work/watched" 2> /dev/null &
watcher=$!
starts() { [ "$(jq -s '[.[] | select(.ev == "started")] | length' "$work/watched")" -ge "$1" ]; }
starts_before=$(osaka watch --once --json | jq -s '[.[] | select(.ev == "started")] | length')
lb_wait_for 30 "the watcher" starts "$starts_before"
stop osaka
start osaka
lb_wait_for 30 "the watcher to see the start" starts $((starts_before + 1))
kill $watcher
wait $watcher 2> /dev/null || true

say "the peer dies: said, and repaired by itself"
rpo() { group tokyo .rpo_ns; }
kill9 osaka
link_is() { [ "$(group tokyo .link)" = "$1" ]; }
lb_wait_for 60 "the link to be down" link_is down
lb_wait_for 20 "an RPO over two seconds" is_over rpo 2000000000
tokyo status | grep -q '^erp .* down .*Connection refused' || { tokyo status; lb_fail "the status does not say why"; }
refused 4 "no agent answers on $work/osaka/s" osaka status
start osaka
lb_wait_for 60 "the link to be up" link_is up
fresh_point

say "SIGKILL of both while the disk changes, five times"
for round in 1 2 3 4 5; do
	scribble 2 $((20 + round * 4))
	before=$(acked)
	case $round in
	1 | 3) kill9 tokyo osaka ;;
	2) kill9 osaka ;;
	4) kill9 tokyo ;;
	5) kill9 osaka tokyo ;;
	esac
	for s in osaka tokyo; do not_alive "${pid[$s]}" && start $s; done
	[ "$(newest)" -ge "$before" ] || lb_fail "point $before was acknowledged, the newest is $(newest)"
	fresh_point
done
osaka verify --deep > /dev/null
same_as_source

# ---- a full store

say "the store is full: said, and goes on when there is room"
room() { df --output=avail -B1M "$work/osaka/state" | tail -n 1; }
fallocate -l $(($(room) - 6))M "$work/osaka/state/ballast"
scribble 16 4
no_space() { tokyo status --json | grep -q LB_ENOSPC || osaka status --json | grep -q LB_ENOSPC; }
lb_wait_for 60 "LB_ENOSPC in a status" no_space
(($(room) >= 3)) || lb_fail "the store took its reserve of 4 MiB: $(room) MiB are free" # less what others wrote
rc=0
osaka doctor > "$work/doctor" || rc=$?
[ $rc != 0 ] && grep -q 'store: 0 MiB free above the reserve of 4 MiB' "$work/doctor" ||
	{ cat "$work/doctor"; lb_fail "doctor does not tell of the reserve"; }
osaka status --json > /dev/null
before=$(newest)
rm "$work/osaka/state/ballast"
lb_wait_for 90 "a point after the store was full" is_over newest "$before"
fresh_point
osaka verify --deep > /dev/null
same_as_source

# ---- certificates that have ended

say "certificates have ended: said, both sites work on what they hold, and are renewed"
certificate_ends() { # SITE: its certificate, as it was until yesterday
	local id=$work/$1/state/ident ca=$work/osaka/state/ident
	stop "$1"
	openssl x509 -x509toreq -in "$id/site.pem" -signkey "$id/site.key" -copy_extensions copyall -out "$work/request" 2> /dev/null
	openssl x509 -req -in "$work/request" -CA "$ca/ca.pem" -CAkey "$ca/ca.key" -copy_extensions copyall -days -1 -set_serial 7 \
		-out "$id/site.pem" 2> /dev/null
	start "$1"
	"$1" status | grep -q "^ALARM: this site's certificate ended 1 days ago" || lb_fail "the status of $1 hides it"
	{ "$1" doctor 2> /dev/null || true; } | grep -q "^BAD  certificate .* lifeboat site renew" || lb_fail "the doctor of $1 hides it"
}
link_error() { tokyo site list --json | jq -r '.sites[] | select(.name == "osaka") | .problem.message' | grep -qF "$1"; }
certificate_ends tokyo
lb_wait_for 60 "osaka to refuse tokyo" link_error "our certificate has expired"
certificate_ends osaka
osaka point verify latest > /dev/null
same_as_source
refused 3 "needs a token" tokyo site renew
refused 3 LB_ENOTFOUND osaka site token kyoto --renew
osaka site renew > /dev/null
osaka site token tokyo --renew > "$work/token"
tokyo site renew "$work/token" > /dev/null
for s in tokyo osaka; do
	! $s status | grep ALARM || lb_fail "$s still alarms"
done
lb_wait_for 60 "the link to be up" link_is up
fresh_point
stop tokyo # it lasts
start tokyo
fresh_point

# ---- a peer that must not come back

say "site remove: typed, and then refused for good; what it made stays"
refused 3 LB_ENOTFOUND osaka site remove kyoto --confirm kyoto
refused 5 "group erp is protected to site osaka" tokyo site remove osaka --confirm osaka
refused 5 "type its name: --confirm tokyo" osaka site remove tokyo
refused 5 "another one" osaka site remove tokyo --confirm osaka
link_is up || lb_fail "the link is down before the removal"
osaka site remove tokyo --confirm tokyo > /dev/null
lb_wait_for 60 "the link to be down" link_is down
kept=$(newest)
stop osaka
start osaka
osaka site list --json | jq -e '[.sites[].name] | index("tokyo") == null' > /dev/null || lb_fail "tokyo is listed again"
refused 3 LB_ENOTFOUND osaka site remove tokyo --confirm tokyo
osaka verify --deep > /dev/null # signed by a site that is no peer any more
[ "$(newest)" = "$kept" ] || lb_fail "a point came after the removal"
link_is down || lb_fail "a removed site has connected again"

# ---- rot

say "rot: named, and the exit status says data"
segment=$(ls "$work"/osaka/state/store/seg/*.seg | head -1)
byte=$(dd if="$segment" bs=1 skip=50000 count=1 status=none | od -An -tu1)
printf "\\$(printf %o $((byte ^ 1)))" | dd of="$segment" bs=1 seek=50000 conv=notrunc status=none
rc=0
osaka verify > "$work/rot" 2> "$work/rot.err" || rc=$?
[ $rc = 6 ] || lb_fail "verify of a rotten store ended with $rc"
grep -q '^DAMAGED  .* in segment 1 at ' "$work/rot" || { cat "$work/rot" "$work/rot.err"; lb_fail "the rot is not named"; }

# ---- the end

say "the end"
stop tokyo
stop osaka
! grep -lE 'AddressSanitizer|LeakSanitizer|runtime error|ThreadSanitizer' "$work"/*/log || lb_fail "a sanitizer spoke"
echo "OK: $(grep -c . "$work/dump1") catalog lines, all conditions met in $SECONDS s"
