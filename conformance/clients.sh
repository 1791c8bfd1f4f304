#!/usr/bin/env bash
# Clients that were not written here, against a running server, in front of an upstream that was not
# written here (the Python standard library's file server). Loopback only; stops by itself.
#   conformance/clients.sh [BINARY]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
binary=$(realpath "${1:-$here/../target/release/portcullis}")
work=$(mktemp -d)
started=()
finish() {
  for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${started[@]}"; do wait "$pid" 2>/dev/null || true; done
  rm -rf "$work"
}
trap finish EXIT

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
api_port=$(free_port) issuer_port=$(free_port) upstream_port=$(free_port) health_port=$(free_port)

echo "-- packages"
(cd "$here/node" && npm ci --silent --no-audit --no-fund)
[ -x "$here/python/.venv/bin/python" ] || python3 -m venv "$here/python/.venv"
"$here/python/.venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/python/requirements.txt"

echo "-- an upstream"
mkdir "$work/files"
echo "hello from a file server" > "$work/files/hello.txt"
echo "hello robot" > "$work/files/robot.txt"
python3 -m http.server --bind 127.0.0.1 --directory "$work/files" "$upstream_port" > "$work/upstream.log" 2>&1 &
started+=($!)

echo "-- a config"
cat > "$work/portcullis.toml" <<CONFIG
[server]
domains = ["localhost"]
listen = ["127.0.0.1:$api_port", "127.0.0.1:$issuer_port"]
plain = "off"
health = "127.0.0.1:$health_port"
metrics = "127.0.0.1:$health_port"
tls = "local"

[identity]
issuer = "https://localhost:$issuer_port"
mfa = { factors = "totp", require = "everyone" }

[identity.scopes]
"files:read" = "Read files"
"files:robot" = "Read the robot's files"      # granted to a client that lives in the store

[clients]
app = { type = "native", redirect = ["http://127.0.0.1/cb"], scopes = ["openid", "files:read"] }

[limits]
house = "6000/min per ip, burst 600"

[api.files]
at = "https://localhost:$api_port/v1"
upstream = "http://127.0.0.1:$upstream_port"

[api.files.access]
"GET /hello.txt" = { allow = "user", scope = "files:read" }
"GET /robot.txt" = { allow = "service", scope = "files:robot" }
CONFIG
cd "$work"
"$binary" client add robot --type service --scopes "files:robot" --new-key robot.pem \
  --waive-bearer-tokens 2027-06-30 --waive-no-par 2027-06-30
password_of() { "$binary" user add "$1" --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["one_off_password"])'; }
ada=$(password_of ada)
bea=$(password_of bea)

echo "-- the server"
"$binary" serve > records.jsonl 2> server.log &
started+=($!)
for _ in $(seq 100); do
  curl -sf "http://127.0.0.1:$health_port/readyz" > /dev/null && break
  sleep 0.1
done
curl -sf "http://127.0.0.1:$health_port/readyz" || { cat server.log; exit 1; }

export ISSUER="https://localhost:$issuer_port" API="https://localhost:$api_port/v1"
export CA="$work/data/ca.pem" SERVICE_KEY="$work/robot.pem"
# requests lets the environment win over a session: so it is said there.
export NODE_EXTRA_CA_CERTS="$CA" REQUESTS_CA_BUNDLE="$CA"
fail() { echo "-- records"; tail -n 30 "$work/records.jsonl"; cat "$work/server.log"; exit 1; }
LOGIN=ada PASSWORD=$ada node "$here/node/flows.mjs" || fail
LOGIN=bea PASSWORD=$bea "$here/python/.venv/bin/python" "$here/python/flows.py" || fail
