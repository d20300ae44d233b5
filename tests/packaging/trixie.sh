#!/bin/bash
# Builds the package in a clean Debian 13, and installs it in another, whose libraries have other names.
. "$(dirname "$0")/common.sh"
[ "$suite" != trixie ] || skip "this is Debian 13: the other tests are on it"
need_root
start_work
export SLMD_TEST_SUITE=trixie
suite=trixie
# What the package is built from, by its own control file: as if it were a package's dependencies.
mkdir -p "$work/build-deps/DEBIAN"
{
    printf 'Package: build-deps\nVersion: 1\nArchitecture: all\nMaintainer: none <none@none.invalid>\nDescription: none\nDepends: g++, dpkg-dev, '
    sed -n '/^Build-Depends:/,/^[A-Z]/{s/^Build-Depends://;/^[A-Z]/d;p}' "$source/toolchain/packaging/debian/control" | tr -d '\n' | sed 's/debhelper-compat ([^)]*)/debhelper/'
    echo
} >"$work/build-deps/DEBIAN/control"
dpkg-deb -b "$work/build-deps" "$work/build-deps.deb" >/dev/null
clean_root "$work/build" "$native" "$work/build-deps.deb"
mkdir -p "$work/build/src"
(cd "$source" && { git ls-files -co --exclude-standard 2>/dev/null || find . -type f ! -path './build/*' ! -path './.git/*'; } | while read -r f; do [ ! -e "$f" ] || echo "$f"; done |
    tar -c -T - | tar -x -C "$work/build/src")
in_root "$work/build" /bin/bash -c 'cd /src && toolchain/package --only slmd' >"$work/log" 2>&1 || {
    tail -30 "$work/log" "$work/build"/src/build/packages/*.log
    fail "the package cannot be built on Debian 13"
}
export SLMD_TEST_PACKAGES=$work/build/src/build/packages
packages=$SLMD_TEST_PACKAGES
case $(dpkg-deb -f "$(deb_of slmd "$native")" Version) in *~deb13) ;; *) fail "the version does not name Debian 13" ;; esac
dpkg-deb -f "$(deb_of slmd "$native")" Version Depends
status=0
"$(dirname "$0")/install.sh" native || status=$?
exit $status
