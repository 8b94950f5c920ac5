#!/usr/bin/env python3
"""tests/lib/console.py EXPECT TYPE ANSWER COMMAND... - `lifeboat vm console` on a terminal, as a person uses it.

Waits until COMMAND, on a terminal of its own, has said EXPECT, types ^C and TYPE, waits for ANSWER, leaves with ^], and
looks whether the terminal is as it was before. ^C is the guest's: it ends nobody. 30 seconds for all of it.
"""
import fcntl
import os
import pty
import select
import subprocess
import sys
import termios
import time

RAW = termios.ICANON | termios.ECHO | termios.ISIG


def main():
    expect, typed, answer = (a.encode() for a in sys.argv[1:4])
    until = time.monotonic() + 30
    fd, terminal = pty.openpty()
    before = termios.tcgetattr(terminal)
    proc = subprocess.Popen(sys.argv[4:], stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True,
                            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
    said = b""

    def read():
        nonlocal said
        if select.select([fd], [], [], 0.1)[0]:
            said += os.read(fd, 4096)

    def wait_for(text):
        nonlocal said
        while text not in said:
            if time.monotonic() > until or proc.poll() is not None:
                proc.kill()
                sys.exit("console: waited for %r, it said %r" % (text, said[-400:]))
            read()
        said = said[said.index(text) + len(text):]

    wait_for(b"^] leaves it")
    wait_for(expect)
    if termios.tcgetattr(terminal)[3] & RAW:
        sys.exit("console: the terminal is not raw")
    os.write(fd, b"\x03" + typed)
    wait_for(answer)
    os.write(fd, b"\x1d")
    while proc.poll() is None:
        if time.monotonic() > until:
            proc.kill()
            sys.exit("console: ^] does not leave it")
        read()
    if proc.returncode != 0:
        sys.exit("console: exit status %d" % proc.returncode)
    if termios.tcgetattr(terminal) != before:
        sys.exit("console: the terminal is not as it was")


main()
