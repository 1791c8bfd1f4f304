"""The proxies under test: how each is started, checked and stopped; the floor, and ours. The peers'
configurations are in `peers.py`.

Every target does the same work in the same mode, as near as its settings come to it; where they do
not, README.md says so. Only the Python standard library.
"""

import base64
import http.client
import json
import os
import pathlib
import resource
import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parent.parent
BARE = os.environ.get("BENCH_BARE", str(ROOT / "target/release/bench-bare"))
PORTCULLIS = os.environ.get("BENCH_PORTCULLIS", str(ROOT / "target/release/portcullis"))
HAPROXY = os.environ.get("BENCH_HAPROXY", "haproxy")
ENVOY = os.environ.get("BENCH_ENVOY", "envoy")

PORT = int(os.environ.get("BENCH_PORT", "18440"))
TLS_PORT, ISSUER_PORT, HEALTH_PORT, UPSTREAM_PORT = PORT, PORT + 1, PORT + 2, PORT + 3
PROXY_CORE, LOAD_CORE = "0", "1"

PATH = "/v1/accounts/acc-0/payments"
UNLISTED = "/v1/accounts/acc-0/secrets"
AT = f"https://localhost:{TLS_PORT}/v1"
ISSUER = "https://issuer.bench.example"
OPEN_FILES = 65536
CALLERS = 100  # service clients of ours: tokens of many subjects
MIX = 1000


class Fault(Exception):
    """What makes a run worthless: it is reported and ends the run."""


def need(port):
    """Refuses a taken port: another server would be measured, or be in the way."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise Fault(f"port {port} is taken ({error}); set BENCH_PORT") from error


def raise_open_files():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class Process:
    """A child on one core; ended by its own id."""

    def __init__(self, arguments, core, work, name, out=None):
        self.errors = work / f"{name}.err"
        with open(self.errors, "wb") as err, open(out or os.devnull, "wb") as stdout:
            self.started = time.monotonic()
            self.child = subprocess.Popen(
                ["taskset", "-c", core, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=err,
                cwd=work,
            )
        self.name = name

    @property
    def pid(self):
        return self.child.pid

    def cpu_s(self):
        """utime + stime of all its threads, in seconds."""
        text = pathlib.Path(f"/proc/{self.pid}/stat").read_text()
        fields = text.rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss_kib(self):
        for line in pathlib.Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        return 0

    def written(self):
        """Bytes given to write calls, and bytes that reached a disk's queue."""
        lines = pathlib.Path(f"/proc/{self.pid}/io").read_text().splitlines()
        fields = dict(line.split(": ") for line in lines)
        return int(fields["wchar"]), int(fields["write_bytes"])

    def said(self):
        return self.errors.read_text(errors="replace")[-2000:]

    def stop(self):
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(timeout=3)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait(timeout=5)


