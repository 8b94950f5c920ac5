#!/usr/bin/env bash
# tests/e2e/tui_live.sh SOURCE_DIR BUILD_DIR - the terminal UI with two real agents behind it.
#
# tokyo runs and protects machines that need no KVM (tests/lib/fake_vm.c under the product's own lifeboat-vm),
# osaka is the backup. By keys: a machine's console and screen; the UI at the far end of a line of 8 kbit/s
# (two network namespaces, tc tbf both ways); an agent killed and started under it; then 26,000 random keys.
# LB_KEYS, LB_SEED: others. Everything runs in namespaces of its own: nothing is left.
set -euo pipefail
top=$1 build=$2 bin=$2/bin
. "$top/tests/lib/pair.sh"
lb_alone tuil "${LB_TUI_LIMIT_S:-560}" nsenter jq nbdkit ip tc socat tmux bash zsh fish
lb_pair_begin "$LB_WORK" "$bin"

# ---- two sites

head -c 4M /dev/urandom > "$work/pay.img"
head -c 4M /dev/urandom > "$work/crm.img"
head -c 4M /dev/urandom > "$work/tax.img"
echo hello > "$work/firmware"
lb_pair_site tokyo <<YAML
vm_program: $build/tests/fake_lifeboat_vm
groups:
  - name: crm
    peer: osaka
    interval: 1s
    machines:
      - name: crm-1
        driver: vmcore
        vm: {memory: 2MiB, kernel: $work/firmware, memory_points: true}
        volumes: [{name: vda, path: $work/crm.img}]
  - name: erp
    peer: osaka
    interval: 1s
    machines:
      - name: pay
        driver: vmcore
        vm: {memory: 2MiB, kernel: $work/firmware, memory_points: true}
        volumes: [{name: vda, path: $work/pay.img}]
      - name: tax
        driver: vmcore
        vm: {memory: 2MiB, kernel: $work/firmware, memory_points: true}
        volumes: [{name: vda, path: $work/tax.img}]
YAML
lb_pair_osaka "runbooks: $work/osaka/runbooks
vm_program: $build/tests/fake_lifeboat_vm
hypervisor: {driver: vmcore, kernel: $work/firmware}"
mkdir "$work/osaka/runbooks"
# A drill of it boots two machines, then one step fails and waits for its operator while another one runs.
cat > "$work/osaka/runbooks/a-drill.yaml" <<'YAML'
apiVersion: lifeboat/v1
kind: Runbook
name: a-drill
rto: 2h
modes: [drill, failover]
steps:
  - {id: fence, action: fence, site: tokyo}
  - {id: pay, action: boot, machine: pay, needs: [fence], timeout: 60s}
  - {id: long, action: exec, run: [/bin/sleep, "3600"], needs: [pay], timeout: 1h}
  - {id: note, action: exec, run: [/bin/true], needs: [pay], timeout: 10s}
  - {id: bad, action: exec, run: [/bin/false], needs: [note], timeout: 10s, on_failure: ask}
  - {id: tax, action: boot, machine: tax, needs: [fence], timeout: 60s}
YAML
cat > "$work/osaka/runbooks/z-over.yaml" <<'YAML'
apiVersion: lifeboat/v1
kind: Runbook
name: z-over
rto: 2m
modes: [drill, failover]
steps:
  - {id: fence, action: fence, site: tokyo}
  - {id: crm, action: boot, machine: crm-1, needs: [fence], timeout: 60s}
YAML
lb_pair_start
tokyo vm run pay > /dev/null
tokyo vm run tax > /dev/null
tokyo vm run crm-1 > /dev/null
acked() { tokyo status --json | jq -e 'all(.groups[]; .points_acked >= 2)' > /dev/null; }
lb_wait_for 60 "points of both groups" acked

# ---- a machine under lifeboat-vm

say "the console and the screen of a running machine, by keys"
LB_SAYS=hello LB_SHOWS="fake screen" timeout 100 "$build/tests/tui_live" machine "$bin/lifeboat" \
	--socket "$work/tokyo/s" tui

say "watch --plain: one line per event as it happens, nothing else"
osaka watch --plain > "$work/watched" &
watcher=$!
osaka drill "$work/osaka/runbooks/z-over.yaml" > "$work/drill" || lb_fail "the drill: $(cat "$work/drill")"
watched() { grep -q " run started .*mode=drill" "$work/watched" && grep -q " run state .*DONE" "$work/watched"; }
lb_wait_for 20 "the drill's events" watched
kill $watcher
! grep -q "$(printf '\033')" "$work/watched" || lb_fail "an escape sequence for screen readers"
! grep -vqE '^[0-9-]* ?[0-9:]+ +(debug|info|warn|error) ' "$work/watched" ||
	lb_fail "a line that is no event: $(grep -vE '^[0-9-]* ?[0-9:]+ +(debug|info|warn|error) ' "$work/watched" | head -1)"

say "completion in the shells themselves"
mkdir "$work/home"
LB_SOCKET_IS=LIFEBOAT_SOCKET=$work/tokyo/s timeout 100 "$build/tests/tui_live" shells "$bin" "$work/home"

# ---- the story by keys, in tmux: a terminal that is not ours

