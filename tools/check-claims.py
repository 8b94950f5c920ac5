#!/usr/bin/env python3
"""Fail when ARCHITECTURE.md or SECURITY.md names a test that ctest does not have, or a source file that is not there.

usage: check-claims.py SOURCE_DIR BUILD_DIR
"""
import pathlib, re, subprocess, sys

PAGES = ["ARCHITECTURE.md", "SECURITY.md"]
TEST = re.compile(r"\b(?:unit|sim|crash|golden|fuzz|e2e)\.[A-Za-z][A-Za-z0-9_-]*")
FILE = re.compile(r"\b(?:base|imaging|replicator|runbooks|siteagent|ui-tui|tests|tools)/[\w/*.-]*[\w*]")


def known_tests(build):
    out = subprocess.run(["ctest", "--test-dir", str(build), "-N"], capture_output=True, text=True, check=True).stdout
    names = set(re.findall(r"Test +#\d+: (\S+)", out))
    return names | {n.removesuffix(".replay") for n in names}


def problems(text, tests, root):
    yield from (f"no test {n}" for n in sorted(set(TEST.findall(text)) - tests))
    for name in sorted(set(FILE.findall(text))):
        if not any(root.glob(name)):
            yield f"no file {name}"


def main():
    root, build = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    tests = known_tests(build)
    # a check that cannot fail is worth nothing
    assert list(problems("see unit.no_such_thing in base/src/nowhere.c", tests, root)) == [
        "no test unit.no_such_thing", "no file base/src/nowhere.c"]
    bad = [f"{page}: {why}" for page in PAGES for why in problems((root / page).read_text(), tests, root)]
    print("\n".join(bad) or "claims ok")
    return 1 if bad else 0


sys.exit(main())
