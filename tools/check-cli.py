#!/usr/bin/env python3
"""What the programs say of themselves against the pages that tell it.

  check-cli.py ROOT BIN_DIR SCRATCH_DIR [--write]

docs/cli.md, the generated parts of man/*.scd (between the lines "; begin NAME" and "; end NAME") and
tests/golden/cli/errors.txt are made from the programs; --write makes them, otherwise a difference fails.
Also: every path of agent_api.c is in docs/control-api.md and the other way round, every event that is logged
is in docs/events.md and the other way round, each man page builds (scdoc), completion scripts parse (bash,
zsh, fish), the example configuration and runbooks of dist/ are accepted.
"""
import pathlib, re, shutil, subprocess, sys

root, bindir, scratch = (pathlib.Path(p).resolve() for p in sys.argv[1:4])
write = "--write" in sys.argv[4:]
bad, notes = [], []
COMPONENTS = ["base", "imaging", "replicator", "vmcore", "runbooks", "siteagent"]


def run(argv, **kw):
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "TZ": "UTC"}
    p = subprocess.run([str(a) for a in argv], cwd=root, env=env, text=True, stdin=subprocess.DEVNULL,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, **kw)
    return p.returncode, p.stdout


def lifeboat(*args):
    return run([bindir / "lifeboat", *args])


def same(path, text):
    path = root / path
    if write:
        path.write_text(text)
    elif not path.exists() or path.read_text() != text:
        bad.append(f"{path.relative_to(root)} is not what the programs say; tools/check-cli.py ... --write makes it")


def part(path, name, text):
    """Replace what stands between the marks of @name in @path."""
    old = (root / path).read_text()
    new, n = re.subn(rf"(?ms)^; begin {name}\n.*?^; end {name}$", lambda m: f"; begin {name}\n{text}; end {name}", old)
    if n != 1:
        bad.append(f"{path}: no place for {name}")
    else:
        same(path, new)


# ---- verbs

def verbs():
    out = []
    for line in lifeboat("--help")[1].splitlines():
        if not re.match(r"  [a-z]", line):
            continue
        words = [w for w in line[2:30].split() if re.match(r"[a-z]", w)]
        rc, text = lifeboat(*words, "--help")
        m = re.match(r"usage: lifeboat (.*)\n\n(.*)\n\nexample:\n  (.*)\n$", text)
        if rc != 0 or not m:
            bad.append(f"lifeboat {' '.join(words)} --help: exit {rc}, unexpected text")
            continue
        out.append((" ".join(words), *m.groups()))
    if len(out) < 30:
        bad.append(f"only {len(out)} verbs found in lifeboat --help")
    return out


def cli_md(all_verbs):
    text = """# The lifeboat command

`lifeboat NOUN [VERB] [ARG...] [--option...]` is a client of the agent's control API (control-api.md) on a unix
socket: `--socket PATH`, else `$LIFEBOAT_SOCKET`, else `/run/lifeboat/control.sock`. Every verb takes `--json`,
which prints the agent's answer as it is, or `{"error": {"code", "message", "hint"}}`, and `--help`; `tui`, `vm console` and
wrong usage have no JSON. This page is made from the program (tools/check-cli.py).

Exit status: 0 done; 1 another failure; 2 wrong usage; 3 refused input or no such thing; 4 nobody answers, or
try again; 5 not permitted (also: the typed site name is missing); 6 stored data is damaged; 7 fenced.
Errors go to standard error as `lifeboat: CODE: what was tried`, where CODE is one of base/include/base/err.h
and never changes its meaning.

"""
    for name, usage, help_, example in all_verbs:
        text += f"## {name}\n\n    lifeboat {usage}\n\n{help_[0].upper() + help_[1:]}.\n\n    $ {example}\n\n"
    return text.rstrip("\n") + "\n"


def scd(s):
    return re.sub(r"([\\*_`])", r"\\\1", s)


def man_commands(all_verbs):
    text = ""
    for name, usage, help_, example in all_verbs:
        args = usage[len(name):]
        text += f"*{scd(name)}*{scd(args)}\n\t{scd(help_[0].upper() + help_[1:])}.\n\n\tExample: {scd(example)}\n\n"
    return text


