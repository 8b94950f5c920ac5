#!/usr/bin/env python3
"""Make a realistic disk image and what it looks like a day later.

usage: images.py DIR [SIZE_MIB]

base.raw is a sparse ext4 image (mke2fs -d) of real files of this machine (35 %), noise (30 %) and
holes (35 %). The others are copies of it:
  a.raw  1 % of the 4 KiB blocks rewritten, scattered
  b.raw  5 % of the blocks rewritten, scattered
  c.raw  5 % rewritten in runs of 1 MiB
  d.raw  10 % moved: by whole blocks, or by 1..4095 bytes
  e.raw  churn of the mounted file system: files replaced, removed, new, logs appended (needs root)
A rewritten block is a small edit (25 %), text that compresses 2:1 (50 %) or noise (25 %); 80 % of
them held data before. Everything follows from one seed and from the files of the machine; dirty
blocks of a, b and c are listed in X.map ("block count" lines). Existing files are kept.
"""
import os
import random
import shutil
import subprocess
import sys
import tempfile

BLOCK = 4096
SEED = 20240601
WORDS = [b"the ", b"request ", b"status=", b"error ", b"GET /index ", b"user_id=", b"2024-06-0",
         b"INFO ", b"commit ", b"\n", b"0x00", b"replica ", b"lag ", b"site-b ", b"NULL,", b"true",
         b"value", b"=", b"; ", b"snapshot ", b"id:"]


def run(*argv, **kw):
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, **kw)


def text(rnd, n):
    out = bytearray()
    while len(out) < n:
        if rnd.random() < 0.4:
            out += b"%x" % rnd.getrandbits(8 + rnd.randrange(40))
        else:
            out += rnd.choice(WORDS)
    return bytes(out[:n])


def real_files(rnd, budget):
    found = []
    for top in ("/usr/bin", "/usr/lib", "/usr/share"):
        for path, _, names in os.walk(top):
            for name in names:
                full = os.path.join(path, name)
                if os.path.islink(full) or name.endswith((".gz", ".xz", ".zst")):
                    continue
                size = os.path.getsize(full)
                if 0 < size < 64 << 20:
                    found.append((full, size))
    found.sort()
    rnd.shuffle(found)
    for full, size in found:
        size = (size + BLOCK - 1) // BLOCK * BLOCK
        if size <= budget:
            budget -= size
            yield full


