#!/usr/bin/env bash
# Full counts of everything that test.sh boxes: random suites, fuzz bodies, the tour again and again,
# clients not written here. Writes a dated report beside this file.
#   conformance/full.sh [MINUTES OF FUZZING, default 2]
set -euo pipefail
cd "$(dirname "$0")/.."
minutes=${1:-2}
report="conformance/reports/$(date -u +%F).md"
mkdir -p conformance/reports
cargo build --release --locked

bodies=$(sed -n '/^pub const BODIES/,/^];/p' fuzz/src/lib.rs | grep -c '^    ("')
[ "$bodies" -gt 0 ] || bodies=10
export PROPTEST_CASES=${PROPTEST_CASES:-20000}
export PORTCULLIS_FUZZ_MS=$((minutes * 60000 / bodies))

row() { printf '| %s | %s | %d s |\n' "$1" "$2" "$3" >> "$report"; }
run() {
  local name=$1 began=$SECONDS
  shift
  local log status=0
  log=$(mktemp)
  "$@" > "$log" 2>&1 || status=$?
  local line
  # Cargo's and the tour's lines are added up; the clients' stand as they are.
  line=$(awk '/^test result:/ {p += $4; f += $6; seen = 1; next}
    /^[0-9]+ passed, [0-9]+ failed/ {p += $1; f += $3; seen = 1; next}
    /^[A-Za-z0-9, -]+: [0-9]+ passed/ {print}
    END {if (seen) print p " passed, " f " failed"}' "$log" | paste -sd';')
  [ "$status" -eq 0 ] || line="FAILED (exit $status) $line"
  row "$name" "$line" "$((SECONDS - began))"
  [ "$status" -eq 0 ] || tail -n 40 "$log"
  rm -f "$log"
}

{
  echo "# Full run of $(date -u +%F)"
  echo
  echo "$(rustc --version); $(nproc) cores, $(grep -m1 'model name' /proc/cpuinfo | cut -d: -f2 | xargs); commit $(git rev-parse --short HEAD)."
  echo "Random suites: $PROPTEST_CASES cases each; fuzz bodies: $PORTCULLIS_FUZZ_MS ms each."
  echo
  echo "| suite | outcome | took |"
  echo "|---|---|---|"
} > "$report"

for crate in core policy store identity gateway; do
  run "portcullis-$crate" cargo test --release --locked -p "portcullis-$crate"
done
run "a million decisions against Cedar" cargo test --release --locked -p portcullis-policy --lib -- --ignored a_million
run "fuzz bodies" cargo test --release --locked -p portcullis-fuzz
run "the binary, through its front door" cargo test --release --locked -p portcullis
run "tour, ten times" bash -c 'for _ in $(seq 10); do ./target/release/portcullis demo --tour || exit 1; done'
run "clients not written here" conformance/clients.sh ./target/release/portcullis
cat "$report"
! grep -q FAILED "$report"