def trusting():
    """The bench measures; it has no secret to protect on loopback."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def ask(path, token=None, port=TLS_PORT, timeout=5):
    """One GET on a new connection: its status."""
    connection = http.client.HTTPSConnection("localhost", port, timeout=timeout, context=trusting())
    try:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()


class Bench:
    """The run's folder, its keys, and the upstream that all targets share."""

    def __init__(self, work):
        self.work = pathlib.Path(work)
        self.certificate, self.key = self.work / "tls.pem", self.work / "tls.key"
        self.jwt_key, self.jwt_public = self.work / "jwt.key", self.work / "jwt.pub"
        raise_open_files()
        for port in (TLS_PORT, ISSUER_PORT, HEALTH_PORT, UPSTREAM_PORT):
            need(port)
        self.make_keys()
        self.upstream = Process([BARE, "upstream", f"127.0.0.1:{UPSTREAM_PORT}"], LOAD_CORE, self.work, "upstream")

    def make_keys(self):
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        run(
            ["openssl", "req", "-x509", *curve, "-nodes", "-days", "30", "-subj", "/CN=localhost"]
            + ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
            + ["-keyout", self.key, "-out", self.certificate]
        )
        run(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", self.jwt_key])
        run(["openssl", "pkey", "-in", self.jwt_key, "-pubout", "-out", self.jwt_public])
        both = self.work / "tls-both.pem"
        both.write_bytes(self.certificate.read_bytes() + self.key.read_bytes())
        both.chmod(0o600)

    def jwks(self):
        der = run(["openssl", "pkey", "-in", self.jwt_key, "-pubout", "-outform", "DER"])
        point = [base64.urlsafe_b64encode(half).rstrip(b"=").decode() for half in (der[-64:-32], der[-32:])]
        key = {"kty": "EC", "crv": "P-256", "x": point[0], "y": point[1]}
        return {"keys": [{**key, "kid": "bench", "alg": "ES256", "use": "sig"}]}

    def mint(self, count, lifetime=3600, issuer=ISSUER, audience=AT):
        out = run([BARE, "mint", self.jwt_key, issuer, audience, str(lifetime), str(count)])
        return out.decode().split()

    def stop(self):
        self.upstream.stop()


def run(arguments, timeout=60):
    done = subprocess.run([str(a) for a in arguments], capture_output=True, timeout=timeout)
    if done.returncode != 0:
        raise Fault(f"{arguments[0]} failed: {done.stderr.decode(errors='replace')[-500:]}")
    return done.stdout


def forged(token):
    """The same token with another signature."""
    head, signature = token.rsplit(".", 1)
    return f"{head}.{signature[:-8]}{'A' * 8 if not signature.endswith('A' * 8) else 'B' * 8}"


class Target:
    """What all have in common. `verifies`: counts as a peer that checks tokens."""

    verifies = True
    modes = ("m0", "m1", "m2", "m3")
    loads = ("h1 hot", "h1 mix", "h2 hot")

    def __init__(self, bench):
        self.bench = bench
        self.process = None

    def missing(self):
        """Why it cannot be measured here, or None."""
        program = self.program()
        return None if shutil.which(program) else f"`{program}` was not found"

    def start(self, mode):
        """Starts it and waits for its first 200: how long that took, in seconds."""
        for port in (TLS_PORT, ISSUER_PORT, HEALTH_PORT):
            need(port)
        arguments = self.configure(mode)
        self.process = Process(arguments, PROXY_CORE, self.bench.work, self.name, out=self.log())
        return self.wait(mode)

    def log(self):
        """Where its records go: its standard output."""
        return self.bench.work / f"{self.name}.log"

    def recorded(self):
        """Lines in its log."""
        with open(self.log(), "rb") as lines:
            return sum(chunk.count(b"\n") for chunk in iter(lambda: lines.read(1 << 20), b""))

    def wait(self, mode):
        path, expected = self.first(mode)
        while time.monotonic() - self.process.started < 15:
            if self.process.child.poll() is not None:
                break
            try:
                with socket.create_connection(("127.0.0.1", TLS_PORT), timeout=1):
                    pass
                if ask(path, self.early_token(mode)) == expected:
                    return time.monotonic() - self.process.started
            except OSError:
                pass
            time.sleep(0.001)
        raise Fault(f"{self.name} {mode} did not start: {self.process.said()}")

    def first(self, _mode):
        return PATH, 200

    def early_token(self, _mode):
        return self.tokens(1)[0]

    def check(self, mode):
        """A target counts only if it refuses what its mode says it does."""
        good = self.tokens(1)[0]
        expected = [("the token", PATH, good, (200,))]
        if mode != "m0":
            expected += [
                ("no token", PATH, None, (401,)),
                ("a forged signature", PATH, forged(good), (401,)),
            ]
            # Envoy refuses another audience with 403.
            expected += [(what, PATH, token, (401, 403)) for what, token in self.bad_tokens()]
        if mode == "m3":
            expected += [("an unlisted path", UNLISTED, good, (403, 404))]
        for what, path, token, statuses in expected:
            status = ask(path, token)
            if status not in statuses:
                raise Fault(f"{self.name} {mode}: {what} was answered {status}, not {statuses}")

    def tokens(self, count):
        return self.bench.mint(count)

    def bad_tokens(self):
        mint = self.bench.mint
        return [
            ("an expired token", mint(1, lifetime=-3600)[0]),
            ("another issuer's token", mint(1, issuer="https://other.example")[0]),
            ("a token for another API", mint(1, audience="https://other.example")[0]),
        ]

    def stop(self):
        if self.process:
            self.process.stop()
            self.process = None


class Bare(Target):
    """The floor: no check, whatever the mode."""

    name = "bare"
    verifies = False

    def program(self):
        return BARE

    def configure(self, _mode):
        b = self.bench
        return [BARE, "proxy", f"127.0.0.1:{TLS_PORT}", f"127.0.0.1:{UPSTREAM_PORT}", b.certificate, b.key]

    def check(self, _mode):
        Target.check(self, "m0")


class Portcullis(Target):
    """Ours. Its tokens come from its own token endpoint."""

    name = "portcullis"
    LINES = {
        "m0": '{ allow = "anyone", limit = "none", limit_reason = "bench", audit = "none" }',
        "m1": '{ allow = "service", limit = "none", limit_reason = "bench", audit = "none", shared = "bench" }',
        "m2": '{ allow = "service", limit = "wide", audit = "none", shared = "bench" }',
        "m3": '{ allow = "service", scope = "payments:read", limit = "wide", shared = "bench" }',
        "m3w": '{ allow = "service", scope = "payments:read", limit = "wide", when = "resource.account == \\"acc-0\\"" }',
    }
    modes = tuple(LINES)

    def program(self):
        return PORTCULLIS

    def configure(self, mode):
        work = self.bench.work / "portcullis"
        work.mkdir(exist_ok=True)
        (work / "secret").write_text("a-secret-of-the-bench-0123456789\n")
        waivers = 'bearer_tokens = "2099-01-01", no_par = "2099-01-01", client_secret = "2099-01-01"'
        client = f'{{ type = "service", scopes = ["payments:read"], secret = {{ file = "secret" }}, waivers = {{ {waivers} }} }}'
        clients = "\n".join(f"caller{n} = {client}" for n in range(CALLERS))
        (work / "portcullis.toml").write_text(
            f"""[server]
domains = ["localhost"]
listen = ["127.0.0.1:{TLS_PORT}", "127.0.0.1:{ISSUER_PORT}"]
plain = "off"
health = "127.0.0.1:{HEALTH_PORT}"
tls = {{ certificate = "{self.bench.certificate}", key = "{self.bench.key}" }}
data = "data"

[identity]
issuer = "https://localhost:{ISSUER_PORT}"

[clients]
{clients}

[limits]
peer = "1000000/s per ip, burst 1000000"
house = "1000000/s per ip, burst 1000000"
wide = "1000000/s per client, burst 1000000"

[api.payments]
at = "{AT}"
upstream = "http://127.0.0.1:{UPSTREAM_PORT}"

[api.payments.access]
"GET /accounts/{{account}}/payments" = {self.LINES[mode]}
"GET /accounts/{{account}}" = {{ allow = "service", scope = "payments:read", shared = "bench" }}
"""
        )
        return [PORTCULLIS, "serve", "-c", work / "portcullis.toml"]

    def first(self, mode):
        # Its tokens come from a running server: until then, a 401 is the first answer.
        return (PATH, 200) if mode == "m0" else (PATH, 401)

    def early_token(self, _mode):
        return None

    def tokens(self, count):
        """Lives five minutes: fetched anew for each load."""
        secret = "a-secret-of-the-bench-0123456789"
        form = {"grant_type": "client_credentials", "scope": "payments:read", "resource": AT}
        body = urllib.parse.urlencode(form)
        connection = http.client.HTTPSConnection("localhost", ISSUER_PORT, timeout=10, context=trusting())
        tokens = []
        for number in range(count):
            basic = base64.b64encode(f"caller{number % CALLERS}:{secret}".encode()).decode()
            headers = {"authorization": f"Basic {basic}", "content-type": "application/x-www-form-urlencoded"}
            connection.request("POST", "/oauth/token", body, headers)
            response = connection.getresponse()
            answer = response.read()
            if response.status != 200:
                raise Fault(f"the token endpoint answered {response.status}: {answer[:300]}")
            tokens.append(json.loads(answer)["access_token"])
        connection.close()
        return tokens

    def bad_tokens(self):
        # Signed by a key that it does not know; expiry and audience are checked by its own tests.
        return [("another server's token", self.bench.mint(1)[0])]
