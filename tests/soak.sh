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

while [ $SECONDS -lt $end ]; do
	first=$((round * 2000 + 1001))
	run "$bin/sim_replication" --seeds "$first-$((first + 1999))"
	run "$bin/crash_store" 12
	run "$bin/crash_powercut" 2000 $((round + 2))
	run "$bin/crash_flips" 10000
	run "$bin/vmcore_commit" 200
	run ctest --test-dir "$top/build/gcc" --output-on-failure -R '^vmcore\.linux_'
	round=$((round + 1))
done
echo "soak: $round rounds without a failure"
