"""P14: the embedded machine beside QEMU, in one run on the same KVM. Called by bench.py.

QEMU's guests: for the first byte the same firmware of three instructions as ours; for GRUB the same
disk; for memory a firmware that fills it, which QEMU runs by TCG (an emulating KVM would take hours),
and whose saved state is then also loaded under KVM where that works. What QEMU cannot do here is
printed as absent, never left out.

What is measured of ours is the library in a program of its own that sets up nothing else. QEMU's rows
are its own program without a monitor, devices or a configuration file. Machines are started one of
each in turn, each in a quiet moment where there is one.
"""
import json
import os
import re
import socket
import statistics
import subprocess
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
BUILD = os.path.join(ROOT, "build", "release", "tests")
VM = os.path.join(BUILD, "vm_bench")
PAYLOAD = os.path.join(BUILD, "payload.bin")
TEXT = "lifeboat: here is GRUB"
LIMIT_S = 120
DEVNULL = subprocess.DEVNULL


def qemu(machine, accel, *more):
    return ["qemu-system-x86_64", "-machine", "%s,accel=%s" % (machine, accel), "-nodefaults", "-no-user-config",
            "-display", "none", *more]


def idle_and_all():
    with open("/proc/stat") as f:
        v = [int(x) for x in f.readline().split()[1:9]]
    return v[3] + v[4], sum(v)


def quiet_moment(limit_s=3.0):
    """Wait until nobody works for 50 ms: a start waits for kernel threads, which wait for a processor.
    False: there was no such moment."""
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        idle, total = idle_and_all()
        time.sleep(0.05)
        idle2, total2 = idle_and_all()
        if total2 > total and (idle2 - idle) >= 0.85 * (total2 - total):
            return True
    return False


def peak(pid):
    with open("/proc/%d/status" % pid) as f:
        return int(re.search(r"VmHWM:\s+(\d+)", f.read()).group(1)) / 1024


def cpu_of(pid):
    with open("/proc/%d/stat" % pid) as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def first_byte(argv, want, ours):
    """Seconds from spawn until @want was said, the peak of memory in MiB, seconds of CPU by then, and
    whether it began in a quiet moment."""
    quiet = quiet_moment()
    begin = time.monotonic()
    proc = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=DEVNULL, stdin=DEVNULL)
    os.set_blocking(proc.stdout.fileno(), True)
    said, took, spent = b"", None, None
    while took is None:
        piece = os.read(proc.stdout.fileno(), 4096)
        said += piece
        if want in said:
            took = time.monotonic() - begin
            spent = cpu_of(proc.pid)
        elif not piece or time.monotonic() - begin > LIMIT_S:
            break
    if ours:
        said += proc.stdout.read()
        found = re.search(rb"VmHWM:\s+(\d+)", said)
        mib = int(found.group(1)) / 1024 if found else None
    else:
        mib = peak(proc.pid) if took else None
        proc.kill()
    proc.stdout.close()
    proc.wait()
    return took, mib, spent, quiet


def med(values):
    values = [v for v in values if v is not None]
    return statistics.median(values) if values else None


def pick(quiet, busy):
    """The values of quiet moments where there are three, else all; and in words, which."""
    if len(quiet) >= 3:
        return quiet, "%d of %d in quiet moments" % (len(quiet), len(quiet) + len(busy))
    return quiet + busy, "on a busy host"


def of(rows, name):
    return pick(rows.get(name, []), rows.get(name + "busy", []))


def text(value, unit, digits=1):
    return "absent" if value is None else "%.*f %s" % (digits, value, unit)


class Qmp:
    """A QEMU that is spoken with over its monitor."""

    def __init__(self, work, accel, memory_mib, *more):
        self.path = os.path.join(work, "qmp.%d" % time.monotonic_ns())
        self.begin = time.monotonic()
        self.proc = subprocess.Popen(
            qemu("pc", accel, "-cpu", "qemu64", "-m", str(memory_mib), "-qmp",
                 "unix:%s,server=on,wait=off" % self.path, "-serial", "stdio", *more),
            stdin=DEVNULL, stdout=subprocess.PIPE, stderr=DEVNULL)
        self.sock = socket.socket(socket.AF_UNIX)
        while True:
            try:
                self.sock.connect(self.path)
                break
            except OSError:
                if self.proc.poll() is not None:
                    raise RuntimeError("QEMU ended") from None
                time.sleep(0.001)
        self.file = self.sock.makefile("rw")
        self.file.readline()
        self.ask("qmp_capabilities")

    def ask(self, command, **arguments):
        self.file.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.file.flush()
        while True:
            answer = json.loads(self.file.readline() or '{"error": "closed"}')
            if "error" in answer:
                raise RuntimeError(str(answer["error"]))
            if "return" in answer:
                return answer["return"]

    def migrate(self, uri):
        """Seconds of a whole migration of the stopped guest."""
        self.ask("migrate-set-parameters", **{"max-bandwidth": 1 << 40})
        begin = time.monotonic()
        self.ask("stop")
        self.ask("migrate", uri=uri)
        while True:
            status = self.ask("query-migrate")["status"]
            if status == "completed":
                return time.monotonic() - begin
            if status == "failed" or time.monotonic() - begin > LIMIT_S:
                raise RuntimeError("migration: " + status)
            time.sleep(0.001)

    def close(self):
        self.proc.kill()
        self.proc.stdout.close()
        self.proc.wait()
        self.sock.close()


