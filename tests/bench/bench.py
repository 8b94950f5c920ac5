#!/usr/bin/env python3
"""Measure the pipeline beside its peers. Called by run.sh; see there for the arguments.

Every figure is a ratio inside one run of this program: medians of -n runs (5), with the spread.
CPU is user + system of both ends, servers and helpers included; bytes are those on lo (TCP and TLS
headers too) unless said otherwise. Every result is compared with its source, byte by byte.
"""
import argparse
import ctypes
import os
import re
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import images
import vm

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
BUILD = os.path.join(ROOT, "build", "release", "tests")
PIPE = os.path.join(BUILD, "pipe")
PLAIN = os.path.join(BUILD, "libplain.so")
FLOOR = os.path.join(BUILD, "floor")
RAM = os.path.join(BUILD, "ram")
CUT = re.compile(r"^cut \d+ stage ([\d.]+) delta ([\d.]+) commit ([\d.]+) bytes (\d+) whole (\d+)",
                 re.M)
HASH = re.compile(r"point \d+ ([0-9a-f]{64})")


def lo_bytes():
    with open("/proc/net/dev") as f:
        for line in f:
            if line.strip().startswith("lo:"):
                return int(line.split(":")[1].split()[0])
    return 0


def cpu():
    u = resource.getrusage(resource.RUSAGE_CHILDREN)
    return u.ru_utime + u.ru_stime


def reap():
    """Orphans of ended servers are ours (subreaper): wait for them, so that their CPU counts."""
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def stop(proc, sig=signal.SIGTERM):
    if proc.poll() is None:
        proc.send_signal(sig)
    out = proc.communicate(timeout=60)[0]
    return out.decode() if out else ""


class Cost:
    """wall, cpu, bytes of what happens inside `with`; wall may be set by hand."""

    def __enter__(self):
        self.cpu0, self.lo0, self.t0, self.wall, self.bytes = cpu(), lo_bytes(), time.time(), None, None
        return self

    def __exit__(self, *exc):
        if self.wall is None:
            self.wall = time.time() - self.t0
        reap()
        self.cpu = cpu() - self.cpu0
        if self.bytes is None:
            self.bytes = lo_bytes() - self.lo0
        return False


def run(*argv, **kw):
    return subprocess.run(argv, check=True, capture_output=True, **kw).stdout.decode()


def warm(path):
    with open(path, "rb") as f:
        while f.read(1 << 20):
            pass


def port_wait(port):
    want = "%04X" % port
    for _ in range(1000):
        with open("/proc/net/tcp") as f:
            if any(x.split()[1].endswith(":" + want) and x.split()[3] == "0A"
                   for x in f.readlines()[1:]):
                return
        time.sleep(0.01)
    raise RuntimeError("nobody listens on port %d" % port)


