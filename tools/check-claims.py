#!/usr/bin/env python3
"""Fail when a page or a header's comment names a test, a source file or a function that is not there.

usage: check-claims.py SOURCE_DIR BUILD_DIR

Pages are the tracked *.md and man/*.scd. Of headers only comments are read, and of them only names with a
component's prefix before "()". A path counts when it has an ending of ours, a star, or a slash at its end.
"""
import pathlib, re, subprocess, sys

TEST = re.compile(r"(?<![\w/.-])(?:unit|sim|crash|golden|fuzz|e2e|vmcore|tui|lint)\."
                  r"(?!(?:c|h|md|def|sh|py|cmake)\b)[a-z][A-Za-z0-9_-]*")
FILE = re.compile(r"(?<![\w/.<$~-])(?:base|imaging|replicator|runbooks|siteagent|vmcore|ui-tui|tests|tools|docs|man|po)"
                  r"/(?:[\w/*.-]*(?:\.(?:c|h|def|md|scd|py|sh|cmake|txt|supp|po)\b|\*|/(?!\w)))")
CALL = re.compile(r"\b((?:lb|img|rep|rb|vm|sa|ui)_[a-z0-9_]+)\(\)")
COMMENT = re.compile(r"/\*.*?\*/", re.S)


def tracked(root, *patterns):
    out = subprocess.run(["git", "-C", str(root), "ls-files", "-z", *patterns], capture_output=True, text=True, check=True)
    return [n for n in out.stdout.split("\0") if n]


def known_tests(build):
    out = subprocess.run(["ctest", "--test-dir", str(build), "-N"], capture_output=True, text=True, check=True).stdout
    names = set(re.findall(r"Test +#\d+: (\S+)", out))
    return names | {n.removesuffix(".replay") for n in names}


def known_names(root):
    code = " ".join(COMMENT.sub(" ", (root / f).read_text()) for f in tracked(root, "*.c", "*.h", "*.def"))
    return set(re.findall(r"\w+", code))


def is_there(root, path):
    # "base/err.h" is how the code includes base/include/base/err.h
    component = path.split("/")[0]
    return any(root.glob(path)) or any(root.glob(f"{component}/include/{path}"))


def problems(text, tests, names, root):
    yield from (f"no test {n}" for n in sorted(set(TEST.findall(text)) - tests))
    yield from (f"no file {n}" for n in sorted(set(FILE.findall(text))) if not is_there(root, n))
    yield from (f"no function {n}()" for n in sorted(set(CALL.findall(text)) - names))


def main():
    root, build = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    tests, names = known_tests(build), known_names(root)
    # a check that cannot fail is worth nothing
    assert list(problems("see unit.no_such_thing, base/src/nowhere.c, base/err.h and lb_err_set(), not lb_nowhere()",
                         tests, names, root)) == [
        "no test unit.no_such_thing", "no file base/src/nowhere.c", "no function lb_nowhere()"]
    bad = [f"{page}: {why}" for page in tracked(root, "*.md", "man/*.scd")
           for why in problems((root / page).read_text(), tests, names, root)]
    bad += [f"{header}: {why}" for header in tracked(root, "*.h")
            for why in problems("\n".join(COMMENT.findall((root / header).read_text())), tests, names, root)]
    print("\n".join(bad) or "claims ok")
    return 1 if bad else 0


sys.exit(main())
