#!/usr/bin/env python3
"""Fail when a page below docs/ disagrees with the headers or the golden vectors.

A comment before a table or a code block says what stands there and is checked:

  <!-- enum rep_frame_type -->   table of | `NAME` | number | ...: exactly the enum's values, where
                                 NAME is the part after the enum's common prefix
  <!-- constants -->             table of | `REP_...` | value | ...: each equals the #define
  <!-- layout 256 -->            table of | offset | size | ...: no gap, no overlap, 256 in all;
                                 from the first size that is not a number on, offsets are free
  <!-- golden NAME -->           code block that is tests/golden/formats/NAME.hex

Enums and constants in REQUIRED, and every golden vector, must stand in some page.
Usage: check-docs.py ROOT [--self-test]: the self test breaks copies of the pages in memory, one
place at a time, and fails unless each break is found.
"""
import pathlib
import re
import sys

REQUIRED_ENUMS = ["rep_frame_type", "rep_refuse_reason", "rep_record_kind", "rep_volume_kind",
                  "rep_codec", "rep_run_kind", "rep_consistency", "rep_attachment_kind"]
REQUIRED_CONSTANTS = ["REP_BLOCK_BYTES", "REP_PACK_MAX_BLOCKS", "REP_INDEX_MAX_RUNS",
                      "REP_INDEX_MAX_SOURCES", "REP_DIGESTS_MAX", "REP_LEAVES_MAX",
                      "REP_RECORD_MAX", "REP_VOLUME_MAX_BYTES", "REP_LAYER_MAX_PACKS",
                      "REP_LAYER_MAX_PARTS", "REP_FRAME_MAX", "REP_OFFER_MAX_LAYERS",
                      "REP_ADMIT_MAX_EXTRA", "REP_HELLO_MAX_CONNECTIONS", "REP_PROTOCOL_VERSION",
                      "REP_MANIFEST_MAX_VOLUMES", "REP_MANIFEST_MAX_ATTACHMENTS", "REP_NAME_MAX",
                      "REP_ATTACHMENT_MAX", "REP_RECEIPT_BYTES", "REP_RECORD_HEADER_BYTES"]
MARK = re.compile(r"<!--\s*(enum|constants|layout|golden)\s*(\S*)\s*-->")


def strip_comments(text):
    return re.sub(r"/\*.*?\*/", " ", text, flags=re.S)


def read_headers(root):
    """({enum: {name: number}}, {define: value}) of base's and the replicator's public headers."""
    enums, raw = {}, {}
    for header in sorted(root.glob("base/include/base/*.h")) + sorted(
            root.glob("replicator/include/replicator/*.h")):
        text = strip_comments(header.read_text()).replace("\\\n", " ")
        for name, body in re.findall(r"enum\s+(\w+)\s*\{([^}]*)\}", text):
            pairs = re.findall(r"(\w+)\s*=\s*(\d+)", body)
            if pairs:
                enums[name] = {n: int(v) for n, v in pairs}
        for name, value in re.findall(r"^#define\s+([A-Z0-9_]+)[ \t]+(.+)$", text, flags=re.M):
            raw[name] = value.strip()
    values = {}

    def value_of(name, depth=0):
        expr = re.sub(r"UINT(?:32|64)_C\((\d+)\)", r"\1", raw[name])
        expr = re.sub(r"\b(\d+)[uUlL]+\b", r"\1", expr)
        for word in set(re.findall(r"[A-Z][A-Z0-9_]+", expr)):
            if depth > 8 or word not in raw:
                raise ValueError(name)
            expr = re.sub(rf"\b{word}\b", str(value_of(word, depth + 1)), expr)
        if not re.fullmatch(r"[\d\s()+*<-]+", expr):
            raise ValueError(name)
        return eval(expr)  # digits, parentheses and + - * < only

    for name in raw:
        try:
            values[name] = value_of(name)
        except (ValueError, SyntaxError, TypeError):
            continue
    return enums, values


def table_after(lines, i):
    """Cells of the table rows after line i, heading and rule left out; with line numbers."""
    rows = []
    while i < len(lines) and not lines[i].startswith("|"):
        if lines[i].strip():
            return rows
        i += 1
    while i < len(lines) and lines[i].startswith("|"):
        rows.append((i + 1, [c.strip() for c in lines[i].strip().strip("|").split("|")]))
        i += 1
    return rows[2:]


def block_after(lines, i):
    while i < len(lines) and not lines[i].strip():
        i += 1
    if i >= len(lines) or not lines[i].startswith("```"):
        return ""
    out = []
    for line in lines[i + 1:]:
        if line.startswith("```"):
            break
        out.append(line.strip())
    return "".join(out)


