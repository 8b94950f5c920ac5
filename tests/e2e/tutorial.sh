#!/usr/bin/env bash
# tests/e2e/tutorial.sh SOURCE_DIR BUILD_DIR - README's tutorial: its own words are typed, and the output that it prints is
# expected, with other numbers. Only PATH and the directory (/tmp/tut) are replaced.
#
# Between the blocks it waits as long as a reader would take: until two more points are acknowledged.
set -euo pipefail
top=$1 build=$2
PATH=$PATH:/usr/sbin:/sbin
. "$top/tests/lib/alone.sh"
lb_alone tutorial 150 mkfs.ext4 debugfs jq ip
cd "$LB_WORK"
ip link set lo up

# The indented blocks of the tutorial, numbered: "N<TAB>line".
awk '/^## /{on = /^## A tutorial/; next} !on{next}
	/^    /{if (!inside) n++; inside = 1; print n "\t" substr($0, 5); next}
	/^$/{if (inside) print n "\t"; next}
	{inside = 0}' "$top/README.md" | sed "s|/tmp/tut|$LB_WORK/tut|g" > blocks
block() { sed -n "s/^$1\t//p" blocks; }
commands() { # BLOCK: all lines of the first, the second's up to its empty line, then those after a "$ "
	case $1 in
	1) block 1 | sed "s|^export PATH=.*|export PATH=\$PATH:$build/bin|" ;;
	2) block 2 | sed '/^$/,$d' ;;
	*) block "$1" | sed -n 's/^\$ //p' ;;
	esac
}
outputs() {
	case $1 in
	1) ;;
	2) block 2 | sed '1,/^$/d' ;;
	*) block "$1" | grep -v '^\$ ' ;;
	esac | sed '/^$/d'
}
# What may differ from run to run does not count: identifiers, numbers with their units, width of columns, whether a
# scan is on.
shape() {
	sed -E 's/\b[0-9a-f]{12}\b/ID/g; s/[0-9]+(\.[0-9]+)? ?(ns|us|ms|s|min|B|KiB|MiB|%)( |$|,|;)/Q\3/g
		s/[0-9]+/N/g; s/scan Q$//; s/ +/ /g; s/^ //; s/ $//'
}

blocks=$(tail -1 blocks | cut -f 1)
{
	cat <<-'SCRIPT'
	shopt -s expand_aliases
	trap 'kill $(jobs -p); wait' EXIT
	points() { lifeboat --socket tokyo/control.sock status --json | jq .groups[0].points_acked; }
	read_on() { local from; from=$(points); until [ "$(points)" -ge $((from + 2)) ]; do sleep 0.1; done; }
	SCRIPT
	for n in $(seq "$blocks"); do
		[ -n "$(commands "$n")" ] || continue
		[ "$n" -le 2 ] || echo read_on
		echo "exec > $LB_WORK/said.$n 2>&1"
		commands "$n"
	done
	echo 'exit 0'
} > script
env -i PATH="$PATH" HOME="$LB_WORK" LC_ALL=C.UTF-8 bash script || { echo "the tutorial ends with $?"; tail -n 20 said.* tut/*/log; exit 1; }
wrong=0
for n in $(seq "$blocks"); do
	[ -f "said.$n" ] || continue
	shape < "said.$n" > is
	while read -r line; do
		grep -qxF -- "$line" is && continue
		echo "block $n prints no line like: $line"
		wrong=1
	done < <(outputs "$n" | shape)
	[ "$wrong" = 0 ] || { echo "it printed:"; cat "said.$n"; break; }
done
[ "$wrong" = 0 ] || exit 1
echo "$(grep -c . script) lines typed; what $(ls said.* | wc -l) blocks print is as README has it"