def numbers(argv):
    """{name: [seconds]} of lines "name NANOSECONDS ..."."""
    out = subprocess.run(argv, stdout=subprocess.PIPE, check=True, timeout=600).stdout.decode()
    rows = {}
    for name, ns in re.findall(r"^([a-z]+) (\d+)", out, flags=re.M):
        rows.setdefault(name, []).append(int(ns) / 1e9)
    pages = [int(p) for p in re.findall(r"pages (\d+)", out)]
    return rows, pages


def bios_image(work, name, *defines):
    elf, out = os.path.join(work, name + ".elf"), os.path.join(work, name)
    subprocess.run(["gcc", "-m32", "-nostdlib", "-static", "-Wl,-Ttext=0xf0000", "-Wl,--build-id=none", "-Wl,-estart",
                    *defines, "-o", elf, os.path.join(HERE, "vm_bios.S")], check=True)
    subprocess.run(["objcopy", "-O", "binary", "-j", ".text", elf, out], check=True)
    with open(out, "rb") as f:
        code = f.read()
    with open(out, "wb") as f:  # the code at the end of 256 KiB
        f.write(b"\xff" * (0x40000 - len(code)) + code)
    return out


def filled(work, mib):
    """A QEMU (TCG) whose guest has filled @mib of memory and counts."""
    image = bios_image(work, "fill%d" % mib, "-DFILL_BYTES=%d" % (mib << 20))
    q = Qmp(work, "tcg", mib + 16, "-bios", image)
    if os.read(q.proc.stdout.fileno(), 1) != b"F":
        raise RuntimeError("QEMU's guest did not fill its memory")
    return q, image


def qemu_pause(work, n):
    q, _ = filled(work, 256)
    times = []
    for _ in range(n):
        times.append(q.migrate("exec:cat > /dev/null"))
        q.ask("cont")
    q.close()
    return times


def qemu_restore(work, n, accel):
    """Seconds from exec to the guest running again, 1 GiB."""
    saved = os.path.join(work, "saved")
    image = os.path.join(work, "fill1008")
    if not os.path.exists(saved):
        q, image = filled(work, 1008)
        q.migrate("exec:cat > " + saved)
        q.close()
    times = []
    for _ in range(n):
        q = Qmp(work, accel, 1024, "-bios", image, "-incoming", "exec:cat " + saved)
        try:
            while q.ask("query-status")["status"] in ("inmigrate", "paused"):
                if q.ask("query-status")["status"] == "paused":
                    q.ask("cont")  # saved while stopped
                time.sleep(0.001)
            times.append(time.monotonic() - q.begin)
        finally:
            q.close()
    return times


def guarded(what, *args):
    try:
        return what(*args)
    except (RuntimeError, OSError, subprocess.SubprocessError) as e:
        print("# QEMU %s: %s" % (what.__name__, e), flush=True)
        return []