def number(cell):
    return int(cell.replace(",", ""))


def check_enum(name, rows, enums):
    if name not in enums:
        return [f"no enum {name} in the headers"]
    names = list(enums[name])
    prefix = names[0]
    while not all(n.startswith(prefix) for n in names):
        prefix = prefix[:-1]
    prefix = prefix[:prefix.rindex("_") + 1]
    want = {n[len(prefix):]: v for n, v in enums[name].items()}
    got = {}
    for line, cells in rows:
        if len(cells) < 2 or not cells[1].isdigit():
            return [f"line {line}: no number in a row of enum {name}"]
        got[cells[0].strip("`")] = int(cells[1])
    return [f"enum {name}: {n} is {want.get(n, 'not')} in the header, {got.get(n, 'not')} here"
            for n in sorted(set(want) | set(got)) if want.get(n) != got.get(n)]


def check_constants(rows, values, seen):
    bad = []
    for line, cells in rows:
        name = cells[0].strip("`")
        seen.add(name)
        if name not in values:
            bad.append(f"line {line}: no constant {name} in the headers")
        elif number(cells[1]) != values[name]:
            bad.append(f"line {line}: {name} is {values[name]}, not {cells[1]}")
    return bad if rows else ["a table of constants without rows"]


def check_layout(total, rows):
    at, fixed = 0, True
    for line, cells in rows:
        if fixed and (not cells[0].isdigit() or int(cells[0]) != at):
            return [f"line {line}: offset {cells[0]}, the field before ends at {at}"]
        if not cells[1].isdigit():
            fixed = False
        elif fixed:
            at += int(cells[1])
    if not rows or at != int(total):
        return [f"layout of {total} bytes has {at}"]
    return []


def check(root, pages, enums, values):
    bad, seen_enums, seen_constants, seen_golden = [], set(), set(), set()
    for page, text in pages.items():
        lines = text.splitlines()
        for i, line in enumerate(lines):
            m = MARK.search(line)
            if not m:
                continue
            kind, arg = m.groups()
            if kind == "enum":
                seen_enums.add(arg)
                found = check_enum(arg, table_after(lines, i + 1), enums)
            elif kind == "constants":
                found = check_constants(table_after(lines, i + 1), values, seen_constants)
            elif kind == "layout":
                found = check_layout(arg, table_after(lines, i + 1))
            else:
                seen_golden.add(arg)
                path = root / "tests/golden/formats" / f"{arg}.hex"
                want = path.read_text().replace("\n", "") if path.exists() else None
                same = want is not None and block_after(lines, i + 1) == want
                found = [] if same else [f"differs from {path.relative_to(root)}"]
            bad += [f"{page}:{i + 1}: {f}" for f in found]
    bad += [f"enum {e} stands in no page" for e in REQUIRED_ENUMS if e not in seen_enums]
    bad += [f"{c} stands in no page" for c in REQUIRED_CONSTANTS if c not in seen_constants]
    for f in sorted((root / "tests/golden/formats").glob("*.hex")):
        if f.stem not in seen_golden:
            bad.append(f"{f.relative_to(root)} stands in no page")
    return bad


def self_test(root, pages, enums, values):
    """Break one thing at a time; each break must be found."""
    breaks = 0
    for page, text in pages.items():
        lines = text.splitlines()
        for i, line in enumerate(lines):
            m = MARK.search(line)
            if not m:
                continue
            body = next(k for k in range(i + 1, len(lines)) if lines[k].strip())
            row = body + 1 if lines[body].startswith("```") else body + 2
            broken = [re.sub(r"\d", lambda d: str((int(d[0]) + 1) % 10), lines[row], count=1)]
            if m[1] in ("enum", "layout"):
                broken.append(None)  # the row gone
            for new in broken:
                changed = lines[:row] + ([new] if new is not None else []) + lines[row + 1:]
                if changed == lines:
                    continue
                breaks += 1
                if not check(root, {**pages, page: "\n".join(changed)}, enums, values):
                    print(f"{page}:{row + 1}: a broken line was not found: {new}")
                    return 1
    if breaks < 20:
        print(f"self test broke only {breaks} places")
        return 1
    print(f"self test: {breaks} breaks, all found")
    return 0


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    pages = {str(p.relative_to(root)): p.read_text() for p in sorted(root.glob("docs/**/*.md"))}
    enums, values = read_headers(root)
    bad = check(root, pages, enums, values)
    print("\n".join(bad) or f"docs ok: {len(pages)} pages")
    if bad:
        return 1
    return self_test(root, pages, enums, values) if "--self-test" in sys.argv else 0


sys.exit(main())
