#!/usr/bin/env python3
"""Fail when a message of the terminal UI has no translation, or a catalogue one that nobody says any more.

usage: check-po.py SOURCE_DIR SCRATCH_DIR
"""
import pathlib, re, subprocess, sys

root, scratch = (pathlib.Path(p).resolve() for p in sys.argv[1:3])
scratch.mkdir(parents=True, exist_ok=True)
sources = sorted((root / "ui-tui/src").glob("*.c")) + [root / "siteagent/src/ctl_verbs.c"]
pot = scratch / "lifeboat.pot"
subprocess.run(["xgettext", "--from-code=UTF-8", "-L", "C", "--keyword=_", "--keyword=N_", "--no-wrap", "-o", pot, *sources],
               check=True)


def ids(path):
    out = subprocess.run(["msgattrib", "--no-wrap", "--no-obsolete", path], capture_output=True, text=True, check=True).stdout
    return set(re.findall(r'^msgid "(.+)"$', out, re.M))


said, bad = ids(pot), []
if len(said) < 200:
    bad.append(f"only {len(said)} messages found in the sources")
for po in sorted((root / "po").glob("*.po")):
    done = subprocess.run(["msgattrib", "--no-wrap", "--translated", "--no-fuzzy", "--no-obsolete", po], capture_output=True,
                          text=True, check=True).stdout
    have = set(re.findall(r'^msgid "(.+)"$', done, re.M))
    bad += [f'{po.name}: not translated: "{m}"' for m in sorted(said - have)]
    bad += [f'{po.name}: nobody says: "{m}"' for m in sorted(have - said)]
    p = subprocess.run(["msgfmt", "--check", "-o", "/dev/null", po], capture_output=True, text=True)
    bad += p.stderr.splitlines() if p.returncode != 0 or p.stderr else []
print("\n".join(bad) or "messages ok")
sys.exit(1 if bad else 0)
