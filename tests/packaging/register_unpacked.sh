#!/bin/bash
# A hook of mmdebstrap --variant=extract: enters the packages that were unpacked into the root $1 in its dpkg database, as installed, although their
# maintainer scripts did not run. So dpkg checks the dependencies of what is installed later, and no program of another architecture is run for that.
set -euo pipefail
dpkg=$1/var/lib/dpkg
for deb in "$1"/var/cache/apt/archives/*.deb; do
    dpkg-deb -f "$deb" | sed '1a Status: install ok installed'
    echo
    name=$(dpkg-deb -f "$deb" Package)
    if dpkg-deb -f "$deb" Multi-Arch | grep -qx same; then name+=:$(dpkg-deb -f "$deb" Architecture); fi
    dpkg-deb --fsys-tarfile "$deb" | tar -t | sed 's,^\.,,; s,/$,,; s,^$,/.,' >"$dpkg/info/$name.list"
done >>"$dpkg/status"
[ -e "$1/etc/passwd" ] || cp "$1/usr/share/base-passwd/passwd.master" "$1/etc/passwd"
[ -e "$1/etc/group" ] || cp "$1/usr/share/base-passwd/group.master" "$1/etc/group"
mkdir -p -m 700 "$1/var/lib/private"  # systemd's own, when it starts
