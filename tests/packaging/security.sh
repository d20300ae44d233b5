#!/bin/bash
# The units' exposure, as systemd judges it, is at most 0.8 of 10, and 1.4 of slm-uplink's, and every line of the units is understood.
. "$(dirname "$0")/common.sh"
need systemd-analyze systemd
start_work
units=$source/toolchain/packaging/debian
mkdir -p "$work/units"
cp "$units"/*.service "$units"/*.socket "$units"/*.timer "$work/units"
systemd-analyze security --help 2>/dev/null | grep -- --offline >/dev/null || skip "this systemd-analyze cannot judge a unit that is not running"
exposure=$(systemd-analyze security --offline=true --no-pager "$work/units/slmd.service" | sed -n 's/.*Overall exposure level for slmd.service: \([0-9.]*\).*/\1/p')
echo "exposure of slmd.service: $exposure"
systemd-analyze security --offline=true --no-pager --threshold=8 "$work/units/slmd.service" >"$work/table" 2>&1 || { grep '✗' "$work/table"; fail "more than 0.8"; }
exposure=$(systemd-analyze security --offline=true --no-pager "$work/units/slm-uplink.service" | sed -n 's/.*Overall exposure level for slm-uplink.service: \([0-9.]*\).*/\1/p')
echo "exposure of slm-uplink.service: $exposure"
# It has a network, and users that it tells apart (SO_PEERCRED).
systemd-analyze security --offline=true --no-pager --threshold=14 "$work/units/slm-uplink.service" >"$work/table" 2>&1 || { grep '✗' "$work/table"; fail "more than 1.4"; }
# Can it fail? The same unit with a network.
sed 's/^PrivateNetwork=yes/PrivateNetwork=no/; s/^IPAddressDeny=.*//; s/^RestrictAddressFamilies=.*//' "$units/slmd.service" >"$work/units/open.service"
! systemd-analyze security --offline=true --no-pager --threshold=8 "$work/units/open.service" >/dev/null 2>&1 || fail "a unit with a network passes, too"

# systemd-analyze verify needs what the units start: stand-ins for the programs, the rest as it is.
sed -i 's#/usr/sbin/slm[a-z-]* #/bin/true #; s#/usr/lib/slmd/slmd-memory-max#/bin/true#' "$work/units/slmd.service" "$work/units/slm-uplink.service"
said() {
    (cd "$work/units" && SYSTEMD_UNIT_PATH=$PWD:/lib/systemd/system systemd-analyze verify --man=no slmd.service slmd.socket slmd-retry.timer slm-uplink.service 2>&1 | grep -F -e slmd -e slm-uplink) || true
}
[ -z "$(said)" ] || { said; fail "systemd does not understand a line of the units"; }
echo 'NoSuchKey=1' >>"$work/units/slmd-retry.timer"
[ "$(said)" ] || fail "systemd-analyze verify takes a key that does not exist"
