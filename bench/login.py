#!/usr/bin/env python3
"""Measures tokens per second and core of Portcullis' login, beside npm `oidc-provider`.

    bench/login.py                                  all loads, both servers
    bench/login.py "secret" "refresh" --targets portcullis
    BENCH_SECONDS=2 BENCH_ROUNDS=1 bench/login.py

One server process on one core, the clients (bench/login) on the other; rounds interleaved; medians.
An answer that is no token fails the run. bench/README.md says what each load is.
"""

import argparse
import collections
import html
import http.client
import json
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
import threading
import time
import urllib.parse

from targets import LOAD_CORE, PORT, PORTCULLIS, PROXY_CORE, ROOT, Fault, Process, need, raise_open_files, run, trusting

SECONDS = float(os.environ.get("BENCH_SECONDS", "4"))
WARM_UP = float(os.environ.get("BENCH_WARM_UP", "2"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
CONNECTIONS = int(os.environ.get("BENCH_CONNECTIONS", "64"))
CLIENTS = os.environ.get("BENCH_LOGIN", str(ROOT / "target/release/bench-login"))
NODE = os.environ.get("BENCH_NODE", "node")
SERVER = ROOT / "bench/login/node/server.mjs"

API_PORT, ISSUER_PORT, HEALTH_PORT = PORT, PORT + 1, PORT + 2
HOST = f"localhost:{ISSUER_PORT}"
ISSUER = f"https://{HOST}"
API = f"https://localhost:{API_PORT}/v1"
REDIRECT = "https://app.bench.example/cb"
SCOPE = "payments:read"
SECRET = "a-secret-of-the-bench-0123456789"
PEOPLE = 8

# What is asked for, by whom. `goal`: tokens (or flows) per second and core, of 8-performance.
LOADS = {
    "secret": {"kind": "client_credentials", "client": "cron", "secret": SECRET},
    "key": {"kind": "client_credentials", "client": "machine", "key": True, "dpop": True},
    "refresh": {"kind": "refresh", "client": "app"},
    "refresh fixed": {"kind": "refresh", "client": "bank", "key": True, "dpop": True, "pushed": True},
    "code": {"kind": "code", "client": "app", "scope": f"openid {SCOPE}"},
    "code fapi2": {"kind": "code", "client": "bank", "key": True, "dpop": True, "pushed": True, "scope": f"openid {SCOPE}"},
}
GOALS = {"secret": 8000, "key": 3500, "refresh": 3000, "refresh fixed": 3000}
TIMES_PEER = 5


class Place:
    """The run's folder: certificate, the clients' key."""

    def __init__(self, work):
        self.work = pathlib.Path(work)
        self.certificate, self.key = self.work / "tls.pem", self.work / "tls.key"
        self.client_key, self.client_jwks = self.work / "client.pem", self.work / "client.jwks.json"
        raise_open_files()
        run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
            + ["-days", "30", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
            # Trusted by itself alone: a certificate that could sign others is refused as a server's.
            + ["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", self.key, "-out", self.certificate]
        )
        run([CLIENTS, "key", self.client_key, self.client_jwks])


class Server:
    """What both have in common. People sign in once; sessions that stand are measured."""

    def __init__(self, place):
        self.place = place
        self.process = None
        self.cookies = []

    def start(self):
        for port in (API_PORT, ISSUER_PORT, HEALTH_PORT):
            need(port)
        self.process = Process(self.command(), PROXY_CORE, self.place.work, self.name)
        while time.monotonic() - self.process.started < 15:
            if self.process.child.poll() is not None:
                break
            try:
                with socket.create_connection(("127.0.0.1", ISSUER_PORT), timeout=1):
                    pass
                return
            except OSError:
                time.sleep(0.02)
        raise Fault(f"{self.name} did not start: {self.process.said()}")

    def stop(self):
        if self.process:
            self.process.stop()
            self.process = None

    def signed_in(self):
        """`Cookie` fields of so many people."""
        if not self.cookies:
            self.cookies = [self.sign_in(number) for number in range(PEOPLE)]
        return self.cookies

    def sign_in(self, number):
        browser = Browser(*self.person(number))
        question = {
            "response_type": "code",
            "client_id": "app",
            "redirect_uri": REDIRECT,
            "scope": SCOPE,
            "resource": API,
            "state": "x",
            "code_challenge": "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
            "code_challenge_method": "S256",
        }
        browser.walk("/oauth/authorize?" + urllib.parse.urlencode(question))
        return "; ".join(f"{name}={value}" for name, value in browser.cookies.items())


class Portcullis(Server):
    """Ours: a database on disk, each answer after its commit."""

    name = "portcullis"

    def __init__(self, place):
        super().__init__(place)
        self.folder = place.work / "portcullis"
        self.folder.mkdir()
        self.passwords = []

    def missing(self):
        return None if shutil.which(PORTCULLIS) else f"`{PORTCULLIS}` was not found"

    def command(self):
        if not self.passwords:
            self.settle()
        return [PORTCULLIS, "serve", "-c", self.folder / "portcullis.toml"]

    def settle(self):
        """The config, and the people."""
        (self.folder / "secret").write_text(SECRET + "\n")
        (self.folder / "client.jwks.json").write_bytes(self.place.client_jwks.read_bytes())
        waivers = 'waivers = { bearer_tokens = "2099-01-01", client_secret = "2099-01-01" }'
        (self.folder / "portcullis.toml").write_text(
            f"""[server]
domains = ["localhost"]
listen = ["127.0.0.1:{API_PORT}", "127.0.0.1:{ISSUER_PORT}"]
plain = "off"
health = "127.0.0.1:{HEALTH_PORT}"
tls = {{ certificate = "{self.place.certificate}", key = "{self.place.key}" }}
data = "data"

[identity]
issuer = "{ISSUER}"
mfa = {{ factors = "totp", require = "offer" }}

[clients]
cron = {{ type = "service", scopes = ["{SCOPE}"], secret = {{ file = "secret" }}, {waivers} }}
machine = {{ type = "service", scopes = ["{SCOPE}"], keys = "client.jwks.json" }}
app = {{ type = "spa", redirect = ["{REDIRECT}"], scopes = ["openid", "{SCOPE}"], first_party = true }}
bank = {{ type = "web", redirect = ["{REDIRECT}"], scopes = ["openid", "{SCOPE}"], keys = "client.jwks.json", first_party = true }}

[limits]
peer = "1000000/s per ip, burst 1000000"
house = "1000000/s per ip, burst 1000000"

[api.payments]
at = "{API}"
upstream = "http://127.0.0.1:9"

[api.payments.access]
"GET /payments" = {{ allow = ["user", "service"], scope = "{SCOPE}" }}
"""
        )
        for number in range(PEOPLE):
            added = run([PORTCULLIS, "user", "add", f"person-{number}", "--json", "-c", self.folder / "portcullis.toml"])
            self.passwords.append(json.loads(added)["one_off_password"])

    def person(self, number):
        return f"person-{number}", self.passwords[number]


class OidcProvider(Server):
    """npm `oidc-provider`, JWT access tokens. In memory: a restart signs everyone out."""

    name = "oidc-provider"
    format = "jwt"

    def missing(self):
        if not shutil.which(NODE):
            return f"`{NODE}` was not found"
        return None if (SERVER.parent / "node_modules").is_dir() else "`npm ci` was not run in bench/login/node"

    def command(self):
        settings = self.place.work / f"{self.name}.json"
        place = {"certificate": str(self.place.certificate), "key": str(self.place.key), "jwks": str(self.place.client_jwks)}
        names = {"issuer": ISSUER, "api": API, "scope": SCOPE, "redirect": REDIRECT, "secret": SECRET}
        settings.write_text(json.dumps({"port": ISSUER_PORT, "format": self.format, **names, **place}))
        return [NODE, SERVER, settings]

    def stop(self):
        super().stop()
        self.cookies = []

    def person(self, _number):
        return None, None


class Opaque(OidcProvider):
    """The same with the tokens that it makes unless told otherwise: random, kept in memory, unsigned."""

    name = "oidc-provider-opaque"
    format = "opaque"


ALL = {kind.name: kind for kind in (Portcullis, OidcProvider, Opaque)}


class Browser:
    """Someone who signs in: cookies, redirects, forms."""

    def __init__(self, login, password):
        self.login, self.password, self.cookies = login, password, {}

    def go(self, path, form=None):
        connection = http.client.HTTPSConnection("localhost", ISSUER_PORT, timeout=10, context=trusting())
        try:
            fields = {"cookie": "; ".join(f"{n}={v}" for n, v in self.cookies.items())} if self.cookies else {}
            if form is not None:
                fields |= {"content-type": "application/x-www-form-urlencoded", "origin": ISSUER}
            body = None if form is None else urllib.parse.urlencode(form)
            connection.request("POST" if body is not None else "GET", path, body, fields)
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
            for cookie in answer.headers.get_all("set-cookie") or []:
                name, value = cookie.split(";")[0].split("=", 1)
                self.cookies.pop(name, None)
                if value:
                    self.cookies[name] = value
            return answer.status, answer.headers.get("location"), text
        finally:
            connection.close()

    def walk(self, path):
        """Until someone is sent to the client."""
        status, location, text = self.go(path)
        for _ in range(8):
            if location and location.startswith(REDIRECT + "?"):
                if "code=" not in location:
                    raise Fault(f"a login ended at {location}")
                return
            if location:
                status, location, text = self.go(location.removeprefix(ISSUER))
                continue
            action = re.search(r'<form method="post" action="([^"]*)"', text)
            if not action:
                raise Fault(f"a login ended in a page of {status}: {re.sub('<[^>]*>', ' ', text)[-500:]}")
            hidden = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)"', text)
            form = {name: html.unescape(value) for name, value in hidden}
            if 'name="password"' in text:
                form |= {"login": self.login, "password": self.password}
            status, location, text = self.go(html.unescape(action[1]).removeprefix(ISSUER), form)
        raise Fault("a login does not end")


Figure = collections.namedtuple("Figure", "micros rate share answered late")


def cell(server, load):
    """One load on a server that runs."""
    wanted = LOADS[load]
    plan = {
        "address": f"127.0.0.1:{ISSUER_PORT}",
        "host": HOST,
        "certificate": str(server.place.certificate),
        "issuer": ISSUER,
        "token": "/oauth/token",
        "authorize": "/oauth/authorize",
        "par": "/oauth/par",
        "scope": SCOPE,
        "resource": API,
        "redirect": REDIRECT,
        "cookies": server.signed_in() if wanted["kind"] != "client_credentials" else [],
        "connections": CONNECTIONS,
        "warm_up": WARM_UP,
        "seconds": SECONDS,
        "prepared": int(6000 * (SECONDS + WARM_UP)),
        **wanted,
    }
    if "key" in wanted:
        plan["key"] = str(server.place.client_key)
    path = server.place.work / "plan.json"
    path.write_text(json.dumps(plan))
    child = subprocess.Popen(
        ["taskset", "-c", LOAD_CORE, CLIENTS, "run", path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    # Whatever hangs is ended: a run is bounded.
    bound = bounded(child, 60 + WARM_UP + SECONDS)
    try:
        if child.stdout.readline().strip() != "ready":
            child.wait(timeout=5)
            raise Fault(f"{server.name}, {load}: {child.stderr.read()[-800:]} {server.process.said()[-500:]}")
        before, began = server.process.cpu_s(), time.monotonic()
        out, err = child.communicate("go\n")
        cpu, wall = server.process.cpu_s() - before, time.monotonic() - began
    finally:
        bound.cancel()
        if child.poll() is None:
            child.kill()
            child.wait()
    if child.returncode != 0:
        raise Fault(f"{server.name}, {load}: {err[-800:]} {server.process.said()[-500:]}")
    done = json.loads(out)
    if not done["answered"]:
        raise Fault(f"{server.name}, {load}: nothing was answered")
    return Figure(1e6 * cpu / done["answered"], done["answered"] / done["seconds"], cpu / wall, done["answered"], done["late"])


def bounded(child, seconds):
    bound = threading.Timer(seconds, child.kill)
    bound.daemon = True
    bound.start()
    return bound


def measure(servers, loads):
    figures = {}
    for turn in range(ROUNDS):
        for load in loads:
            for server in servers if turn % 2 == 0 else servers[::-1]:
                try:
                    server.start()
                    found = cell(server, load)
                finally:
                    server.stop()
                figures.setdefault((load, server.name), []).append(found)
                late = f", {found.late} signed late" if found.late else ""
                note(f"round {turn + 1} {load}, {server.name}: {found.rate:.0f}/s, {found.micros:.0f} µs, core {found.share:.0%}{late}")
    return figures


def table(figures, servers, loads):
    lines = [
        "| load | server | answers/s | best | CPU µs each | best | core | per core/s | × peer | goal |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    for load in loads:
        # What a core gives: a second of CPU divided by what each costs.
        per_core = {s.name: 1e6 / statistics.median(f.micros for f in figures[load, s.name]) for s in servers}
        peer = per_core.get("oidc-provider")
        for server in servers:
            found = figures[load, server.name]
            middle = lambda what: statistics.median(getattr(f, what) for f in found)
            times = per_core[server.name] / peer if peer else None
            goal = verdict(load, middle("rate"), times) if server.name == "portcullis" else ""
            columns = [load, server.name, f"{middle('rate'):.0f}", f"{max(f.rate for f in found):.0f}"]
            columns += [f"{middle('micros'):.0f}", f"{min(f.micros for f in found):.0f}", f"{middle('share'):.0%}"]
            columns += [f"{per_core[server.name]:.0f}", f"{times:.1f}" if times else "–", goal]
            lines.append("| " + " | ".join(columns) + " |")
    return "\n".join(lines)


def verdict(load, rate, times):
    said = []
    if load in GOALS:
        said.append(f"{GOALS[load]}/s: {'met' if rate >= GOALS[load] else '**missed**'}")
    if times:
        said.append(f"≥ {TIMES_PEER} ×: {'met' if times >= TIMES_PEER else '**missed**'}")
    return "; ".join(said)


def note(text):
    print(text, file=sys.stderr, flush=True)


def report(arguments, place):
    servers = []
    for name in arguments.targets.split(","):
        if name not in ALL:
            raise Fault(f"`{name}` is no target: {', '.join(ALL)}")
        server = ALL[name](place)
        missing = server.missing()
        if missing:
            note(f"{name} is left out: {missing}")
        else:
            servers.append(server)
    print(
        f"{time.strftime('%Y-%m-%d %H:%M')}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before; "
        f"{ROUNDS} rounds of {SECONDS:g} s, {CONNECTIONS} connections\n"
    )
    figures = measure(servers, arguments.loads)
    print(table(figures, servers, arguments.loads))
    print(f"\nload {os.getloadavg()[0]:.1f} after (the bench's own is 2)")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("loads", nargs="*", metavar="LOAD", help=", ".join(LOADS))
    parser.add_argument("--targets", default=",".join(ALL), help=", ".join(ALL))
    arguments = parser.parse_args()
    arguments.loads = arguments.loads or list(LOADS)
    if unknown := set(arguments.loads) - set(LOADS):
        parser.error(f"no such load: {', '.join(unknown)}")
    if len(os.sched_getaffinity(0)) < 2:
        sys.exit("two cores are needed: one for the server, one for its clients")
    for program in ("openssl", "taskset", CLIENTS):
        if not shutil.which(program):
            sys.exit(f"`{program}` was not found: see bench/README.md")
    # An end from outside must not leave the children behind: it unwinds like any other.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended from outside"))
    with tempfile.TemporaryDirectory(prefix="bench-login-") as work:
        try:
            report(arguments, Place(work))
        except (Fault, subprocess.TimeoutExpired) as fault:
            sys.exit(f"failed: {fault}")
        except KeyboardInterrupt:
            sys.exit("interrupted")


if __name__ == "__main__":
    main()
