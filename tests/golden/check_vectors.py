#!/usr/bin/env python3
"""A second reading of docs/formats/: recompute checksums, leaf hashes and roots of the golden
vectors from the pages' words alone, with nothing of the product. Usage: check_vectors.py FOLDER"""
import hashlib
import pathlib
import struct
import sys


def crc32c_from(before, data):
    crc = before ^ 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def crc32c(data):
    return crc32c_from(0, data)


def tree(hashes):
    if len(hashes) == 1:
        return hashes[0]
    split = 1
    while split * 2 < len(hashes):
        split *= 2
    return hashlib.sha256(b"\1" + tree(hashes[:split]) + tree(hashes[split:])).digest()


def leaf(part):
    pieces = [part[i:i + 2048] for i in range(0, max(len(part), 1), 2048)]
    return tree([hashlib.sha256(b"\0" + p).digest() for p in pieces])


def u32(data, at):
    return struct.unpack_from("<I", data, at)[0]


def draft_good(d):
    """The journal's header, and its entries' chain of checksums to the last byte."""
    crc, at, kinds = crc32c(d[:336]), 336, []
    good = u32(d, 332) == crc32c(d[:332]) and d[8:12] == b"LBL1"
    while good and at < len(d):
        kind, size = u32(d, at + 4), u32(d, at + 8)
        crc = crc32c_from(crc, d[at + 4:at + 12 + size])
        good = u32(d, at) == crc
        kinds.append(kind)
        at += 12 + size
    return good and at == len(d) and kinds == [1, 1, 2, 3, 4]


def main():
    v = {f.stem: bytes.fromhex(f.read_text().replace("\n", ""))
         for f in pathlib.Path(sys.argv[1]).glob("*.hex")}
    parts = [v[n] for n in ("layer-header", "pack-lz4", "pack-plain", "digests", "index")]
    leaves = [leaf(p) for p in parts]
    footer = v["footer"]
    total = sum(map(len, parts))
    root = hashlib.sha256(b"lifeboat layer root v1\0" + struct.pack("<IIIQ", 2, 1, 1, total) +
                          tree(leaves)).digest()
    frames = [d for n, d in v.items() if n.startswith("frame-")]
    checks = {
        "header's checksum": u32(v["layer-header"], 252) == crc32c(v["layer-header"][:252]),
        "footer's checksum": u32(footer, 124) == crc32c(footer[:124]),
        "record's checksums": u32(v["record"], 52) == crc32c(v["record"][:52]) and
                              u32(v["record"], 48) == crc32c(b"hello"),
        "frames' checksums": len(frames) == 16 and
                             all(u32(f, 12) == crc32c(f[:12]) for f in frames),
        "frames' lengths": all(u32(f, 8) == len(f) - 16 for f in frames),
        "draft's checksums": draft_good(v["draft"]),
        "leaves": v["leaves"][16:] == b"".join(leaves),
        "counts": struct.unpack_from("<IIIIIQ", footer, 4) == (2, 1, 1, 1, 0, total),
        "root in the footer": footer[80:112] == root,
        "root in the manifest": v["manifest"][205 + 64:205 + 96] == root,
        "manifest's hash in the receipt":
            v["receipt"][72:104] == hashlib.sha256(v["manifest"]).digest(),
    }
    for name, good in checks.items():
        print(f"{'ok ' if good else 'BAD'} {name}")
    return 0 if all(checks.values()) else 1


sys.exit(main())