say "protect, watch, drill, disaster, failover, console: by keys in tmux"
t() { LC_ALL=C.UTF-8 TMUX_TMPDIR=$work tmux -L lb -f /dev/null -u "$@"; }
press() { t send-keys -t lb "$@"; }
on_screen() { t capture-pane -p -t lb | grep -qF -- "$1"; }
see() { # TEXT: it comes on the screen
	local end=$((SECONDS + 60))
	until on_screen "$1"; do
		[ $SECONDS -lt $end ] || { t capture-pane -p -t lb; lb_fail "never saw \"$1\""; }
		sleep 0.05
	done
}
t new-session -d -s lb -x 80 -y 24 "env LC_ALL=C.UTF-8 TZ=UTC '$bin/lifeboat' --socket '$work/osaka/s' tui; echo it ended: \$?; cat"
see "YES: 2 of 2 groups within their goal"
see "Who is active?     tokyo, 2 groups; this site is the backup"
press 4
see "memory"
press 5
see ">a-drill"
see "no problems; expected"
press D
see "Enter does it"
press Enter
see "a-drill (drill) ~ RUNNING"
see "! waiting"
press Down Down Down Down
see ">bad"
press s
see "Why?"
press -l "seen to by hand"
press Enter
see "Type osaka to do it:"
press -l osaka
press Enter
see "! skipped"
see "why: seen to by hand"
press X
see "Type osaka to do it:"
press -l osaka
press Enter
see "a-drill (drill) ! ABORTED"
press Escape
press 5
see ">a-drill"
press Down
see ">z-over"
see "no problems; expected"
see "e edit"
t capture-pane -p -t lb | tail -n +2 > "$work/in-tmux"
timeout 60 "$build/tests/tui_live" plan "$bin/lifeboat" --socket "$work/osaka/s" tui > "$work/in-libvterm"
diff "$work/in-tmux" "$work/in-libvterm" || lb_fail "tmux and libvterm show different screens"
press D
see "$ lifeboat"
see "Enter does it"
press Enter
see " DRILL "
see "z-over (drill) ✓ DONE"
press 7
see "drills went well"
lb_pair_kill tokyo crm-1
press 1
see "NO"
press F
see "choose a runbook"
press Down
see ">z-over"
see "no problems; expected"
press F
see "1/4"
see "crm: "
see "of crm-1"
press Enter
see "2/4"
see "tokyo is not connected, since"
press Enter
see "boot     crm crm-1"
press Enter
see "Type tokyo to do it:"
press Enter
see "what is typed is not the name"
press -l tokyo
see "to do it: tokyo"
press Enter
see "z-over (failover) ✓ DONE"
press Down
see ">crm"
press Enter
see "crm-1: serial console"
see "going on"
press 1
see "FAILED OVER"
see "crm runs here and is replicated nowhere"
press q
see "it ended: 0"
t kill-server
lb_pair_agent tokyo
tokyo vm list > /dev/null

say "tmux in a terminal that draws frames two columns wide"
echo "set -g allow-passthrough on" > "$work/tmux.conf"
timeout 100 "$build/tests/tui_live" wide /usr/bin/env LC_ALL=C.UTF-8 TMUX_TMPDIR="$work" tmux -L wide -u -f "$work/tmux.conf" \
	new-session "env LC_ALL=C.UTF-8 TZ=UTC '$bin/lifeboat' --socket '$work/osaka/s' tui"

# ---- 8 kbit/s

say "the UI at the far end of a line of 8 kbit/s"
near=$work/near
touch "$near"
unshare --net="$near" true
nsenter --net="$near" ip link set lo up
ip link add far mtu 576 type veth peer name near mtu 576
ip link set near netns "$near"
ip addr add 10.9.0.2/24 dev far
ip link set far up
nsenter --net="$near" ip addr add 10.9.0.1/24 dev near
nsenter --net="$near" ip link set near up
tc qdisc add dev far root tbf rate 8kbit burst 600 limit 64kb
nsenter --net="$near" tc qdisc add dev near root tbf rate 8kbit burst 600 limit 64kb
cat > "$work/far.sh" <<SH
#!/bin/sh
stty rows 24 cols 80
exec env TERM=xterm-256color LC_ALL=C.UTF-8 TZ=UTC "$bin/lifeboat" --socket "$work/osaka/s" tui
SH
chmod 755 "$work/far.sh"
socat TCP-LISTEN:7600,bind=10.9.0.2,nodelay EXEC:"$work/far.sh",pty,setsid,ctty,stderr &
far=$!
listening() { grep -q ' 0200090A:1DB0 00000000:0000 0A ' /proc/net/tcp; }
lb_wait_for 10 "the far end" listening
LB_FAST=$bin/lifeboat LB_SOCKET=$work/osaka/s timeout 300 "$build/tests/tui_live" line \
	/usr/bin/nsenter --net="$near" /usr/bin/socat -,raw,echo=0 TCP:10.9.0.2:7600,nodelay
lb_wait_for 10 "the far end to be over" sh -c "! kill -0 $far 2> /dev/null"
tc -s qdisc show dev far | grep -A 1 Sent

# ---- an agent that dies

say "osaka's agent is killed and started under the UI"
while read -r line; do
	case $line in
	"please: kill") lb_pair_kill9 osaka ;;
	"please: start") lb_pair_agent osaka ;;
	*) echo "$line" ;;
	esac
done < <(timeout 200 "$build/tests/tui_live" agent "$bin/lifeboat" --socket "$work/osaka/s" tui 2>&1 || echo "the UI: $?") |
	tee "$work/agent.out"
! grep -q "the UI: " "$work/agent.out" || lb_fail "the UI without its agent"

# ---- random keys

say "${LB_KEYS:-26000} random keys"
starts() { cat "$work"/*/log | grep -c "comp=agent ev=started"; }
before=$(starts)
"$build/tests/tui_live_keys" "$work/osaka/s" "$work/tokyo/s" "${LB_KEYS:-26000}" ${LB_SEED:-}
osaka status > /dev/null
tokyo status > /dev/null
[ "$(starts)" = "$before" ] || lb_fail "an agent died under the keys and was started anew"
echo "passed"
