# Sourced by clients.sh, which has begun the list `started`: a folder of its own with keys, certificates and a config, an upstream that
# was not written here (the Python standard library's file server), the server, and what else stands
# on loopback. Everything is stopped by its process id.
work=$(mktemp -d)
finish() {
  for pid in "${started[@]}"; do kill "$pid" 2> /dev/null || true; done
  for pid in "${started[@]}"; do wait "$pid" 2> /dev/null || true; done
  rm -rf "$work"
}
trap finish EXIT

# So many ports that nobody listens on, all different.
free_ports() {
  python3 -c 'import socket, sys
held = [socket.socket() for _ in range(int(sys.argv[1]))]
for s in held: s.bind(("127.0.0.1", 0))
print(*[s.getsockname()[1] for s in held])' "$1"
}
# Waits, but not for ever, until something answers.
await() {
  for _ in $(seq 150); do
    curl -sf --cacert "$work/data/ca.pem" "$1" > /dev/null && return 0
    sleep 0.1
  done
  echo "nothing answers at $1"
  return 1
}
# Someone with a password; prints it.
person() { "$binary" user add "$1" --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["one_off_password"])'; }

read -r api_port issuer_port health_port upstream_port mcp_port document_port peer_port <<< "$(free_ports 7)"
export STAGE="$work" CA="$work/data/ca.pem" SERVICE_KEY="$work/robot.pem"
export ISSUER="https://localhost:$issuer_port" API="https://localhost:$api_port/v1"
export VAULT="https://vault.localhost:$api_port/v1" TOOLS="https://mcp.localhost:$api_port"
export DOCUMENTS="https://tools.example:$document_port" PEER_PORT="$peer_port" MCP_PORT="$mcp_port"

cc -shared -fPIC -o "$work/names.so" "$here/stage/names.c" -ldl
export LD_PRELOAD="$work/names.so"

mkdir "$work/files"
echo "hello from a file server" > "$work/files/hello.txt"
for name in robot bound vault; do echo "hello $name" > "$work/files/$name.txt"; done
python3 -m http.server --bind 127.0.0.1 --directory "$work/files" "$upstream_port" > "$work/upstream.log" 2>&1 &
started+=($!)

sed -e "s/@API_PORT@/$api_port/g" -e "s/@ISSUER_PORT@/$issuer_port/g" -e "s/@HEALTH_PORT@/$health_port/g" \
  -e "s/@UPSTREAM_PORT@/$upstream_port/g" -e "s/@MCP_PORT@/$mcp_port/g" \
  -e "s/@DOCUMENT_PORT@/$document_port/g" "$here/stage/portcullis.toml" > "$work/portcullis.toml"
node "$here/stage/keys.mjs" "$work" bank signer machine desk
"$here/stage/certificates.sh" "$work" clients
(umask 077 && openssl rand -hex 24 | tr -d '\n' | tee "$work/legacy.secret" > "$work/registration.token")

cd "$work"
"$binary" client add robot --type service --scopes "files:robot" --new-key robot.pem \
  --waive-bearer-tokens 2099-12-31 --waive-no-par 2099-12-31
"$binary" serve > records.jsonl 2> server.log &
started+=($!)
await "http://127.0.0.1:$health_port/readyz" || { cat server.log; exit 1; }

# requests lets the environment win over a session: so it is said there.
export NODE_EXTRA_CA_CERTS="$CA" REQUESTS_CA_BUNDLE="$CA"
"$here/stage/certificates.sh" "$work" documents
for program in documents mcp-server; do
  node "$here/node/$program.mjs" > "$program.log" 2>&1 &
  started+=($!)
done
await "$DOCUMENTS/client.json" || { cat documents.log; exit 1; }
