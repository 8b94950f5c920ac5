#!/usr/bin/env python3
"""tests/unit/cli_answers.py BIN_DIR - what the lifeboat program makes of an agent's answers.

The agent is this script: canned answers on a unix socket. Each case: exit status, words on standard error, and with
--json one JSON object on standard output, whatever happened.
"""
import http.server
import json
import os
import socketserver
import subprocess
import sys
import tempfile
import threading

LIFEBOAT = os.path.join(sys.argv[1], "lifeboat")
LATIN = b"caf\xe9"  # no UTF-8

ANSWERS = {
    ("POST", "/v1/points/latest/export"): {"job": "j1"},
    ("POST", "/v1/verify"): {"job": "j2"},
    ("GET", "/v1/jobs/j1"): {"id": "j1", "state": "failed"},
    ("GET", "/v1/jobs/j2"): {"id": "j2", "state": "failed", "error": {"code": "LB_ECORRUPT", "message": "bad"}},
    ("POST", "/v1/points/ab12/verify"): {"job": "j3"},
    ("GET", "/v1/jobs/j3"): {"id": "j3", "state": "failed", "error": {"code": "LB_ECANCELED", "message": "cancelled"},
                             "result": {"points": 3, "records": 9, "bytes": 4096, "damaged": 0, "damage": []}},
    ("POST", "/v1/points/cd34/verify"): {"job": "j4"},
    ("GET", "/v1/jobs/j4"): {"id": "j4", "state": "failed", "error": {"code": "LB_ECORRUPT", "message": "damaged"},
                             "result": {"points": 3, "records": 9, "bytes": 4096, "damaged": 1,
                                        "damage": [{"what": "pack 7"}]}},
    ("GET", "/v1/runs/1a2b"): {"id": "1a2b", "runbook": "r", "mode": "failover", "state": "RUNNING", "steps": [],
                               "elapsed_ns": 5, "log_error": "sync runs/x.log: No space left on device"},
}


class Agent(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        o = ANSWERS.get((self.command, self.path))
        body = json.dumps(o or {"error": {"code": "LB_ENOTFOUND", "message": "no " + self.path}}).encode()
        self.send_response(200 if o else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = answer

    def log_message(self, *_):
        pass


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


def run(sock, args, cwd=None):
    return subprocess.run([LIFEBOAT, "--socket", sock, *args], capture_output=True, timeout=30, cwd=cwd, check=False,
                          stdin=subprocess.DEVNULL)


def expect(sock, status, words, code, *args):
    """Exit @status and say @words; with --json one object, whose error (if it has one) is @code."""
    r = run(sock, args)
    if r.returncode != status or words.encode() not in r.stderr:
        sys.exit(f"{args}: exit {r.returncode}, {r.stderr!r}; expected {status} and {words!r}")
    r = run(sock, [*args, "--json"])
    try:
        o = json.loads(r.stdout)
    except ValueError:
        sys.exit(f"{args} --json: no JSON: {r.stdout!r}")
    if r.returncode != status or o.get("error", {}).get("code", code) != code:
        sys.exit(f"{args} --json: exit {r.returncode}, {o}; expected {status} and {code}")


def without_agent(sock, work):
    """What is no UTF-8 is refused by name, not left out; and the refusal is JSON all the same."""
    odd = os.path.join(work.encode(), LATIN + b".yaml")
    expect(sock, 3, "the volume is not UTF-8", "LB_EINPUT", "point", "export", "latest", "/x", "--volume", LATIN)
    expect(sock, 3, "the format is not UTF-8", "LB_EINPUT", "point", "export", "latest", "/x", "--format", LATIN)
    expect(sock, 3, "the path is not UTF-8", "LB_EINPUT", "point", "export", "latest", LATIN)
    expect(sock, 3, "the reason is not UTF-8", "LB_EINPUT", "run", "skip", "1a2b", "db", "--reason", LATIN)
    expect(sock, 3, "the confirm is not UTF-8", "LB_EINPUT", "site", "remove", "nara", "--confirm", LATIN)
    expect(sock, 3, "No such file", "LB_ENOTFOUND", "runbook", "lint", odd)
    with open(odd, "wb") as f:
        f.write(b"a: [")
    expect(sock, 3, "error:", "LB_EINPUT", "runbook", "lint", odd)
    expect(sock, 3, "error:", "LB_EINPUT", "config", "check", odd)
    gone = os.path.join(work, "gone")
    os.mkdir(gone)
    r = subprocess.run(["sh", "-c", 'cd "$1" && rmdir "$1" && exec "$2" --socket "$3" point export latest x', "-", gone,
                        LIFEBOAT, sock], capture_output=True, timeout=30, check=False)
    if r.returncode != 3 or b"working directory" not in r.stderr:
        sys.exit(f"export from a directory that is gone: exit {r.returncode}, {r.stderr!r}")


def on_a_full_disk(sock):
    """What cannot be written to standard output was not done well."""
    for args in (["completion", "bash"], ["config", "keys", "--json"], ["run", "show", "1a2b"]):
        with open("/dev/full", "wb") as full:
            r = subprocess.run([LIFEBOAT, "--socket", sock, *args], stdout=full, stderr=subprocess.PIPE, timeout=30,
                               check=False)
        if r.returncode != 1 or b"LB_ENOSPC: write standard output" not in r.stderr:
            sys.exit(f"{args} > /dev/full: exit {r.returncode}, {r.stderr!r}")


def main():
    with tempfile.TemporaryDirectory() as work:
        sock = os.path.join(work, "s")
        without_agent(sock, work)
        server = Server(sock, Agent)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        expect(sock, 1, "the job is failed", "LB_EPROTO", "point", "export", "latest", "/x")
        expect(sock, 6, "bad", "LB_ECORRUPT", "verify")
        expect(sock, 1, "stands still", "LB_ESUSPECT", "run", "attach", "1a2b")
        r = run(sock, ["run", "show", "1a2b"])
        if r.returncode != 0 or b"its log cannot be written: sync runs/x.log" not in r.stdout:
            sys.exit(f"run show: exit {r.returncode}, {r.stdout!r}")
        for point, status, verdict in (("ab12", 4, b"not finished: 3 points"), ("cd34", 6, b"NOT good: 3 points")):
            r = run(sock, ["point", "verify", point])
            if r.returncode != status or verdict not in r.stdout:
                sys.exit(f"point verify {point}: exit {r.returncode}, {r.stdout!r}")
        on_a_full_disk(sock)
        server.shutdown()


main()
