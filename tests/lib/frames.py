#!/usr/bin/env python3
"""tests/lib/frames.py INTERFACE - what the payload guest's frames say, one line each, as they pass the interface:

r NUMBER HASH DATE MAC SEEN   a record (tests/guests/payload/net.c); DATE is the guest's clock, seconds since 1970,
                              SEEN this machine's, nanoseconds
announce MAC                  a machine says where it is now (RARP)

At SIGTERM it ends, when everything that had passed by then is told.
"""
import calendar
import select
import signal
import socket
import sys
import time


def seconds(bcd):
    second, minute, hour, day, month, year = ((b >> 4) * 10 + (b & 15) for b in bcd)
    return calendar.timegm((2000 + year, month, day, hour, minute, second))


def frames(interface):
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    s.bind((interface, 0))
    end, wake = socket.socketpair()
    wake.setblocking(False)
    signal.set_wakeup_fd(wake.fileno())
    signal.signal(signal.SIGTERM, lambda *_: None)
    while True:
        ready, _, _ = select.select([s, end], [], [])
        if s in ready:
            yield s.recv(2048)
        elif end in ready:
            return


def main():
    last = None
    for f in frames(sys.argv[1]):
        seen = time.time_ns()
        mac = f[6:12].hex(":")
        if f[12:14] == b"\x88\xb5" and len(f) >= 60:
            line = "r %d %s %d %s" % (int.from_bytes(f[14:22], "little"), f[22:54].hex(), seconds(f[54:60]), mac)
        elif f[12:14] == b"\x80\x35":
            line = "announce " + mac
        else:
            continue
        if line != last:  # a bridge shows a frame that it sends on once more
            print(line, seen if line[0] == "r" else "", flush=True)
        last = line


main()
