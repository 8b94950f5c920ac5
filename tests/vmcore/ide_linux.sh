#!/bin/bash
# tests/vmcore/ide_linux.sh SOURCE_DIR BUILD_DIR PROGRAM emulated|native - build the guests, then run
# test_ide_linux.c. 77: skipped.
set -uo pipefail
src=${1:?} build=${2:?} program=${3:?} mode=${4:?}

"$src/tests/guests/build-guests.sh" "$build/guests" || { echo "skipped: no guests"; exit 77; }
exec "$program" "$build/guests" "$mode"