def make_base(path, size):
    rnd = random.Random(SEED)
    stage = tempfile.mkdtemp(dir=os.path.dirname(path))
    for sub in ("data", "media", "var/log", "db"):
        os.makedirs(os.path.join(stage, sub))
    for n, full in enumerate(real_files(rnd, size * 35 // 100 - (16 << 20))):
        shutil.copyfile(full, os.path.join(stage, "data", "%05d" % n))
    left, n = size * 30 // 100, 0
    while left > 0:
        size_n = min(left, 65536 << (n * 7 % 10))
        with open(os.path.join(stage, "media", "blob%05d" % n), "wb") as f:
            f.write(rnd.randbytes(size_n))
        left, n = left - size_n, n + 1
    with open(os.path.join(stage, "var/log/syslog"), "wb") as f:
        f.write(text(rnd, 4 << 20))
    with open(os.path.join(stage, "db/main.db"), "wb") as f:
        f.write(text(rnd, 2 << 20) + rnd.randbytes(2 << 20))
    with open(path + ".tmp", "wb") as f:
        f.truncate(size)
    run("mke2fs", "-q", "-F", "-t", "ext4", "-b", str(BLOCK), "-m", "1", "-i", "32768", "-O",
        "^metadata_csum", "-d", stage, path + ".tmp")
    run("fallocate", "-d", path + ".tmp")
    shutil.rmtree(stage)
    os.rename(path + ".tmp", path)


class Image:
    """A copy of the base that notes which blocks it changed."""

    def __init__(self, base, path):
        run("cp", "--sparse=always", base, path)
        self.file = open(path, "r+b")
        self.blocks = os.path.getsize(path) // BLOCK
        self.dirty = set()
        self.zero = bytes(BLOCK)

    def read(self, block):
        self.file.seek(block * BLOCK)
        return self.file.read(BLOCK)

    def rewrite(self, rnd, block):
        old = self.read(block)
        kind = rnd.randrange(4)
        if kind == 0 and old != self.zero:
            n = 16 + rnd.randrange(497)
            at = rnd.randrange(BLOCK - n)
            new = old[:at] + rnd.randbytes(n) + old[at + n:]
        elif kind == 3:
            new = rnd.randbytes(BLOCK)
        else:
            new = text(rnd, BLOCK)
        self.file.seek(block * BLOCK)
        self.file.write(new)
        self.dirty.add(block)

    def pick(self, rnd, align):
        """A start that is not dirty; four of five hold data."""
        want_zero = rnd.randrange(100) < 20
        for _ in range(1000):
            block = rnd.randrange(self.blocks // align) * align
            if block not in self.dirty and (self.read(block) == self.zero) == want_zero:
                return block
        return block

    def close(self, map_path):
        self.file.close()
        with open(map_path, "w") as f:
            for block in sorted(self.dirty):
                f.write("%d 1\n" % block)


def scatter(img, rnd, count, align):
    while len(img.dirty) < count:
        start = img.pick(rnd, align)
        for i in range(align):
            img.rewrite(rnd, start + i)


def shift(img, rnd, count):
    region = 1024  # blocks
    turn = 0
    while len(img.dirty) < count:
        start = rnd.randrange(img.blocks - 2 * region)
        if img.read(start) == img.zero or start in img.dirty:
            continue
        img.file.seek(start * BLOCK)
        old = img.file.read(region * BLOCK)
        by = 1 + rnd.randrange(BLOCK - 1) if turn % 2 else (1 + rnd.randrange(64)) * BLOCK
        turn += 1
        img.file.seek(start * BLOCK)
        img.file.write(old[-by:] + old[:-by])
        img.dirty.update(range(start, start + region))


def churn(path, rnd):
    """What a day of package updates and services does to a root file system."""
    mnt = tempfile.mkdtemp()
    run("mount", "-o", "loop,noatime", path, mnt)
    try:
        data = os.path.join(mnt, "data")
        names = sorted(os.listdir(data))
        rnd.shuffle(names)
        n = len(names)
        for name in names[:n * 3 // 100]:
            full = os.path.join(data, name)
            with open(full, "rb") as f:
                old = f.read()
            with open(full + ".new", "wb") as f:
                f.write(b"# build 2\n" + old)
            os.rename(full + ".new", full)
        for name in names[n * 3 // 100:n * 4 // 100]:
            os.unlink(os.path.join(data, name))
        for name in names[n * 4 // 100:n * 5 // 100]:
            shutil.copyfile(os.path.join(data, name), os.path.join(data, name + ".copy"))
        with open(os.path.join(mnt, "var/log/syslog"), "ab") as f:
            f.write(text(rnd, 8 << 20))
        with open(os.path.join(mnt, "db/main.db"), "r+b") as f:
            for _ in range(150):
                f.seek(rnd.randrange(1024) * BLOCK)
                f.write(text(rnd, BLOCK))
        with open(os.path.join(mnt, "media/new"), "wb") as f:
            f.write(rnd.randbytes(os.path.getsize(path) // 200))
        run("sync", "-f", mnt)
    finally:
        run("umount", mnt)
        os.rmdir(mnt)


def make(directory, size_mib):
    os.makedirs(directory, exist_ok=True)
    at = lambda name: os.path.join(directory, name)
    if not os.path.exists(at("base.raw")):
        make_base(at("base.raw"), size_mib << 20)
    blocks = os.path.getsize(at("base.raw")) // BLOCK
    kinds = {
        "a": lambda img, rnd: scatter(img, rnd, blocks // 100, 1),
        "b": lambda img, rnd: scatter(img, rnd, blocks // 20, 1),
        "c": lambda img, rnd: scatter(img, rnd, blocks // 20, 256),
        "d": lambda img, rnd: shift(img, rnd, blocks // 10),
    }
    for n, (name, fn) in enumerate(sorted(kinds.items())):
        if os.path.exists(at(name + ".raw")):
            continue
        img = Image(at("base.raw"), at(name + ".tmp"))
        fn(img, random.Random(SEED + 1 + n))
        img.close(at(name + ".map"))
        os.rename(at(name + ".tmp"), at(name + ".raw"))
    if not os.path.exists(at("e.raw")) and os.geteuid() == 0:
        run("cp", "--sparse=always", at("base.raw"), at("e.tmp"))
        churn(at("e.tmp"), random.Random(SEED + 9))
        os.rename(at("e.tmp"), at("e.raw"))


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    make(sys.argv[1], int(sys.argv[2]) if len(sys.argv) == 3 else 1024)
