#!/bin/bash
# Boots systemd in a container on a clean Debian with the package: the service is off without a model, starts with one, answers on its socket, survives
# kill -9, an upgrade and a broken image, and has the rights that the unit says.
# Usage: boot.sh SLMPACK
. "$(dirname "$0")/common.sh"
slmpack=$1
need_root
need systemd-nspawn systemd-container
start_work
deb=$(deb_of slmd "$native")
r=$work/root
clean_root "$r" "$native" "$deb" "systemd-sysv,udev,dbus"
: >"$r/etc/machine-id"
older "$deb" "$r/root/old.deb"
cp "$deb" "$r/root/new.deb"
"$slmpack" import "$source/models/tiny" -o "$r/root/default.slm" >/dev/null
"$slmpack" import "$source/models/tiny" --name second -o "$r/root/second.slm" >/dev/null
cp "$(dirname "$0")/inside.sh" "$r/root/"
cat >"$r/etc/systemd/system/inside.service" <<'END'
[Unit]
After=basic.target
[Service]
Type=oneshot
ExecStart=/bin/bash /root/inside.sh
END
cat >"$r/etc/systemd/system/inside.target" <<'END'
[Unit]
Requires=basic.target
Wants=inside.service
END

status=0
# /sys writable inside, as on a board: slmd's own view of it is what the unit makes.
SYSTEMD_NSPAWN_API_VFS_WRITABLE=yes timeout 120 systemd-nspawn -q --register=no --keep-unit -D "$r" -b -- --unit=inside.target </dev/null >"$work/console" 2>&1 || status=$?
if [ ! -e "$r/root/started" ]; then
    tail -5 "$work/console" >&2
    skip "systemd does not boot in a container here"
fi
sed 's/^/  /' "$r/root/log"
[ $status = 42 ] || { journalctl -q --no-pager -D "$r/var/log/journal" -u 'slmd*' -n 60 2>/dev/null || true; fail "inside the container (status $status)"; }
