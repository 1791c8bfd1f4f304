#!/usr/bin/env bash
# Everything that must hold, on a machine with only the Rust toolchain: format, lints, tests, the
# tour, and clients that were not written here. Installs what the tests need (Debian, npm, PyPI).
# One target folder and one profile: what is tested is what ships.
set -euo pipefail
cd "$(dirname "$0")"
export CARGO_TERM_COLOR=never
# Random suites run on this seed; set it to repeat a run. (A fuzz body that fails prints its own.)
export PROPTEST_RNG_SEED=${PROPTEST_RNG_SEED:-$((RANDOM * 32768 + RANDOM))}
echo "seed: PROPTEST_RNG_SEED=$PROPTEST_RNG_SEED"

passed=0
failed=0
began=$SECONDS

say() { printf '\n== %s (%ds)\n' "$1" "$((SECONDS - began))"; }

# Runs one named check; a failure is counted, shown, and the rest goes on.
check() {
  local name=$1
  shift
  say "$name"
  if "$@"; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    echo "FAILED: $name"
  fi
}

# Runs cargo's tests and adds up the runners' own summary lines.
cargo_tests() {
  local log
  log=$(mktemp)
  local status=0
  cargo test --release --locked --workspace 2>&1 | tee "$log" || status=$?
  local sums
  sums=$(awk '/^test result:/ {p += $4; f += $6} END {print p + 0, f + 0}' "$log")
  passed=$((passed + ${sums% *}))
  failed=$((failed + ${sums#* }))
  rm -f "$log"
  return "$status"
}

packages() {
  local missing=()
  command -v cc >/dev/null || missing+=(build-essential)
  command -v node >/dev/null || missing+=(nodejs)
  command -v npm >/dev/null || missing+=(npm)
  command -v python3 >/dev/null || missing+=(python3)
  python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
  command -v curl >/dev/null || missing+=(curl)
  command -v openssl >/dev/null || missing+=(openssl)
  [ ${#missing[@]} -eq 0 ] && return 0
  local sudo=()
  [ "$(id -u)" -eq 0 ] || sudo=(sudo)
  "${sudo[@]}" apt-get update -q && "${sudo[@]}" apt-get install -q -y "${missing[@]}"
}

say "packages"
packages
check "format" cargo fmt --all --check
check "lints" cargo clippy --release --locked --workspace --all-targets -- -D warnings
check "binary" cargo build --release --locked
check "tests" cargo_tests
check "tour" ./target/release/portcullis demo --tour
check "clients not written here" conformance/clients.sh ./target/release/portcullis

printf '\nall checks took %d s\n' "$((SECONDS - began))"
printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