def man_keys():
    text, key = "", None
    for line in lifeboat("config", "keys")[1].splitlines():
        if line.startswith(" "):
            text += f"\t{scd(line.strip())}.\n\n"
        else:
            key, kind = line.split(":", 1)
            text += f"*{scd(key)}*:{scd(kind)}\n"
    if key is None:
        bad.append("lifeboat config keys prints nothing")
    return text


def tui_keys():
    text = ""
    for line in run([bindir / "lifeboat-tui", "--keys"])[1].splitlines():
        key, where, what = line.split("\t")
        text += f"*{scd(key)}*{' in ' + where if where else ''}\n\t{scd(what)}.\n\n"
    if not text:
        bad.append("lifeboat-tui --keys prints nothing")
    return text


# ---- errors

def errors():
    text = ""
    for line in (root / "tests/golden/cli/errors.in").read_text().splitlines():
        rc, said = lifeboat(*line.split())
        text += f"$ lifeboat {line}\n{said}= {rc}\n\n"
    return text


# ---- completion

PROBES = {  # what completes `lifeboat point ex` in each shell, without a terminal
    "bash": "source {script}; COMP_WORDS=(lifeboat point ex); COMP_CWORD=2; _lifeboat; echo ${{COMPREPLY[@]}}",
    "zsh": "compdef() {{ :; }}; compadd() {{ print -l -- ${{(P)2}}; }}; source {script}; "
           "words=(lifeboat point ex); CURRENT=3; _lifeboat",
    "fish": "source {script}; complete -C 'lifeboat point ex'",
}
NEXT = [  # words on the line, the last one being typed; what may stand there
    (["sta"], ["status"]), (["point", "exp"], ["export"]), (["point", "list", "--g"], ["--group"]),
    (["runbook", "plan", "x", "--mode", ""], ["drill", "failover", "planned"]),
    (["--socket", "/nonexistent", "stat"], ["status"]), (["completion", "z"], ["zsh"]), (["nonsense", "x"], []),
    (["point", "show", "l"], ["latest"]), (["point", "show", "--group", "x", "l"], ["latest"]),
]


def completion():
    for words, want in NEXT:
        rc, said = lifeboat("completion", "words", *words)
        if rc != 0 or said.split() != want:
            bad.append(f"completion of {words}: exit {rc}, {said.split()}, expected {want}")
    for shell, probe in PROBES.items():
        rc, text = lifeboat("completion", shell)
        script = scratch / f"completion.{shell}"
        script.write_text(text)
        if rc != 0 or "lifeboat completion words" not in text:
            bad.append(f"completion {shell}: exit {rc}")
        if shutil.which(shell) is None:
            notes.append(f"{shell} is not here: its completion was not tried")
            continue
        options = {"zsh": ["-f"], "fish": ["--no-config"]}.get(shell, [])
        rc, said = run([shell, *options, "-c", f"PATH={bindir}:$PATH; " + probe.format(script=script)]
                       if shell != "fish" else
                       [shell, *options, "-c", f"set -x PATH {bindir} $PATH; " + probe.format(script=script)])
        if said.strip() != "export":
            bad.append(f"{shell} completion of `lifeboat point ex`: {said.strip()!r}")


# ---- pages against sources

def control_api():
    table = re.search(r"\} paths\[\] = \{(.*?)\n\};", (root / "siteagent/src/agent_api.c").read_text(), re.S)
    have = {(m, "/v1/" + p) for m, p in re.findall(r'\{"(GET|POST)", "([^"]+)"', table.group(1))}
    told = re.findall(r"^### (GET|POST) (\S+)$", (root / "docs/control-api.md").read_text(), re.M)
    told = {(m, re.sub(r"\b[A-Z]+\b", "*", p.split("?")[0])) for m, p in told}
    for m, p in sorted(have - told):
        bad.append(f"docs/control-api.md lacks {m} {p}")
    for m, p in sorted(told - have):
        bad.append(f"docs/control-api.md tells of {m} {p}, which agent_api.c does not know")
    if len(have) < 20:
        bad.append("agent_api.c: the table of paths was not found")