def boots(work, n, line):
    bios = bios_image(work, "mini")
    rows = {}
    for _ in range(3 * n):
        for name, argv, ours in (
                ("ours", [VM, "first", bios], True),
                ("microvm", qemu("microvm", "kvm", "-m", "16", "-serial", "stdio", "-bios", bios), False),
                ("pc kvm", qemu("pc", "kvm", "-m", "16", "-serial", "stdio", "-bios", bios), False),
                ("pc tcg", qemu("pc", "tcg", "-m", "16", "-serial", "stdio", "-bios", bios), False)):
            rows.setdefault(name, []).append(first_byte(argv, b"X", ours))
    picked = {k: pick([r[0] for r in v if r[3]], [r[0] for r in v if not r[3]]) for k, v in rows.items()}
    took = {k: med(v[0]) for k, v in picked.items()}
    mib = {k: med([r[1] for r in v]) for k, v in rows.items()}
    best = min(v for k, v in took.items() if k != "ours" and v is not None)
    line("P14", "%.1fx" % (best / took["ours"]), ">= 10x", best >= 10 * took["ours"],
         "exec to first guest byte: ours %.2f ms (%s), QEMU microvm %s, pc KVM %s, pc TCG %s" % (
             took["ours"] * 1e3, picked["ours"][1], *(text(took[k] and took[k] * 1e3, "ms") for k in ("microvm", "pc kvm", "pc tcg"))))
    least = min(v for k, v in mib.items() if k != "ours" and v is not None)
    line("P14", "%.1f MiB" % mib["ours"], "<= 5 MiB and <= 1/8",
         mib["ours"] <= 5 and mib["ours"] * 8 <= least,
         "peak RSS of an idle machine: QEMU microvm %s, pc KVM %s, pc TCG %s" % tuple(
             text(mib[k], "MiB") for k in ("microvm", "pc kvm", "pc tcg")))


def grub(work, n, line):
    disk = os.path.join(work, "grub.raw")
    subprocess.run([os.path.join(ROOT, "tests", "guests", "grub-disk.sh"), disk, TEXT], check=True)
    drive = ("-m", "16", "-serial", "stdio", "-drive", "file=%s,format=raw,if=ide" % disk)
    rows = {}
    for _ in range(max(1, n // 2)):
        for name, argv in (("ours", [VM, "bios", disk, TEXT]), ("kvm", qemu("pc", "kvm", *drive)),
                           ("tcg", qemu("pc", "tcg", *drive))):
            rows.setdefault(name, []).append(first_byte(argv, TEXT.encode(), False))
    wall = {k: med([r[0] for r in v]) for k, v in rows.items()}
    cpu = {k: med([r[2] for r in v]) for k, v in rows.items()}
    ratio = cpu["ours"] / cpu["kvm"] if cpu["ours"] and cpu["kvm"] else None
    line("P14", text(ratio, "x", 2), "<= 1.1x", ratio is not None and ratio <= 1.1,
         "SeaBIOS to GRUB, by CPU (nothing else takes its time): ours %s (wall %s), QEMU KVM %s (%s), TCG %s (%s)" % (
             text(cpu["ours"], "s"), text(wall["ours"], "s"), text(cpu["kvm"], "s"), text(wall["kvm"], "s"),
             text(cpu["tcg"], "s"), text(wall["tcg"], "s")))


def memory(work, n, line):
    rows, _ = numbers([VM, "restore", PAYLOAD, str(n)])
    eager, mapped, lazy = (med(of(rows, k)[0]) for k in ("eager", "mapped", "lazy"))
    tcg, kvm = med(guarded(qemu_restore, work, n, "tcg")), med(guarded(qemu_restore, work, n, "kvm"))
    line("P14", "%.0fx, mapped %.0fx" % (eager / lazy, eager / mapped), ">= 40x", eager >= 40 * lazy,
         "1 GiB to the guest's first step: eager %.0f ms, lazy %.1f ms, mapped %.1f ms; "
         "QEMU -incoming TCG %s, KVM %s" % (eager * 1e3, lazy * 1e3, mapped * 1e3,
                                            text(tcg and tcg * 1e3, "ms", 0), text(kvm and kvm * 1e3, "ms", 0)))
    rows, _ = numbers([VM, "fork", PAYLOAD, str(2 * n)])
    drill, step, live = (med(of(rows, k)[0]) for k in ("drill", "step", "fork"))
    line("P14", "%.2f ms" % (drill * 1e3), "<= 5 ms", drill <= 5e-3,
         "drill fork of 512 MiB frozen memory (%s); %.2f ms to its first step; of a live machine %.0f ms; "
         "QEMU: absent (it has none)" % (of(rows, "drill")[1], step * 1e3, live * 1e3))
    rows, pages = numbers([VM, "pause", PAYLOAD, str(10 * n)])
    pause = statistics.median(rows["pause"])
    full = med(guarded(qemu_pause, work, n))
    line("P14", "%.0fx" % (full / pause) if full else "absent", ">= 50x", full is not None and full >= 50 * pause,
         "pause at %d dirty pages of 256 MiB: ours %.2f ms, full QEMU migrate %s" % (
             statistics.median(pages), pause * 1e3, text(full and full * 1e3, "ms", 0)))


def run(n, line):
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        print("P14   skipped: /dev/kvm cannot be opened", flush=True)
        return
    with tempfile.TemporaryDirectory() as work:
        boots(work, n, line)
        grub(work, n, line)
        memory(work, n, line)
