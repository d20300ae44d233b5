# Runs as root inside the container of boot.sh; systemctl exit 42 means that all went well.
exec >/root/log 2>&1
touch /root/started
mkdir -p /var/log/journal
systemctl restart systemd-journald
fail() { echo "FAILED: $*"; systemctl status --no-pager -l slmd.service slmd.socket; systemctl exit 1; exit 1; }
property() { systemctl show -p "$1" --value "${2:-slmd.service}"; }
is() { # WHAT IS EXPECTED
    [ "$2" = "$3" ] || fail "$1: is \"$2\", expected \"$3\""
    echo "$1: $2"
}
until_() { # WHAT COMMAND...: waits for a state that comes
    local what=$1 i
    shift
    for i in $(seq 300); do "$@" && return; sleep 0.1; done
    fail "$what does not come"
}
export DEBIAN_FRONTEND=noninteractive

dpkg -i /root/old.deb >/dev/null 2>&1 || fail "the package cannot be installed"
is "without a model" "$(property ActiveState), $(property Result), $(property ActiveState slmd.socket)" "inactive, success, inactive"
is "enabled" "$(systemctl is-enabled slmd.service slmd.socket | paste -sd' ')" "enabled enabled"

slmctl model install /root/default.slm || fail "the image cannot be installed"
is "installed, not active" "$(property ActiveState)" "inactive"
slmctl model activate || fail "the service does not start"
is "with a model" "$(property ActiveState), $(property ActiveState slmd.socket)" "active, active"
is "socket" "$(stat -c '%A %U %G' /run/slmd/slmd.sock)" "srw-rw---- root slmd-clients"
question="What is the capital of France?"
answer="The capital of France is Paris."
is "answer" "$(slmctl ask "$question")" "$answer"

pid=$(property MainPID)
field() { sed -n "s/^$1:[[:space:]]*//p" "/proc/$pid/status"; }
[ "$(field Uid | cut -f1)" -ge 61184 ] || fail "the user is not dynamic: $(field Uid)"
is "capabilities" "$(field CapEff) $(field CapBnd)" "0000000000000000 0000000000000000"
is "new privileges, system calls" "$(field NoNewPrivs) $(field Seccomp)" "1 2"
groups=$(for g in $(field Groups); do getent group "$g" | cut -d: -f1; done | sort | paste -sd" ")
is "groups" "$groups" "dialout gpio video"
is "network" "$(awk 'NR > 2 { print $1 }' "/proc/$pid/net/dev" | paste -sd' ')" "lo:"
is "core files" "$(awk '/^Max core/ { print $5 }' "/proc/$pid/limits")" "0"
is "/sys" "$(awk '$5 == "/sys" { print substr($6, 1, 2) }' "/proc/$pid/mountinfo" | tail -1)" "ro"
is "oom_score_adj" "$(cat "/proc/$pid/oom_score_adj")" 500

