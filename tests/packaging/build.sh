#!/bin/bash
# Makes the packages that the other tests look at: for this machine, and for arm64 where there is a compiler for it.
# Usage: build.sh board|all         board: slmd and slm-uplink
. "$(dirname "$0")/common.sh"
need dh debhelper
only=()
[ "$1" = all ] || only=(--only slmd --only slm-uplink)
arches=("$native")
if [ "$native" = amd64 ] && command -v aarch64-linux-gnu-g++ >/dev/null; then arches+=(arm64); fi
cd "$source"
toolchain/package "${only[@]}" "${arches[@]}"