def events():
    have = {}
    for comp in COMPONENTS:
        for f in (root / comp).rglob("*.c"):
            text = re.sub(r"/\*.*?\*/", "", f.read_text(), flags=re.S)
            for m in re.finditer(r'\blb_log\(\s*([^,]+?),\s*"(\w+)",\s*([^;]*?)(?:,\s*"|,\s*NULL)', text, re.S):
                names = re.findall(r'"(\w+)"', m.group(3))
                if names:
                    have.update({(m.group(2), n): f.name for n in names})
                elif (f.name, m.group(3).strip()) not in PASSED_ON:
                    bad.append(f"{f.name}: lb_log() with an event that is no literal: {m.group(3)}")
    have.update({key: "passed on" for keys in PASSED_ON.values() for key in keys})
    told = set(re.findall(r"^\| `(\w+)` \| `(\w+)` \|", (root / "docs/events.md").read_text(), re.M))
    for comp, ev in sorted(set(have) - told):
        bad.append(f"docs/events.md lacks comp={comp} ev={ev} ({have[comp, ev]})")
    for comp, ev in sorted(told - set(have)):
        bad.append(f"docs/events.md tells of comp={comp} ev={ev}, which nobody logs")
    if len(have) < 20:
        bad.append("lb_log() calls were not found")


def passed_on():
    """Events whose name is an argument: (file, expression) -> names, taken from who passes them."""
    names = set()
    for f in [*(root / "replicator/src").glob("*.c"), root / "siteagent/src/agent_backup.c"]:
        names |= set(re.findall(r'\b(?:alarm_push|on_alarm)\([^;"]*"(\w+)"', f.read_text()))
    return {("agent_backup.c", "ev"): {("store", n) for n in names}}


def man_pages():
    for page in sorted((root / "man").glob("*.scd")):
        if shutil.which("scdoc") is None:
            notes.append("scdoc is not here: man pages were not built")
            return
        with open(page) as f:
            p = subprocess.run(["scdoc"], stdin=f, capture_output=True, text=True)
        if p.returncode != 0 or ".TH" not in p.stdout:
            bad.append(f"{page.name}: {p.stderr.strip()}")


def examples():
    rc, said = lifeboat("config", "check", "dist/lifeboat.yaml")
    if rc != 0:
        bad.append(f"dist/lifeboat.yaml: {said.strip()}")
    for runbook in sorted((root / "dist/runbooks").glob("*.yaml")):
        rc, said = lifeboat("runbook", "lint", runbook)
        if rc != 0:
            bad.append(f"dist/runbooks/{runbook.name}: {said.strip()}")
    unit = (root / "dist/lifeboatd.service").read_text()
    for key in ("ExecStart=/usr/sbin/lifeboatd", "[Install]", "LimitCORE=0"):
        if key not in unit:
            bad.append(f"dist/lifeboatd.service lacks {key}")
    if shutil.which("systemd-analyze"):
        rc, said = run(["systemd-analyze", "verify", "dist/lifeboatd.service"])
        said = "\n".join(l for l in said.splitlines() if re.search("lifeboatd.service:.*(Unknown|parse|Invalid|ssignment)", l))
        if said:
            bad.append(said)


def screens():
    """docs/tui.md shows the golden screens."""
    def block(m):
        f = root / "tests/golden/tui/screens" / (m.group(1) + ".txt")
        if not f.exists():
            bad.append(f"docs/tui.md: no screen {m.group(1)}")
            return m.group(0)
        return f"<!-- screen {m.group(1)} -->\n```text\n{f.read_text().rstrip()}\n```\n<!-- end -->"

    old = (root / "docs/tui.md").read_text()
    same("docs/tui.md", re.sub(r"(?ms)^<!-- screen (\S+) -->\n.*?^<!-- end -->$", block, old))


PASSED_ON = passed_on()
scratch.mkdir(parents=True, exist_ok=True)
vs = verbs()
same("docs/cli.md", cli_md(vs))
part("man/lifeboat.1.scd", "commands", man_commands(vs))
part("man/lifeboat.yaml.5.scd", "keys", man_keys())
part("man/lifeboat-tui.1.scd", "keys", tui_keys())
same("tests/golden/cli/errors.txt", errors())
completion()
control_api()
events()
man_pages()
examples()
screens()
print("\n".join(notes + (bad or ["cli ok"])))
sys.exit(1 if bad else 0)
