#!/bin/bash
# The packages that are here have no error and no warning of lintian's.
. "$(dirname "$0")/common.sh"
need lintian lintian
start_work
count=0
for deb in "$packages"/*.deb; do
    [ -e "$deb" ] || fail "there is no package in build/packages: run toolchain/package"
    case $deb in *-dbgsym_*) continue ;; esac
    lintian --allow-root --fail-on error,warning "$deb" || fail "lintian on ${deb##*/}"
    count=$((count + 1))
done
# Would it say so? The same package with a program that anyone may write.
dpkg-deb -R "$(deb_of slmd "$native")" "$work/broken"
chmod 777 "$work/broken/usr/sbin/slmd"
dpkg-deb --root-owner-group -b "$work/broken" "$work/broken.deb" >/dev/null
! lintian --allow-root --fail-on error,warning "$work/broken.deb" >/dev/null 2>&1 || fail "lintian takes a package with a program that anyone may write"
echo "lintian: $count packages without an error or a warning"