# The folder of an LED's device becomes writable, and nothing beside it. No LED is here: a drop-in names a device that is.
device=$(ls -d /sys/devices/platform/*/ 2>/dev/null | head -1)
if [ "$device" ]; then
    mkdir -p /run/systemd/system/slmd.service.d
    printf '[Service]\nReadWritePaths=-%s\n' "${device%/}" >/run/systemd/system/slmd.service.d/led.conf
    systemctl daemon-reload
    systemctl restart slmd
    pid=$(property MainPID)
    is "$device for slmd" "$(awk -v d="${device%/}" '$5 == d { print substr($6, 1, 2) }' "/proc/$pid/mountinfo")" "rw"
    is "/sys still" "$(awk '$5 == "/sys" { print substr($6, 1, 2) }' "/proc/$pid/mountinfo" | tail -1)" "ro"
    rm -r /run/systemd/system/slmd.service.d
    systemctl daemon-reload
    systemctl restart slmd
fi

pid=$(property MainPID)
slmctl ask "Count from 0 to 26." >/dev/null 2>&1 &  # an answer is lost, not the image
kill -9 "$pid"
back() { [ "$(property MainPID)" != "$pid" ] && [ "$(property ActiveState)" = active ]; }
until_ "slmd after kill -9" back
is "after kill -9" "$(slmctl ask "$question")" "$answer"
is "restarts" "$(property NRestarts)" 1
log=$(journalctl -q -o cat "_PID=$(property MainPID)")
grep -q "kept in memory over the restart" <<<"$log" && ! grep -q "reading the file" <<<"$log" || fail "the image is read again: $log"
when() { journalctl -q -o json -u slmd | sed -n "/$1/s/.*\"__MONOTONIC_TIMESTAMP\":\"\([0-9]*\)\".*/\1/p" | tail -1; }
echo "from systemd's note of the kill to READY: $((($(when ' ready: ') - $(when 'code=killed')) / 1000)) ms"

# The limit of memory is computed in the sandbox. Whether it is set depends on the kernel's memory controller, which is not here: the guest's test shows it.
grep -qxE '[1-9][0-9]{6,}' /var/lib/slmd/memory-max || fail "slmd --memory-max under the unit says: $(cat /var/lib/slmd/memory-max)"

# A reload is checked first, and keeps the process.
pid=$(property MainPID)
cp /etc/slmd/slmd.toml /root/slmd.toml
sed -i 's/^# max = 256/max = 2/' /etc/slmd/slmd.toml
systemctl reload slmd || fail "reload"
short() { [ "$(slmctl ask "$question")" != "$answer" ]; }
until_ "the new configuration" short
echo "nonsense" >>/etc/slmd/slmd.toml
systemctl reload slmd 2>/dev/null && fail "a broken configuration is reloaded"
is "after a reload and a refused one" "$(property MainPID), $(property ActiveState)" "$pid, active"
cp /root/slmd.toml /etc/slmd/slmd.toml
systemctl reload slmd || fail "reload"
whole() { [ "$(slmctl ask "$question")" = "$answer" ]; }
until_ "the old configuration" whole

# Another model is tried while slmd restarts; one that does not pass leaves the old one.
models=/var/lib/slmd/models
slmctl model install /root/second.slm && slmctl model activate || fail "the second model does not answer: $(slmctl model list)"
is "two slots" "$(slmctl model list | cut -c1-9 | sed -n 's/ *$//; / [ab] /p' | paste -sd,)" "  a  good,* b  good"
is "second model" "$(slmctl ask "$question")" "$answer"
slmctl model rollback || fail "no way back: $(slmctl model list)"
slmctl model install /root/second.slm || fail "not installed again"
head -c 60000 /root/second.slm >$models/b.slm
slmctl model activate && fail "a model that is cut off passes"
is "a bad one" "$(slmctl model list | cut -c1-9 | sed -n 's/ *$//; / [ab] /p' | paste -sd,), $(slmctl ask "$question")" "* a  good,  b  bad, $answer"

# A new version that does not take the configuration leaves the old process alone.
pid=$(property MainPID)
echo "nonsense" >>/etc/slmd/slmd.toml
dpkg --force-confold -i /root/new.deb >/root/dpkg.log 2>&1 || fail "the upgrade failed: $(cat /root/dpkg.log)"
is "upgraded with a broken configuration" "$(property MainPID), $(grep -c 'is not restarted' /root/dpkg.log)" "$pid, 1"
dpkg --force-confold -i /root/old.deb >/dev/null 2>&1
cp /root/slmd.toml /etc/slmd/slmd.toml

# Upgrade: what runs is restarted, with its state and socket; what is stopped stays stopped.
echo kept >/var/lib/slmd/kept
socket=$(stat -c %i /run/slmd/slmd.sock)
pid=$(property MainPID)
dpkg --force-confold -i /root/new.deb >/dev/null 2>&1 || fail "the upgrade failed"
until_ "slmd after the upgrade" back
is "after the upgrade" "$(slmctl ask "$question") $(cat /var/lib/slmd/kept)" "$answer kept"
is "socket kept" "$(stat -c %i /run/slmd/slmd.sock)" "$socket"
systemctl stop slmd.service slmd.socket 2>/dev/null
dpkg -i /root/old.deb >/dev/null 2>&1 || fail "the downgrade failed"
is "stopped, then installed again" "$(property ActiveState)" inactive

# A broken image: some quick attempts, then the timer, which brings slmd back when the image is whole. Both are made shorter here.
mkdir -p /run/systemd/system/slmd.service.d /run/systemd/system/slmd-retry.timer.d
printf '[Unit]\nStartLimitIntervalSec=6s\nStartLimitBurst=3\n' >/run/systemd/system/slmd.service.d/short.conf
printf '[Timer]\nOnActiveSec=\nOnActiveSec=8s\nAccuracySec=1s\n' >/run/systemd/system/slmd-retry.timer.d/short.conf
systemctl daemon-reload
systemctl reset-failed slmd.service
echo broken >/var/lib/slmd/models/a.slm
systemctl start slmd 2>/dev/null && fail "a broken image is taken"
waiting() { [ "$(property ActiveState slmd-retry.timer)" = active ]; }
until_ "slmd-retry.timer" waiting
attempts=$(property NRestarts)
[ "$attempts" -le 3 ] || fail "$attempts attempts before the pause"
sleep 1
is "no more attempts" "$(property NRestarts), $(property ActiveState)" "$attempts, failed"
install -m 644 /root/default.slm /var/lib/slmd/models/a.slm
until_ "slmd by its timer" systemctl is-active -q slmd
is "whole again" "$(slmctl ask "$question")" "$answer"
echo broken >/var/lib/slmd/models/a.slm
systemctl restart slmd 2>/dev/null && fail "a broken image is taken"
until_ "slmd-retry.timer" waiting
install -m 644 /root/default.slm /var/lib/slmd/models/a.slm
rm -r /run/systemd/system/slmd.service.d /run/systemd/system/slmd-retry.timer.d
systemctl daemon-reload
systemctl stop slmd 2>/dev/null
is "the timer, when slmd is stopped" "$(property ActiveState slmd-retry.timer)" inactive

systemctl reset-failed slmd.service
systemctl start slmd || fail "slmd does not start again"
dpkg -P slmd >/dev/null 2>&1 || fail "the package cannot be purged"
is "purged while it runs" "$(grep -lx slmd /proc/[0-9]*/comm 2>/dev/null; ls -d /run/slmd /var/lib/slmd /var/lib/private/slmd /etc/slmd /run/systemd/system.control/slmd.service.d 2>/dev/null)" ""
systemctl exit 42
