#!/usr/bin/env bash
# Clients that were not written here, against a running server. Loopback only; stops by itself.
#   conformance/clients.sh [BINARY [PROGRAM…]]
# A program that fails does not hide the others; what the server recorded is shown at the end.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
binary=$(realpath "${1:-$here/../target/release/portcullis}")
shift || true
only=("$@")
failed=()
wanted() { [ ${#only[@]} -eq 0 ] || [[ " ${only[*]} " == *" $1 "* ]]; }

echo "-- packages"
if wanted crates; then
  (cd "$here/rust" && CARGO_TARGET_DIR="$here/rust/target" cargo build --quiet --locked) &
  compiling=$!
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
  LOGIN=$name PASSWORD=$(person "$name") timeout 60 "$@" || failed+=("$name")
}

for program in public fapi2 service device signed oauth4webapi mcp mcp-suite differences; do
  ! wanted "$program" || run "$program" node "$here/node/$program.mjs"
done
! wanted authlib || run authlib "$here/python/.venv/bin/python" "$here/python/flows.py"
if wanted crates; then
  wait "$compiling"
  run crates "$here/rust/target/debug/portcullis-conformance"
fi

if [ ${#failed[@]} -gt 0 ]; then
  echo "-- records"
  tail -n 40 "$work/records.jsonl"
  cat "$work/server.log"
  echo "FAILED: ${failed[*]}"
  exit 1
fi
