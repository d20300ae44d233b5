#!/bin/bash
# Builds the package in a clean Debian 13, also for arm64 (from amd64), and installs each in another, whose libraries have other names.
# The packages come to build/packages/trixie, where toolchain/emulate --suite trixie finds the one for arm64.
. "$(dirname "$0")/common.sh"
[ "$suite" != trixie ] || skip "this is Debian 13: the other tests are on it"
need_root
start_work
export SLMD_TEST_SUITE=trixie
suite=trixie
arches=("$native") cross=()
if [ "$native" = amd64 ]; then
    arches+=(arm64)
    # What toolchain/install-dependencies --arm64 installs, as far as the package needs it.
    cross=(crossbuild-essential-arm64, qemu-user, {libc6,libstdc++6,libgpiod-dev,libmbedtls-dev,libsqlite3-dev,libtomlplusplus-dev,libzstd-dev}:arm64,)
fi
# What the package is built from, by its own control file: as if it were a package's dependencies.
mkdir -p "$work/build-deps/DEBIAN"
{
    printf 'Package: build-deps\nVersion: 1\nArchitecture: all\nMaintainer: none <none@none.invalid>\nDescription: none\nDepends: g++, dpkg-dev, %s' "${cross[*]}"
    sed -n '/^Build-Depends:/,/^[A-Z]/{s/^Build-Depends://;/^[A-Z]/d;p}' "$source/toolchain/packaging/debian/control" | tr -d '\n' | sed 's/debhelper-compat ([^)]*)/debhelper/'
    echo
} >"$work/build-deps/DEBIAN/control"
dpkg-deb -b "$work/build-deps" "$work/build-deps.deb" >/dev/null
clean_root "$work/build" "$(IFS=,; echo "${arches[*]}")" "$work/build-deps.deb"
mkdir -p "$work/build/src"
(cd "$source" && { git ls-files -co --exclude-standard 2>/dev/null || find . -type f ! -path './build/*' ! -path './.git/*'; } | while read -r f; do [ ! -e "$f" ] || echo "$f"; done |
    tar -c -T - | tar -x -C "$work/build/src")
in_root "$work/build" /bin/bash -c "cd /src && toolchain/package --only slmd --only slm-uplink ${arches[*]}" >"$work/log" 2>&1 || {
    tail -n 30 "$work/log" "$work/build"/src/build/packages/*.log
    fail "the package cannot be built on Debian 13"
}
export SLMD_TEST_PACKAGES=$source/build/packages/trixie
packages=$SLMD_TEST_PACKAGES
rm -rf "$packages"
mkdir -p "$packages"
cp "$work/build"/src/build/packages/slmd* "$packages"
for arch in "${arches[@]}"; do
    deb=$(deb_of slmd "$arch")
    case $(dpkg-deb -f "$deb" Version) in *~deb13) ;; *) fail "the version does not name Debian 13" ;; esac
    case $(dpkg-deb -f "$deb" Depends) in *libgpiod3*) ;; *) fail "${deb##*/} does not depend on libgpiod 2" ;; esac
    dpkg-deb -f "$deb" Version Depends
done
"$(dirname "$0")/install.sh" native
[ "$native" = arm64 ] || "$(dirname "$0")/install.sh" arm64
