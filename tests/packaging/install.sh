#!/bin/bash
# Installs, upgrades, removes and purges the package on a clean Debian, and looks at what there is after each step.
# Usage: install.sh native|arm64
. "$(dirname "$0")/common.sh"
arch=$1
case $arch in
    native) arch=$native ;;
    "$native") skip "this machine is $native: it is the native one" ;;
    *) [ -e "$packages"/slmd_*_"$arch".deb ] || skip "there is no package for $arch: toolchain/install-dependencies --arm64, toolchain/package $arch" ;;
esac
need_root
start_work
deb=$(deb_of slmd "$arch")
r=$work/root
clean_root "$r" "$arch" "$deb"

if [ "$arch" = "$native" ]; then
    dpkg_() { in_root "$r" dpkg --force-confdef --force-confold "$@"; }
    inside() { in_root "$r" "$@"; }
    older "$deb" "$r/old.deb"
    cp "$deb" "$r/new.deb"
    old=/old.deb new=/new.deb
else
    # Maintainer scripts run outside the root, with DPKG_ROOT: they are Debian's and ours, and say so when they need more.
    need qemu-aarch64 qemu-user
    dpkg_() { dpkg --root="$r" --force-script-chrootless --force-confdef --force-confold "$@"; }
    inside() { local p=$1; shift; qemu-aarch64 -L "$r" "$r$p" "$@"; }
    older "$deb" "$work/old.deb"
    old=$work/old.deb new=$deb
fi
there() { [ -e "$r/$1" ] || [ -L "$r/$1" ] || fail "$2: $1 is not there"; }
gone() { [ ! -e "$r/$1" ] && [ ! -L "$r/$1" ] || fail "$2: $1 is there"; }
state() { dpkg-query --admindir="$r/var/lib/dpkg" -W -f '${db:Status-Status} ${Version}' slmd; }

files_of "$r" >"$work/before"

dpkg_ -i "$old" >"$work/log" 2>&1 || { cat "$work/log"; fail "the older version cannot be installed"; }
[ "$(state)" = "installed 0.0.9-1" ] || fail "after the first installation: $(state)"
grep -q '^slmd-clients:' "$r/etc/group" && grep -q '^gpio:' "$r/etc/group" || fail "a group is missing: $(tail -3 "$r/etc/group")"
! grep -q '^slmd:' "$r/etc/passwd" "$r/etc/group" || fail "a static user or group slmd keeps DynamicUser= from working"
[ "$(readlink "$r/etc/systemd/system/multi-user.target.wants/slmd.service")" ] || fail "slmd.service is not enabled"
[ "$(readlink "$r/etc/systemd/system/sockets.target.wants/slmd.socket")" ] || fail "slmd.socket is not enabled"
there var/lib/private/slmd/models installed
[ "$(stat -c %a "$r/var/lib/private")" = 700 ] || fail "/var/lib/private is open"
[ "$(readlink "$r/var/lib/slmd")" = private/slmd ] || fail "/var/lib/slmd is not the link that systemd expects"
for program in /usr/sbin/slmd /usr/bin/slmctl; do
    version=$(inside $program --version) || fail "$program does not run with the libraries of the package's dependencies"
    [ "$version" = "${program##*/} $(sed -n 's/^project(slmd VERSION \([0-9.]*\).*/\1/p' "$source/CMakeLists.txt")" ] || fail "$program says: $version"
done

# A person's changes: configuration, a model, what slmd measured, a unit that is off.
sed -i 's/^# max = 256/max = 77/' "$r/etc/slmd/slmd.toml"
grep -q '^max = 77$' "$r/etc/slmd/slmd.toml" || fail "the default configuration has no line '# max = 256'"
echo model >"$r/var/lib/private/slmd/models/mine.slm"
echo 3 >"$r/var/lib/private/slmd/threads"
rm "$r/etc/systemd/system/multi-user.target.wants/slmd.service"

dpkg_ -i "$new" >"$work/log" 2>&1 || { cat "$work/log"; fail "the upgrade failed"; }
[ "$(state)" = "installed $(dpkg-deb -f "$deb" Version)" ] || fail "after the upgrade: $(state)"
grep -q '^max = 77$' "$r/etc/slmd/slmd.toml" || fail "the upgrade lost the edited configuration"
there etc/slmd/slmd.toml.dpkg-dist upgraded
[ "$(cat "$r/var/lib/private/slmd/models/mine.slm" "$r/var/lib/private/slmd/threads")" = "model
3" ] || fail "the upgrade changed the state"
gone etc/systemd/system/multi-user.target.wants/slmd.service "upgraded, with the service disabled before"

dpkg_ -r slmd >"$work/log" 2>&1 || { cat "$work/log"; fail "the package cannot be removed"; }
gone usr/sbin/slmd removed
there etc/slmd/slmd.toml removed
there var/lib/private/slmd/threads removed

dpkg_ -P slmd >"$work/log" 2>&1 || { cat "$work/log"; fail "the package cannot be purged"; }
[ ! -s "$work/log" ] || ! grep -i warning "$work/log" || fail "purge warns"
files_of "$r" >"$work/after"
# Groups stay, and their files have backups.
diff "$work/before" "$work/after" | grep '^[<>]' | grep -v -E '^> \./(etc/\.pwd\.lock|etc/(group|gshadow|passwd|shadow)-?)$' >"$work/left" || true
[ ! -s "$work/left" ] || { cat "$work/left"; fail "purge leaves or takes these files"; }
echo "installed, upgraded, removed and purged on $suite $arch: $(wc -l <"$work/before") files before and after"
