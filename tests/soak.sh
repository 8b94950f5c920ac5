#!/usr/bin/env bash
# tests/soak.sh [HOURS] - the long campaigns (./dev soak); CI runs a sample of each. Stops at the first failure and
# says how to replay it.
set -euo pipefail
top=$(cd "$(dirname "$(readlink -f "$0")")/.." && pwd)
bin=$top/build/gcc/tests
hours=${1:-8}
end=$((SECONDS + hours * 3600))
round=0

run() {
	echo "soak: $*"
	"$@" || { echo "soak: FAILED, replay with: $*" >&2; exit 1; }
}

# Guests: where there is no KVM, or another kind, they say so and are skipped (77).
run_guest() {
	local rc=0
	echo "soak: $*"
	"$@" || rc=$?
	[ $rc = 0 ] || [ $rc = 77 ] || { echo "soak: FAILED, replay with: $*" >&2; exit 1; }
}

run_guest "$bin/vmcore_bios" "$top/build/gcc/bin/lifeboat-view-plugin.so" "$top/tests/guests/grub-disk.sh" soak
for mode in native emulated; do
	run_guest "$top/tests/vmcore/ide_linux.sh" "$top" "$top/build/gcc" "$bin/vmcore_ide_linux" $mode
done

while [ $SECONDS -lt $end ]; do
	first=$((round * 2000 + 1001))
	run "$bin/sim_replication" --seeds "$first-$((first + 1999))"
	run "$bin/crash_store" 12
	run "$bin/crash_powercut" 2000 $((round + 2))
	run "$bin/crash_flips" 10000
	run "$bin/vmcore_commit" 200
	LB_COMMIT_ROUNDS=20 LB_COMMIT_LIMIT_S=900 LB_COMMIT_SEED=$first \
		run_guest "$top/tests/e2e/commit.sh" "$top" "$top/build/gcc"
	run ctest --test-dir "$top/build/gcc" --output-on-failure -R '^vmcore\.linux_'
	round=$((round + 1))
done
echo "soak: $round rounds without a failure"
