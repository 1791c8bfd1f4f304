#!/usr/bin/env bash
# Clients that were not written here, against a running server. Loopback only; stops by itself.
#   conformance/clients.sh [BINARY [PROGRAM…]]
# Wants cc, curl, openssl, node, npm, python3 with venv, cargo. A program that fails does not hide the
# others; what the server recorded is shown at the end.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
binary=$(realpath "${1:-$here/../target/release/portcullis}")
shift || true
only=("$@")
started=()
failed=()
wanted() { [ ${#only[@]} -eq 0 ] || [[ " ${only[*]} " == *" $1 "* ]]; }

echo "-- packages"
# The slow two go on beside the first programs.
if wanted crates; then
  (cd "$here/rust" && CARGO_TARGET_DIR="$here/rust/target" exec cargo build --quiet --locked) &
  compiling=$!
  started+=("$compiling")
fi
if wanted mcp-suite; then
  (cd "$here/mcp" && exec npm ci --silent --no-audit --no-fund) &
  fetching=$!
  started+=("$fetching")
fi
(cd "$here/node" && npm ci --silent --no-audit --no-fund)
[ -x "$here/python/.venv/bin/python" ] || python3 -m venv "$here/python/.venv"
"$here/python/.venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/python/requirements.txt"

echo "-- the stage"
. "$here/stage/start.sh"

# Runs one program, for a person of its own, for at most a minute.
run() {
  local name=$1
  shift
  wanted "$name" || return 0
  LOGIN=$name PASSWORD=$(person "$name") timeout 60 "$@" || failed+=("$name")
}

for program in public fapi2 service certificates device signed oauth4webapi mcp differences; do
  run "$program" node "$here/node/$program.mjs"
done
run authlib "$here/python/.venv/bin/python" "$here/python/flows.py"
! wanted mcp-suite || wait "$fetching" || failed+=("packages of mcp-suite")
run mcp-suite node "$here/node/mcp-suite.mjs"
! wanted crates || wait "$compiling" || failed+=("compiling the crates")
run crates "$here/rust/target/debug/portcullis-conformance"

if [ ${#failed[@]} -gt 0 ]; then
  echo "-- records"
  tail -n 40 "$work/records.jsonl"
  cat "$work/server.log"
  printf 'FAILED: %s\n' "${failed[@]}"
  exit 1
fi
