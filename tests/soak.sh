#!/usr/bin/env bash
# tests/soak.sh [HOURS [SHARE]] - the long campaigns (./dev soak); CI runs a sample of each. Stops at the first failure
# and says how to replay it. At least one whole round is run, also with 0 hours; SHARE is how many in a hundred of each
# campaign's counts are (default 100), for a look whether everything still runs.
set -euo pipefail
top=$(cd "$(dirname "$(readlink -f "$0")")/.." && pwd)
build=${LB_SOAK_BUILD:-$top/build/gcc}
bin=$build/tests
hours=${1:-8} share=${2:-100}
[[ $hours =~ ^[0-9]+$ && $share =~ ^[1-9][0-9]*$ ]] || { echo "usage: tests/soak.sh [HOURS [SHARE]]" >&2; exit 2; }
end=$((SECONDS + hours * 3600))
round=0

of() { # COUNT: this share of it, at least 1
	local n=$(($1 * share / 100))
	echo $((n > 0 ? n : 1))
}

# Where a campaign cannot run (no KVM, or another kind) it says so and is skipped (77).
run() {
	local rc=0 begin=$SECONDS
	echo "soak: $*"
	"$@" || rc=$?
	case $rc in
	0) echo "soak: passed in $((SECONDS - begin)) s" ;;
	77) echo "soak: skipped" ;;
	*) echo "soak: FAILED ($rc), replay with: $*" >&2; exit 1 ;;
	esac
}

# A guest is looked at once: another round would do the same again.
run "$bin/vmcore_bios" "$build/bin/lifeboat-view-plugin.so" "$top/tests/guests/grub-disk.sh" soak
for mode in native emulated; do
	run "$top/tests/vmcore/ide_linux.sh" "$top" "$build" "$bin/vmcore_ide_linux" $mode
done
run ctest --test-dir "$build" --output-on-failure -R '^vmcore\.linux_'

while [ $round = 0 ] || [ $SECONDS -lt $end ]; do
	seed=$((round * 2000 + 1001))
	run "$bin/sim_replication" --seeds "$seed-$((seed + $(of 2000) - 1))"
	run "$bin/crash_store" "$(of 12)"
	run "$bin/crash_powercut" "$(of 2000)" $((round + 2))
	run "$bin/crash_flips" "$(of 10000)" "$seed"
	run "$bin/vmcore_commit" "$(of 200)" "$seed"
	run "$bin/vmcore_net_commit" "$(of 200)" "$seed"
	run env LB_COMMIT_ROUNDS="$(of 20)" LB_COMMIT_LIMIT_S=900 LB_COMMIT_SEED=$seed \
		"$top/tests/e2e/commit.sh" "$top" "$build"
	run "$top/tests/e2e/long.sh" "$top" "$build" "$(of 10000)"
	round=$((round + 1))
done
echo "soak: $round rounds without a failure"
