#!/bin/bash
# tests/vmcore/linux.sh SOURCE_DIR BUILD_DIR PROGRAM PLUGIN emulated|native - build the guests, then run
# test_linux.c. 77: skipped.
set -uo pipefail
src=${1:?} build=${2:?} program=${3:?} plugin=${4:?} mode=${5:?}

for tool in nbdkit debugfs e2fsck; do
	PATH=$PATH:/sbin:/usr/sbin command -v $tool > /dev/null || { echo "skipped: no $tool"; exit 77; }
done
"$src/tests/guests/build-guests.sh" "$build/guests" || { echo "skipped: no guests"; exit 77; }
export PATH=$PATH:/sbin:/usr/sbin
exec "$program" "$build/guests" "$plugin" "$mode"
