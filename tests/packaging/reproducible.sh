#!/bin/bash
# The same tree in another folder, with another umask, time zone, language and time of its files, gives the same bytes.
# Usage: reproducible.sh [PACKAGE]     without it: all
. "$(dirname "$0")/common.sh"
start_work
only=()
[ $# = 0 ] || only=(--only "$1")
SOURCE_DATE_EPOCH=$(git -C "$source" log -1 --format=%ct 2>/dev/null || stat -c %Y "$source/CHANGELOG.md")
export SOURCE_DATE_EPOCH
(cd "$source" && toolchain/package "${only[@]}" "$native" >"$work/first.log" 2>&1) || { tail "$work/first.log"; fail "the first build failed"; }
tree=$work/somewhere/else/entirely
mkdir -p "$tree"
(cd "$source" && { git ls-files -co --exclude-standard 2>/dev/null || find . -type f ! -path './build/*' ! -path './.git/*'; } | while read -r f; do [ ! -e "$f" ] || echo "$f"; done |
    tar -c -T - | tar -x -m -C "$tree")
(cd "$tree" && umask 077 && TZ=Pacific/Kiritimati LANG=de_DE.UTF-8 HOME=$work toolchain/package "${only[@]}" "$native" >"$work/second.log" 2>&1) ||
    { tail "$work/second.log"; fail "the second build failed"; }
compared=0
for second in "$tree"/build/packages/*.deb; do
    first=$packages/${second##*/}
    if ! cmp "$first" "$second"; then
        diff <(dpkg-deb -c "$first"; dpkg-deb -f "$first") <(dpkg-deb -c "$second"; dpkg-deb -f "$second") || true
        dpkg-deb -R "$first" "$work/a"
        dpkg-deb -R "$second" "$work/b"
        diff -rq --no-dereference "$work/a" "$work/b" || true
        fail "${second##*/} differs"
    fi
    compared=$((compared + 1))
done
[ $compared -ge 2 ] || fail "$compared packages were compared"
if strings -a "$tree"/build/package-*/tree/debian/.build/* "$tree"/build/package-*/tree/debian/slm*/usr/*bin/* 2>/dev/null | grep -F "$work"; then
    fail "the folder of the build is in a program"
fi
echo "$compared packages are the same, byte for byte"
