#!/usr/bin/env python3
"""Measures CPU per request of Portcullis, of the bare floor, and of the peers, side by side.

    bench/run.py                          m0 to m3, then mem and start, all targets found
    bench/run.py m3 --targets portcullis,envoy --loads "h1 hot"
    BENCH_SECONDS=1 BENCH_ROUNDS=1 bench/run.py

Proxy on one core, load and upstream on the other; rounds interleaved; medians. Fails on anything
but 2xx. bench/README.md says what the modes mean for each target and how to get the peers.
"""

import argparse
import collections
import os
import pathlib
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import start
import targets
from start import ALL, USUAL
from targets import AT, LOAD_CORE, MIX, PATH, TLS_PORT, Bench, Fault, trusting

SECONDS = float(os.environ.get("BENCH_SECONDS", "3"))
WARM_UP = float(os.environ.get("BENCH_WARM_UP", "1"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
IDLE = int(os.environ.get("BENCH_IDLE", "5000"))
COLD = int(os.environ.get("BENCH_COLD", "20000"))
CONNECTIONS = 50
URL = f"https://localhost:{TLS_PORT}{PATH}"
MODES = ("m0", "m1", "m2", "m3", "m3w", "mem", "start")
LUA = pathlib.Path(__file__).resolve().parent / "load.lua"


def load(kind, token_file, seconds):
    """Runs the load: requests answered, seconds taken."""
    if kind == "h2 hot":
        return h2load(token_file, seconds)
    command = ["taskset", "-c", LOAD_CORE, "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s"]
    command += ["--timeout", "10s", "-s", str(LUA), URL]
    wanted = {"BENCH_TOKENS": str(token_file), **({"BENCH_ONCE": "1"} if kind == "h1 cold" else {})}
    text = output(command, seconds, wanted)
    found = re.search(r"^BENCH (\d+) (\d+) (\d+) (\d+)$", text, re.M)
    if not found:
        raise Fault(f"wrk said nothing: {text[-500:]}")
    requests, micros, bad, broken = map(int, found.groups())
    if bad or broken or not requests:
        raise Fault(f"{kind}: {requests} answered, {bad} of them not 2xx, {broken} broken")
    return requests, micros / 1e6


def h2load(token_file, seconds):
    token = token_file.read_text().split()[0]
    command = ["taskset", "-c", LOAD_CORE, "h2load", "-t1", f"-c{CONNECTIONS}", "-m1", f"-D{max(1, round(seconds))}"]
    command += [f"--connect-to=127.0.0.1:{TLS_PORT}", "-H", f"authorization: Bearer {token}", URL]
    text = output(command, seconds)
    codes = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", text)
    took = re.search(r"finished in ([\d.]+)(m?s)", text)
    failed = re.search(r"(\d+) failed, (\d+) errored, (\d+) timeout", text)
    if not (codes and took and failed):
        raise Fault(f"h2load said nothing: {text[-500:]}")
    good, *bad = map(int, codes.groups())
    if not good or any(bad) or any(map(int, failed.groups())):
        raise Fault(f"h2 hot: {codes.group(0)}; {failed.group(0)}")
    if "h2" not in text.split("Application protocol:")[-1][:8]:
        raise Fault("h2load did not speak h2")
    return good, float(took.group(1)) / (1000 if took.group(2) == "ms" else 1)


def output(command, seconds, environment=None):
    wanted = {**os.environ, **(environment or {})}
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30, env=wanted)
    if done.returncode != 0:
        raise Fault(f"{command[3]} failed: {done.stderr[-500:]}")
    return done.stdout


Figure = collections.namedtuple("Figure", "micros rate share requests")


def cell(target, mode, kind):
    """One measurement: CPU in µs per answered request, requests per second, share of the core."""
    tokens = target.bench.work / "tokens"
    count = {"h1 mix": MIX, "h1 cold": COLD}.get(kind, 1)
    tokens.write_text("\n".join(target.tokens(count)) + "\n")
    warmed = load(kind, tokens, WARM_UP)[0] if kind != "h1 cold" else 0
    before, began = target.process.cpu_s(), time.monotonic()
    # wrk rests once each token was used; the time is only a bound.
    requests, seconds = load(kind, tokens, 1 + COLD / 5000 if kind == "h1 cold" else SECONDS)
    cpu, wall = target.process.cpu_s() - before, time.monotonic() - began
    if target.process.child.poll() is not None:
        raise Fault(f"{target.name} {mode} ended under load: {target.process.said()}")
    return Figure(1e6 * cpu / requests, requests / seconds, cpu / wall, requests + warmed)


def measure(kinds, modes, loads, bench, checked):
    """All rounds: {(target, mode, load): [(µs, req/s, share)]}."""
    figures = {}
    for turn in range(ROUNDS):
        for mode in modes:
            for kind in kinds if turn % 2 == 0 else kinds[::-1]:
                # bare has no modes; it is measured again beside each, as the floor of that minute.
                if kind.name != "bare" and mode not in kind.modes:
                    continue
                for way, found in measure_one(kind(bench), mode, loads, checked).items():
                    figures.setdefault((kind.name, mode, way), []).append(found)
                    note(f"round {turn + 1} {mode} {way} {kind.name}: {found.micros:.1f} µs, {found.rate:.0f}/s, core {found.share:.0%}")
    return figures


def measure_one(target, mode, loads, checked):
    """One target in one mode, started for it: {load: figure}."""
    try:
        target.start(mode)
        if (target.name, mode) not in checked:
            target.check(mode)
            checked.add((target.name, mode))
        found = {way: cell(target, mode, way) for way in loads}
    finally:
        target.stop()
    # A log that loses lines under load is no log.
    if mode.startswith("m3") and target.verifies:
        answered, recorded = sum(figure.requests for figure in found.values()), target.recorded()
        if recorded < answered:
            raise Fault(f"{target.name} {mode}: {answered} answered, but {recorded} in its log")
    return found


def table(figures, names, modes, loads):
    """The one table."""
    lines = [
        "| mode, load | target | µs/request | best | req/s | core | × bare | × best verifying peer |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    middle = {key: statistics.median(f.micros for f in found) for key, found in figures.items()}
    peers = [name for name in names if ALL[name].verifies and name != "portcullis"]
    for mode in modes:
        for way in loads:
            bare = middle.get(("bare", mode, way))
            best = min((middle[p, mode, way] for p in peers if (p, mode, way) in middle), default=None)
            for name in names:
                found = figures.get((name, mode, way))
                if not found:
                    continue
                mine = middle[name, mode, way]
                ratio = lambda other: f"{mine / other:.2f}" if other else "–"
                columns = [f"{mode} {way}", name, f"{mine:.1f}", f"{min(f.micros for f in found):.1f}"]
                rate, share = (statistics.median(getattr(f, what) for f in found) for what in ("rate", "share"))
                columns += ["–", "–"] if way == "h1 cold" else [f"{rate:.0f}", f"{share:.0%}"]
                columns += [ratio(bare), ratio(best)]
                lines.append("| " + " | ".join(columns) + " |")
    return "\n".join(lines)


def memory(kind, bench):
    """KiB of resident memory per idle connection, each after one request."""
    target = kind(bench)
    held = []
    try:
        target.start("m1" if "m1" in kind.modes else "m0")
        token = target.tokens(1)[0]
        request = f"GET {PATH} HTTP/1.1\r\nhost: localhost:{TLS_PORT}\r\nauthorization: Bearer {token}\r\n\r\n"
        context = trusting()
        held += [connect(context, request, number) for number in range(100)]
        time.sleep(1)
        before = target.process.rss_kib()
        held += [connect(context, request, number) for number in range(IDLE)]
        time.sleep(2)
        after = target.process.rss_kib()
        return (after - before) / IDLE
    finally:
        for connection in held:
            connection.close()
        target.stop()


def connect(context, request, number):
    # From several addresses: ports of one would run out, and caps per address count.
    plain = socket.create_connection(("127.0.0.1", TLS_PORT), 10, (f"127.0.0.{2 + number % 8}", 0))
    stream = context.wrap_socket(plain, server_hostname="localhost")
    stream.sendall(request.encode())
    answer = b""
    while b"\r\n\r\n" not in answer or len(answer.split(b"\r\n\r\n", 1)[1]) < 1024:
        more = stream.recv(4096)
        if not more:
            break
        answer += more
    if not answer.startswith(b"HTTP/1.1 200"):
        raise Fault(f"an idle connection was answered {answer[:60]!r}")
    return stream


def note(text):
    print(text, file=sys.stderr, flush=True)


def chosen(names, bench):
    kinds = []
    for name in names:
        if name not in ALL:
            raise Fault(f"`{name}` is no target: {', '.join(ALL)}")
        missing = ALL[name](bench).missing()
        if missing:
            note(f"{name} is left out: {missing}")
        else:
            kinds.append(ALL[name])
    return kinds


def report(arguments, bench):
    kinds = chosen(arguments.targets.split(","), bench)
    loads = arguments.loads.split(",")
    modes = [mode for mode in arguments.modes if mode not in ("mem", "start")]
    names = [kind.name for kind in kinds]
    cores = f"{os.cpu_count()} cores"
    print(f"{time.strftime('%Y-%m-%d %H:%M')}, {cores}, load {os.getloadavg()[0]:.1f} before; {ROUNDS} rounds of {SECONDS:g} s a cell\n")
    if modes:
        figures = measure(kinds, modes, loads, bench, set())
        print(table(figures, names, modes, loads))
        print(f"\nload {os.getloadavg()[0]:.1f} after (the bench's own is 2)")
    if "mem" in arguments.modes:
        print("\n| target | KiB per idle connection |\n|---|---:|")
        for kind in kinds:
            print(f"| {kind.name} | {memory(kind, bench):.1f} |", flush=True)
    if "start" in arguments.modes:
        print("\n" + start.table([kind for kind in kinds if kind.name != "envoy-uncached"], bench, ROUNDS))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    usual = [mode for mode in MODES if mode != "m3w"]
    parser.add_argument("modes", nargs="*", metavar="MODE", help=", ".join(MODES))
    parser.add_argument("--targets", default=",".join(USUAL), help=", ".join(ALL))
    parser.add_argument("--loads", default="h1 hot,h1 mix,h2 hot", help="h1 hot, h1 mix, h2 hot, h1 cold")
    arguments = parser.parse_args()
    arguments.modes = arguments.modes or usual
    if unknown := set(arguments.modes) - set(MODES):
        parser.error(f"no such mode: {', '.join(unknown)}")
    if len(os.sched_getaffinity(0)) < 2:
        sys.exit("two cores are needed: one for the proxy, one for load and upstream")
    for program in ("wrk", "h2load", "openssl", "taskset", targets.BARE):
        if not shutil.which(program):
            sys.exit(f"`{program}` was not found: see bench/README.md")
    # An end from outside must not leave the children behind: it unwinds like any other.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended from outside"))
    with tempfile.TemporaryDirectory(prefix="bench-") as work:
        bench = None
        try:
            bench = Bench(work)
            report(arguments, bench)
        except (Fault, subprocess.TimeoutExpired) as fault:
            sys.exit(f"failed: {fault}")
        except KeyboardInterrupt:
            sys.exit("interrupted")
        finally:
            if bench:
                bench.stop()


if __name__ == "__main__":
    main()
