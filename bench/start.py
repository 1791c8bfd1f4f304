#!/usr/bin/env python3
"""Start and rest: exec to the first answer, resident memory when idle, bytes written while idle.

    bench/start.py                     Portcullis; exit 1 if it misses its goals
    bench/start.py --targets bare,portcullis,haproxy,envoy

Goals: first answer < 100 ms, idle memory < 25 MiB, nothing written while idle. The data directory is
made by a first start that is not counted.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import targets
from peers import Envoy, EnvoyUncached, Haproxy
from targets import Bare, Portcullis

ALL = {kind.name: kind for kind in (Bare, Portcullis, Haproxy, Envoy, EnvoyUncached)}
USUAL = ("bare", "portcullis", "haproxy", "envoy")
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
IDLE_S = float(os.environ.get("BENCH_IDLE_SECONDS", "10"))
START_MS, IDLE_MIB = 100, 25
HEAD = "| target | first answer, ms | best | idle RSS, MiB | bytes written | of them to disk |\n|---|---:|---:|---:|---:|---:|"


def rest(kind, bench, rounds):
    """Milliseconds to the first answer of each start, idle MiB, bytes written, bytes to disk."""
    target = kind(bench)
    starts = []
    try:
        # The first makes keys and database, and warms the file cache.
        for turn in range(rounds + 1):
            seconds = target.start("m0")
            if turn > 0:
                starts.append(1000 * seconds)
            if turn < rounds:
                target.stop()
        time.sleep(2)
        before = target.process.written()
        time.sleep(IDLE_S)
        after = target.process.written()
        return starts, target.process.rss_kib() / 1024, after[0] - before[0], after[1] - before[1]
    finally:
        target.stop()


def row(name, found):
    starts, rss, written, disk = found
    return f"| {name} | {statistics.median(starts):.0f} | {min(starts):.0f} | {rss:.1f} | {written} | {disk} |"


def table(kinds, bench, rounds):
    """A row for each target."""
    return "\n".join([HEAD, *(row(kind.name, rest(kind, bench, rounds)) for kind in kinds)])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", default="portcullis", help=", ".join(ALL))
    arguments = parser.parse_args()
    missed = []
    # An end from outside must not leave the children behind: it unwinds like any other.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended from outside"))
    with tempfile.TemporaryDirectory(prefix="bench-") as work:
        bench = None
        try:
            bench = targets.Bench(work)
            print(f"median of {ROUNDS} starts; written within {IDLE_S:g} s of rest\n\n{HEAD}")
            for name in arguments.targets.split(","):
                found = rest(ALL[name], bench, ROUNDS)
                print(row(name, found), flush=True)
                if name == "portcullis":
                    starts, rss, written, disk = found
                    missed += ["start"] * (statistics.median(starts) >= START_MS)
                    missed += ["memory"] * (rss >= IDLE_MIB) + ["writes"] * (written + disk > 0)
        except (targets.Fault, subprocess.TimeoutExpired) as fault:
            sys.exit(f"failed: {fault}")
        except KeyboardInterrupt:
            sys.exit("interrupted")
        finally:
            if bench:
                bench.stop()
    if missed:
        sys.exit(f"\nmissed: {', '.join(missed)}")


if __name__ == "__main__":
    main()
