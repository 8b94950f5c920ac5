#!/bin/sh
# run.sh [-n RUNS] [-s SIZE_MIB] [-w DIR] [ID...]: measure the goals (P1 P3 P7 P8 P9 P10 P12 P13 P14, or
# "peers"), one line each. In a network namespace of its own when possible, so that the bytes
# counted on lo are this run's.
here=$(dirname "$0")
if [ "$(id -u)" = 0 ] && unshare -n true 2>/dev/null; then
	exec unshare -n sh -c 'ip link set lo up && exec python3 "$@"' sh "$here/bench.py" "$@"
fi
echo "bench: no network namespace: bytes on lo may count others' traffic" >&2
exec python3 "$here/bench.py" "$@"
