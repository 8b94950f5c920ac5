#!/usr/bin/env python3
"""Fail on calls that the style bans.

Everywhere in product code: functions without a bound, without an error, with hidden state, and the shell.
Outside base/: raw read/write and memory copies of whole structs belong to lb_file, lb_rd and lb_wr. A line
that has to do it says why: a comment "banned-ok: REASON" on the line or the one above.
"""
import pathlib, re, sys

COMPONENTS = ["base", "imaging", "replicator", "runbooks", "vmcore", "siteagent", "ui-tui"]
NEVER = {
    "no bound": "sprintf vsprintf strcpy stpcpy strcat gets alloca",
    "no error (use a checked parser)": "atoi atol atoll atof",
    "hidden state": "strtok rand srand random srandom drand48 asctime ctime localtime gmtime strerror_r",
    "a shell, or a race on a name": "system popen tmpnam tempnam mktemp",
    "no way to stop it cleanly": "pthread_cancel pthread_kill signal sleep usleep",
}
OUTSIDE_BASE = {"raw I/O (use lb_file, or say banned-ok: why)": "read write readv writev"}
# f(g(&x), x): C does not say which argument is evaluated first (docs/incidents.md, 1).
ORDER = re.compile(r"\w\((?:(?!&&)[^;|?])*\w\((?:(?!&&)[^;|?])*&(\w+)\), *\1\b[^;]*\);")
INCLUDES = {"assert.h": "assertions that NDEBUG removes (use base/assert.h)"}

STRIP = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


def blank(m):
    """Comments and literals to spaces, newlines kept, so that line numbers stay."""
    return re.sub(r"[^\n]", " ", m.group(0))


def rules(component):
    table = {}
    groups = dict(NEVER)
    if component != "base":
        groups.update(OUTSIDE_BASE)
    for why, names in groups.items():
        for name in names.split():
            table[name] = why
    return table


def check(path, text, table):
    lines = text.splitlines()
    # Not after "." or "->" (a member) and not after a word (a definition or declaration: "int read(").
    call = re.compile(r"(?<![\w.>])(%s)\s*\(" % "|".join(map(re.escape, sorted(table))))
    for n, line in enumerate(STRIP.sub(blank, text).splitlines()):
        m = re.match(r"\s*#\s*include\s*<([^>]+)>", line)
        if m and m.group(1) in INCLUDES:
            yield f"{path}:{n + 1}: <{m.group(1)}>: {INCLUDES[m.group(1)]}"
        m = ORDER.search(line)
        if m:
            yield f"{path}:{n + 1}: {m.group(1)} is set and read in one call: the order is not defined"
        for m in call.finditer(line):
            if m.group(1) == "signal" and "SIG_IGN" in line:
                continue
            if re.search(r"\b(?:int|void|char|size_t|ssize_t|bool)\s+\**$", line[: m.start()]):
                continue
            if "banned-ok: " in lines[n] or (n and "banned-ok: " in lines[n - 1]):
                continue
            yield f"{path}:{n + 1}: {m.group(1)}(): {table[m.group(1)]}"


def self_test():
    """A check that cannot fail is worth nothing: show that it can."""
    cases = [
        ("imaging", "x = sprintf(b, f);", 1), ("base", "x = read(fd, p, n);", 0),
        ("imaging", "x = read(fd, p, n);", 1), ("imaging", "ops->read(d, p);", 0),
        ("imaging", "lb_file_read(d);", 0), ("imaging", "/* atoi(x) */ f(\"atoi(\");", 0),
        ("imaging", "n = read(fd, p, n); /* banned-ok: sysfs */", 0),
        ("imaging", "/* banned-ok: sysfs */\nn = read(fd, p, n);", 0),
        ("base", "#include <assert.h>", 1), ("base", "a = atoi(s) + system(t);", 2),
        ("siteagent", "set(o, age_of(&a->g, &age), age);", 1), ("siteagent", "set(o, age_of(&age));", 0),
        ("siteagent", "(void)signal(SIGPIPE, SIG_IGN);", 0), ("siteagent", "signal(SIGTERM, stop);", 1),
    ]
    for component, text, expect in cases:
        found = list(check("self-test", text, rules(component)))
        if len(found) != expect:
            sys.exit(f"check-banned self-test: {text!r} in {component}: {found}, expected {expect}")


def main():
    self_test()
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    bad = []
    for component in COMPONENTS:
        for path in sorted((root / component).rglob("*.[ch]")):
            bad += check(path.relative_to(root), path.read_text(errors="replace"), rules(component))
    print("\n".join(bad) or "no banned calls")
    return 1 if bad else 0


sys.exit(main())