class Bench:
    def __init__(self, opt):
        self.n = opt.n
        self.work = opt.w or tempfile.mkdtemp(prefix="lifeboat-bench-", dir="/var/tmp")
        self.size_mib = opt.s
        os.makedirs(self.work, exist_ok=True)
        self.dir = self.at("id")
        os.makedirs(self.dir, exist_ok=True)
        self.mismatch = 0
        self.port = 7911

    def at(self, *name):
        return os.path.join(self.work, *name)

    def image(self, name):
        return self.at("images", name + ".raw")

    def prepare(self):
        print("# images of %d MiB in %s" % (self.size_mib, self.work), flush=True)
        images.make(self.at("images"), self.size_mib)
        run(PIPE, "init", self.dir)
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-nodes", "-days", "9", "-subj", "/CN=localhost", "-keyout", self.at("key.pem"),
            "-out", self.at("crt.pem"))
        with open(self.at("cert.pem"), "w") as f:
            f.write(open(self.at("key.pem")).read() + open(self.at("crt.pem")).read())
        os.chmod(self.at("cert.pem"), 0o600)
        with open(self.at("psk"), "w") as f:
            f.write("bench:" + "5a" * 32 + "\n")

    # ---- ours ----

    def fresh(self, seeded):
        """A store and a source's state: empty, or as after the seed of base.raw."""
        shutil.rmtree(self.at("now"), ignore_errors=True)
        if seeded:
            if not os.path.exists(self.at("seeded")):
                os.makedirs(self.at("now"))
                self.ours("base", verify=True)
                os.rename(self.at("now"), self.at("seeded"))
            run("cp", "-a", self.at("seeded"), self.at("now"))
        else:
            os.makedirs(self.at("now"))

    def ours(self, image, options=(), target_options=(), env=None, verify=True):
        """Ship one image from the state in now/; returns a Cost with stats."""
        path = self.image(image) if "/" not in image else image
        warm(path)
        os.sync()
        env = dict(os.environ, **env) if env else None
        with Cost() as c:
            target = subprocess.Popen([PIPE, *target_options, "target", self.dir,
                                       self.at("now", "store")], stdout=subprocess.PIPE,
                                      stderr=subprocess.DEVNULL, env=env)
            port = target.stdout.readline().decode().split()[1]
            t0 = time.time()
            out = run(PIPE, *options, "source", self.dir, path, self.at("now", "state"), port,
                      env=env)
            c.wall = time.time() - t0
            c.target_out = stop(target)
        c.acked = float(re.search(r"acked \d+ wall ([\d.]+)", out).group(1))
        c.of_cut = float(re.search(r"of_cut ([\d.]+)", out).group(1))
        c.source_cpu = float(re.search(r"usage source cpu ([\d.]+)", out).group(1))
        c.rss_kib = int(re.search(r"usage source .* rss_kib (\d+)", out).group(1))
        c.read = int(re.search(r"stats read (\d+)", out).group(1))
        c.changed = int(re.search(r"changed (\d+)", out).group(1))
        if verify:
            self.verify(path)
        return c

    def verify(self, path):
        points = HASH.findall(run(PIPE, "points", self.dir, self.at("now", "store")))
        if os.path.exists(self.at("out")):
            os.unlink(self.at("out"))
        run(PIPE, "export", self.dir, self.at("now", "store"), points[-1], self.at("out"))
        self.same(self.at("out"), path)

    def same(self, a, b):
        if subprocess.run(["cmp", "-s", a, b], check=False).returncode != 0:
            self.mismatch += 1
            print("# RESULT DIFFERS: %s is not %s" % (a, b), flush=True)

    def deltas(self, image, n=None, **kw):
        def one():
            self.fresh(True)
            return self.ours(image, **kw)
        return [one() for _ in range(n or self.n)]

    def seeds(self, image="base", n=None, **kw):
        def one():
            self.fresh(False)
            return self.ours(image, **kw)
        return [one() for _ in range(n or self.n)]

    # ---- peers ----

    def rdiff(self, image):
        warm(self.image("base"))
        warm(self.image(image))
        sig, delta, out = self.at("sig"), self.at("delta"), self.at("out")
        for x in (sig, delta, out):
            if os.path.exists(x):
                os.unlink(x)
        with Cost() as c:
            run("rdiff", "-b", "4096", "signature", self.image("base"), sig)
            run("rdiff", "-b", "4096", "delta", sig, self.image(image), delta)
            run("rdiff", "patch", self.image("base"), delta, out)
        c.bytes = os.path.getsize(sig) + os.path.getsize(delta)
        self.same(out, self.image(image))
        return c

    def rsync(self, image, seeded):
        """rsync --inplace -z --zc=lz4 -B 4096, local: no encryption."""
        dst = self.at("dst")
        shutil.rmtree(dst, ignore_errors=True)
        if os.path.exists(dst):
            os.unlink(dst)
        if seeded:
            run("cp", "--sparse=always", self.image("base"), dst)
        warm(self.image(image))
        with Cost() as c:
            out = run("rsync", "-I", "--inplace", "--no-whole-file", "-z", "--zc=lz4", "-B", "4096",
                      "--stats", self.image(image), dst)
        c.bytes = sum(int(x.replace(",", ""))
                      for x in re.findall(r"Total bytes (?:sent|received): ([\d,]+)", out))
        self.same(dst, self.image(image))
        return c

    def rsync_tls(self, image):
        """rsyncd behind stunnel, TLS 1.3 at both ends, lz4. Its bytes cross lo three times."""
        dst = self.at("rs", "dst")
        shutil.rmtree(self.at("rs"), ignore_errors=True)
        os.makedirs(self.at("rs"))
        p = self.port
        conf = {
            "rsyncd": "use chroot=no\nport=%d\naddress=127.0.0.1\n[d]\npath=%s\nread only=no\n"
                      "uid=root\ngid=root\n" % (p, self.at("rs")),
            "server": "foreground=yes\npid=\nsslVersionMin=TLSv1.3\n[r]\naccept=127.0.0.1:%d\n"
                      "connect=127.0.0.1:%d\ncert=%s\n" % (p + 1, p, self.at("cert.pem")),
            "client": "foreground=yes\npid=\nclient=yes\nsslVersionMin=TLSv1.3\n[r]\n"
                      "accept=127.0.0.1:%d\nconnect=127.0.0.1:%d\n" % (p + 2, p + 1),
        }
        for name, text in conf.items():
            with open(self.at(name + ".conf"), "w") as f:
                f.write(text)
        warm(self.image(image))
        with Cost() as c:
            procs = [subprocess.Popen(a, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                     for a in (["rsync", "--daemon", "--no-detach", "--config",
                                self.at("rsyncd.conf")],
                               ["stunnel4", self.at("server.conf")],
                               ["stunnel4", self.at("client.conf")])]
            for i in range(3):
                port_wait(p + i)
            t0 = time.time()
            run("rsync", "--inplace", "--sparse", "-z", "--zc=lz4", self.image(image),
                "rsync://127.0.0.1:%d/d/dst" % (p + 2))
            c.wall = time.time() - t0
            for x in procs:
                stop(x)
        c.bytes //= 3
        self.same(dst, self.image(image))
        return c

    def nbdcopy_tls(self, image):
        """nbdcopy to nbdkit file over TLS (PSK), holes skipped, not compressed."""
        dst = self.at("dst")
        with open(dst, "wb") as f:
            f.truncate(os.path.getsize(self.image(image)))
        warm(self.image(image))
        with Cost() as c:
            server = subprocess.Popen(["nbdkit", "-f", "-i", "127.0.0.1", "-p", str(self.port),
                                       "--tls=require", "--tls-psk=" + self.at("psk"), "file",
                                       dst], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            port_wait(self.port)
            t0 = time.time()
            run("nbdcopy", "--destination-is-zero", self.image(image),
                "nbds://bench@127.0.0.1:%d/?tls-psk-file=%s" % (self.port, self.at("psk")))
            c.wall = time.time() - t0
            stop(server)
        self.same(dst, self.image(image))
        return c

    def lz4_tls(self, image):
        """lz4 -1 | socat TLS 1.3 | lz4 -d."""
        dst = self.at("dst")
        if os.path.exists(dst):
            os.unlink(dst)
        warm(self.image(image))
        with Cost() as c:
            server = subprocess.Popen(
                "socat -b 65536 -u OPENSSL-LISTEN:%d,reuseaddr,bind=127.0.0.1,cert=%s,verify=0 "
                "STDOUT | lz4 -dq -f - %s" % (self.port, self.at("cert.pem"), dst), shell=True)
            port_wait(self.port)
            t0 = time.time()
            run("sh", "-c", "lz4 -1 -c -q %s | socat -b 65536 -u STDIN "
                "OPENSSL:127.0.0.1:%d,verify=0" % (self.image(image), self.port))
            server.wait()
            c.wall = time.time() - t0
        self.same(dst, self.image(image))
        return c

    def repository(self, tool, image):
        """restic or borg into a local repository that holds base.raw already (None: empty)."""
        repo = self.at("repo")
        env = dict(os.environ, RESTIC_PASSWORD="x", BORG_PASSPHRASE="x", HOME=self.at("home"),
                   BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK="yes",
                   BORG_RELOCATED_REPO_ACCESS_IS_OK="yes")
        restic = ["restic", "-q", "-r", repo]
        back = {"restic": lambda i: run(*restic, "backup", "--force", self.image(i), env=env),
                "borg": lambda i: run("borg", "create", "--compression", "lz4",
                                      "--files-cache=disabled", repo + "::" + i, self.image(i),
                                      env=env)}[tool]
        size = lambda: sum(os.path.getsize(os.path.join(d, x))
                           for d, _, names in os.walk(repo) for x in names)
        shutil.rmtree(repo, ignore_errors=True)
        shutil.rmtree(self.at("home"), ignore_errors=True)
        if tool == "restic":
            run(*restic, "init", env=env)
        else:
            run("borg", "init", "-e", "repokey-blake2", repo, env=env)
        if image != "base":
            back("base")
        before = size()
        warm(self.image(image))
        with Cost() as c:
            back(image)
        c.bytes = size() - before
        return c

    # ---- the goals ----

    def many(self, fn, *args):
        return [fn(*args) for _ in range(self.n)]

    def p1(self):
        for case in "abce":
            if not os.path.exists(self.image(case)):
                print("P1.%s skipped: no image (e needs root)" % case)
                continue
            ours, theirs = self.deltas(case), self.many(self.rdiff, case)
            wall = med(theirs, "wall") / med(ours, "wall")
            used = med(theirs, "cpu") / med(ours, "cpu")
            size = med(ours, "bytes") / med(theirs, "bytes")
            ok = wall >= 15 and used >= 12 and (size <= 0.9 or case == "e")
            line("P1." + case, "wall %.1fx cpu %.1fx bytes %.2fx" % (wall, used, size),
                 "wall >=15x cpu >=12x bytes " + ("-" if case == "e" else "<=0.90x"), ok,
                 "delta by digests over TLS, stored durably, beside rdiff -b 4096 (no network, no "
                 "encryption): ours %s, rdiff %s" % (show(ours), show(theirs)))

    def p3(self):
        ours = self.seeds()
        peers = {"rsync+stunnel": self.many(self.rsync_tls, "base"),
                 "nbdcopy TLS": self.many(self.nbdcopy_tls, "base"),
                 "lz4|socat TLS": self.many(self.lz4_tls, "base")}
        best_cpu = min(peers, key=lambda k: med(peers[k], "cpu"))
        best_wall = min(peers, key=lambda k: med(peers[k], "wall"))
        used = med(peers[best_cpu], "cpu") / med(ours, "cpu")
        wall = med(peers[best_wall], "wall") / med(ours, "wall")
        size = med(ours, "bytes") / med(peers["lz4|socat TLS"], "bytes")
        line("P3", "cpu %.2fx wall %.2fx bytes %.3fx" % (used, wall, size),
             "cpu >=1.8x wall >=2x bytes <=1.0x", used >= 1.8 and wall >= 2 and size <= 1.0,
             "seed over TLS, sealed, hashed and synced, beside the best of three that only copy: "
             "ours %s; %s; least cpu %s, least wall %s" %
             (show(ours), "; ".join("%s %s" % (k, show(v)) for k, v in peers.items()), best_cpu,
              best_wall))

    def p7(self):
        digest = self.deltas("a")
        given = self.deltas("a", options=("--changed", self.at("images", "a.map")))
        with open(self.at("images", "a.map")) as f:
            dirty = sum(int(x.split()[1]) for x in f) * images.BLOCK
        wall, used = med(given, "of_cut") / med(digest, "of_cut"), med(given, "cpu") / med(digest, "cpu")
        read = med(given, "read") / dirty
        line("P7", "wall %.2fx cpu %.2fx read %.2fx" % (wall, used, read),
             "wall <=0.35x cpu <=0.60x read <=1.10x of dirty",
             wall <= 0.35 and used <= 0.6 and read <= 1.1,
             "case a with the changed blocks known, beside the digest scan; wall from cut to receipt: "
             "%s beside %s; start and handshake of both processes included: %s beside %s" % (
                 cut_to_receipt(given), cut_to_receipt(digest), show(given), show(digest)))

    def p8(self):
        floor = [float(run(FLOOR, self.image("base")).split()[3]) for _ in range(self.n)]
        two = self.deltas("base")
        one = self.deltas("base", options=("--workers", "1"))
        used = med(two, "source_cpu") / statistics.median(floor)
        sent = 100.0 * med(two, "bytes") / os.path.getsize(self.image("base"))
        wall = med(two, "of_cut") / med(one, "of_cut")
        line("P8", "cpu %.2fx sent %.4f %% wall %.2fx" % (used, sent, wall),
             "cpu <=2x sent <=0.05 % wall <=0.65x", used <= 2 and sent <= 0.05 and wall <= 0.65,
             "unchanged image: source process beside pread + XXH3-128 alone (%.3f s); two workers "
             "beside one, wall from cut to receipt: %s beside %s; with start and handshake of both "
             "processes: %s beside %s" % (statistics.median(floor), cut_to_receipt(two),
                                          cut_to_receipt(one), show(two), show(one)))

    def p9(self):
        env = {"LD_PRELOAD": PLAIN}
        res = {}
        for case, runs in (("seed", self.seeds), ("a", lambda **k: self.deltas("a", **k))):
            tls, plain = runs(), runs(env=env, verify=False)
            res[case] = (med(tls, "cpu") / med(plain, "cpu"), tls, plain)
        line("P9", "seed %.2fx a %.2fx" % (res["seed"][0], res["a"][0]), "seed <=1.35x a <=1.15x",
             res["seed"][0] <= 1.35 and res["a"][0] <= 1.15,
             "cpu beside the same program with TLS records and AES-GCM taken out by a preloaded "
             "library (handshake, SHA-256 and LZ4 stay): seed %s beside %s; a %s beside %s" %
             tuple(show(x) for c in ("seed", "a") for x in res[c][1:]))

    def p10(self):
        big = self.at("big.raw")
        if not os.path.exists(big):
            run("cp", "--sparse=always", self.image("base"), big)
            os.truncate(big, 16 * os.path.getsize(big))
            with open(big, "r+b") as f:  # and data at the far end
                f.seek(os.path.getsize(big) - (8 << 20))
                f.write(os.urandom(8 << 20))
        seed = self.seeds(n=min(self.n, 3))
        delta = self.deltas("b", n=min(self.n, 3))
        large = self.seeds(image=big, n=1)
        peak = [max(x.rss_kib for x in r) / 1024 for r in (seed, delta, large)]
        line("P10", "%.1f MiB" % max(peak), "<=24 MiB", max(peak) <= 24,
             "largest peak RSS of the source process: seed %.1f, case b %.1f, seed of an image 16x "
             "as large %.1f MiB" % tuple(peak))

    def memory(self, *argv):
        """The medians of each run: CPU in ms of stage, delta, commit; bytes / LZ4 of whole pages."""
        runs = []
        for _ in range(self.n):
            shutil.rmtree(self.at("ram"), ignore_errors=True)
            os.makedirs(self.at("ram"))
            # The first cut is the seed, the second patches against a full layer only.
            cuts = [[float(x) for x in c] for c in CUT.findall(run(RAM, argv[0], self.at("ram"),
                                                                   *argv[1:]))][2:]
            runs.append([statistics.median(c[i] for c in cuts) for i in range(3)] +
                        [statistics.median(c[3] / c[4] for c in cuts)])
        return [[statistics.median(r[i] for r in runs) for i in range(4)],
                min(sum(r[:3]) for r in runs), max(sum(r[:3]) for r in runs)]

    def p12(self):
        pages = str(512 * 256 // 100)
        words, least, most = self.memory("fake", "512", pages, "14", "words")
        guest = self.memory("fake", "512", pages, "14", "guest")[0]
        cpu_ms = sum(words[:3])
        line("P12", "%.0f/s a core, 40/s at %.0f %%, bytes %.2fx" %
             (1000 / cpu_ms, 4 * cpu_ms, words[3]),
             ">=150/s <=25 % bytes <=0.25x", cpu_ms <= 250 / 40 and words[3] <= 0.25,
             "512 MiB of fake RAM, %s pages of 1 to 8 words a cut: stage %.2f, delta + LZ4 + seal "
             "%.2f, digests and shadow %.2f ms of CPU (%.2f-%.2f in all); bytes of all parts beside "
             "LZ4 alone over the changed pages; pages edited, filled, moved and zeroed as a guest "
             "does: %.2f ms, %.2fx" %
             ((pages,) + tuple(words[:3]) + (least, most, sum(guest[:3]), guest[3])))

    def p13(self):
        durable = self.seeds()
        fast = self.seeds(target_options=("--volatile",), verify=False)
        wall = med(durable, "wall") / med(fast, "wall")
        held, kills = self.kills(10)
        line("P13", "wall %.2fx resent %d" % (wall, held), "wall <=1.3x resent <=1 per connection",
             wall <= 1.3 and held <= 2,
             "durable receipt beside the same run with the store's syncs left out: %s beside %s; "
             "parts sent again though held, after %d kill -9 of the target in one seed over two "
             "connections" % (show(durable), show(fast), kills))

    def kills(self, count):
        self.fresh(False)
        argv = lambda k: [PIPE, "--listen", str(self.port + 5), "--kill-at", str(k), "target",
                          self.dir, self.at("now", "store")]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        target = subprocess.Popen(argv(200), **quiet)
        port_wait(self.port + 5)
        source = subprocess.Popen([PIPE, "source", self.dir, self.image("base"),
                                   self.at("now", "state"), str(self.port + 5)],
                                  stdout=subprocess.PIPE)
        done = 0
        while done < count:
            target.wait()
            done += 1
            target = subprocess.Popen(argv(200 if done < count else 0), **quiet)
        out = source.communicate()[0].decode()
        stop(target)
        self.verify(self.image("base"))
        return int(re.search(r"resent_held (\d+)", out).group(1)), done

    def peers(self):
        for case in ("base", "a"):
            ours = self.seeds() if case == "base" else self.deltas(case)
            rows = {"ours": ours, "rsync -B4096 lz4": self.many(self.rsync, case, case != "base")}
            for tool in ("restic", "borg"):
                rows[tool] = self.many(self.repository, tool, case)
            for name, costs in rows.items():
                print("peers %-5s %-18s %s" % ("seed" if case == "base" else case, name,
                                               show(costs)), flush=True)


def med(costs, what):
    return statistics.median(getattr(c, what) for c in costs)


def cut_to_receipt(costs):
    """What a point costs an agent that runs and is connected."""
    wall = [c.of_cut * 1e3 for c in costs]
    return "%.0f ms (%.0f-%.0f)" % (statistics.median(wall), min(wall), max(wall))


def show(costs):
    wall = [c.wall for c in costs]
    return "wall %.2f s (%.2f-%.2f) cpu %.2f s %.1f MB" % (
        statistics.median(wall), min(wall), max(wall), med(costs, "cpu"), med(costs, "bytes") / 1e6)


def line(goal, measured, wanted, ok, what):
    print("%-5s %s goal %s %s  %s" % (goal, measured, wanted, "ok" if ok else "short", what),
          flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("-n", type=int, default=5, help="runs of each, default 5")
    p.add_argument("-s", type=int, default=1024, help="size of the images in MiB")
    p.add_argument("-w", help="working directory, kept; default: a temporary one, removed")
    p.add_argument("ids", nargs="*", help="P1 P3 P7 P8 P9 P10 P12 P13 P14 peers; default: all goals")
    opt = p.parse_args()
    ids = [x.lower() for x in opt.ids] or ["p1", "p3", "p7", "p8", "p9", "p10", "p12", "p13", "p14"]
    bench = Bench(opt)
    for x in ids:
        if not re.fullmatch(r"p1|p3|p7|p8|p9|p10|p12|p13|p14|peers", x):
            sys.exit("bench: unknown id %s" % x)
    if not os.path.exists(PIPE):
        sys.exit("bench: build the release preset first (%s)" % PIPE)
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
    print("# load %s, %d runs each" % (" ".join(open("/proc/loadavg").read().split()[:3]), opt.n))
    try:
        if not set(ids) <= {"p12", "p14"}:  # which need no image
            bench.prepare()
        for x in ids:
            if x == "p14":
                vm.run(opt.n, line)
            else:
                getattr(bench, x)()
    finally:
        if not opt.w:
            shutil.rmtree(bench.work, ignore_errors=True)
    sys.exit(1 if bench.mismatch else 0)


if __name__ == "__main__":
    main()
