#!/usr/bin/env bash
# tests/e2e/install.sh SOURCE_DIR BUILD_DIR - `cmake --install`: what it puts where, and that it works there.
#
# Once below DESTDIR, as a package is made: the list of files is what the tree says it must be, no more and no less. Once
# under a prefix that is named at the end: the man pages are clean, what the unit starts is there, the examples are right,
# and two agents from there protect a disk, give it back through the view plugin that they find by themselves, and show
# themselves in Japanese.
set -euo pipefail
top=$1 build=$2
. "$top/tests/lib/pair.sh"
lb_alone install "${LB_INSTALL_LIMIT_S:-200}" cmake man jq nbdkit ip tmux msgunfmt
lb_pair_begin "$LB_WORK" "$LB_WORK/bin"

umask 022
install_to() { cmake --install "$build" "$@" > "$work/run" 2>&1 || lb_fail "cmake --install $*"; }

say "the files of a package"
DESTDIR=$work/root install_to --prefix /usr
files() { # what is expected, by the tree
	local f
	printf '%s\n' bin/lifeboat bin/lifeboat-tui sbin/lifeboatd libexec/lifeboat/lifeboat-{vm,view-plugin.so,journal-plugin.so} \
		lib/systemd/system/lifeboatd.service lib/sysusers.d/lifeboat.conf share/bash-completion/completions/lifeboat \
		share/zsh/vendor-completions/_lifeboat share/fish/vendor_completions.d/lifeboat.fish \
		share/doc/lifeboat/{{README,ARCHITECTURE,CONTRIBUTING,SECURITY}.md,LICENSE} share/doc/lifeboat/examples/lifeboat.yaml
	cd "$top"
	for f in man/*.scd; do f=${f%.scd} && echo "share/man/man${f##*.}/${f#man/}"; done
	for f in po/*.po; do f=${f#po/} && echo "share/locale/${f%.po}/LC_MESSAGES/lifeboat.mo"; done
	for f in docs/*.md docs/*/*.md; do echo "share/doc/lifeboat/$f"; done
	for f in dist/runbooks/*.yaml; do echo "share/doc/lifeboat/examples/${f#dist/}"; done
}
(cd "$work/root/usr" && find . ! -type d -printf '%P\n') | LC_ALL=C sort > "$work/files"
cat "$work/files"
files | LC_ALL=C sort | diff - "$work/files" || lb_fail "other files than the tree says"
[ "$(ls "$work/root")" = usr ] || lb_fail "something is installed beside the prefix"
odd=$(find "$work/root" -perm /7022 -o ! -perm -444 -o -type d ! -perm -111)
[ -z "$odd" ] || lb_fail "permissions of $odd"

say "man pages and examples"
to=$work/opt/lifeboat
install_to --prefix "$to"
for page in "$to"/share/man/*/*; do
	LC_ALL=C.UTF-8 MANWIDTH=80 man --warnings -l "$page" 2> "$work/said" > "$work/page" || lb_fail "$page"
	[ ! -s "$work/said" ] && [ "$(wc -l < "$work/page")" -gt 10 ] || lb_fail "$page: $(cat "$work/said")"
done
unit=$to/lib/systemd/system/lifeboatd.service
[ "$(sed -n 's/^ExecStart[A-Za-z]*=\([^ ]*\).*/\1/p' "$unit" | sort -u)" = "$to/sbin/lifeboatd" ] || lb_fail "$unit starts another program"
[ "$("$to/bin/lifeboat" --version)" = "lifeboat $("$to/sbin/lifeboatd" --version | cut -d ' ' -f 2)" ] || lb_fail "versions"
[[ $("$to/libexec/lifeboat/lifeboat-vm" --version 2>&1) == "lifeboat-vm is started by lifeboatd" ]] || lb_fail "lifeboat-vm"
"$to/bin/lifeboat" config check "$to/share/doc/lifeboat/examples/lifeboat.yaml"
for runbook in "$to"/share/doc/lifeboat/examples/runbooks/*; do
	"$to/bin/lifeboat" runbook lint "$runbook"
done

say "two agents from there"
mkdir "$work/bin" # for pair.sh: a link, the programs still know where they are
ln -s "$to"/bin/* "$to"/sbin/* "$work/bin"
head -c 4M /dev/urandom > "$work/disk.img"
lb_pair_tokyo 300ms <<YAML
- {name: db, driver: block, volumes: [{name: vda, path: $work/disk.img}]}
YAML
lb_pair_osaka
lb_pair_start
osaka status
for site in tokyo osaka; do
	"$site" doctor > "$work/said" 2>&1 || true
	cat "$work/said"
	grep -q "^ok  *kvm " "$work/said" && ! grep -q "lifeboat-vm is not installed" "$work/said" || lb_fail "$site does not find lifeboat-vm"
done
lb_wait_for 60 "a point" lb_pair_points 1
osaka point export latest "$work/out.img" > /dev/null
cmp "$work/disk.img" "$work/out.img"

say "in Japanese"
t() { LC_ALL=C.UTF-8 TMUX_TMPDIR=$work tmux -L lb -f /dev/null -u "$@"; }
t new-session -d -s lb -x 80 -y 24 "env LC_ALL=ja_JP.UTF-8 '$to/bin/lifeboat' --socket '$work/osaka/s' tui"
words=$(msgunfmt "$to/share/locale/ja/LC_MESSAGES/lifeboat.mo" | sed -n '/^msgid "overview"$/{n;s/^msgstr "\(.*\)"$/\1/p}')
on_screen() { t capture-pane -p -t lb | grep -qF -- "${words:?}"; }
lb_wait_for 30 "\"$words\" on the screen" on_screen
t kill-server
lb_pair_stop
echo "passed"
