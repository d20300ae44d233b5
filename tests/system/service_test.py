"""slmd as a service that was installed from its package: started at boot, hardened, within its memory, back after it was killed."""
import json
import re
import sys

import system
import wire
from system import slmd


class Service(system.Board):
    board = "pi-4"

    def test_1_installed_and_ready_at_boot(self):
        self.assertEqual(self.guest.sh("cat /var/log/install.status"), "0", self.guest.sh("cat /var/log/install.log"))
        self.assertEqual(self.guest.sh("dpkg-query -W -f '${Status}' slmd"), "install ok installed")
        self.assertEqual(self.guest.sh("systemctl is-enabled slmd"), "enabled")
        self.assertEqual([self.property(p) for p in ("ActiveState", "SubState", "NRestarts", "Result")], ["active", "running", "0", "success"])
        self.assertEqual(self.guest.sh("systemctl --failed --no-legend --plain"), "")

    def test_2_unprivileged(self):
        """The process: an own user, no capabilities, no new privileges, a system-call filter."""
        status = self.guest.sh(f"cat /proc/{self.property('MainPID')}/status")
        self.assertNotEqual(re.search(r"^Uid:\s+(\d+)", status, re.M)[1], "0")
        for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            self.assertEqual(int(re.search(rf"^{name}:\s+(\w+)", status, re.M)[1], 16), 0, name)
        self.assertEqual(re.search(r"^NoNewPrivs:\s+(\d)", status, re.M)[1], "1")
        self.assertEqual(re.search(r"^Seccomp:\s+(\d)", status, re.M)[1], "2")

    def test_2_security_score(self):
        said = self.guest.sh("systemd-analyze --no-pager security slmd | tail -n 1")
        score = float(re.search(r"slmd\.service: ([0-9.]+)", said)[1])
        self.assertLessEqual(score, 0.8, self.guest.call("systemd-analyze --no-pager security slmd | grep -v '✓'")[1])

    def test_3_socket(self):
        self.assertEqual(self.ask(), system.PARIS)
        self.assertEqual(self.guest.sh("stat -c '%a %G' /run/slmd/slmd.sock").split()[0], "660")

    def test_5_memory_as_planned(self):
        """The limit of the control group is what slmd plans, its state folder's part included; the peak stays below it, and nothing has been killed for want of memory."""
        group = "/sys/fs/cgroup" + self.property("ControlGroup")
        planned = int(re.match(r"\d+", self.guest.sh("STATE_DIRECTORY=/var/lib/slmd slmd --memory-max --config /etc/slmd/slmd.toml"))[0])
        limit = int(self.guest.sh(f"cat {group}/memory.max"))
        page = 4096
        self.assertEqual(limit, planned // page * page)
        for question in ("What is the capital of Italy?", "Turn on the pump in the garden.", "What does the BME280 measure?"):
            self.ask(question)
        peak = int(self.guest.sh(f"cat {group}/memory.peak 2>/dev/null || cat {group}/memory.current"))
        self.assertLess(peak, limit)
        events = dict(line.split() for line in self.guest.sh(f"cat {group}/memory.events").splitlines())
        self.assertEqual((events["oom"], events["oom_kill"], events["max"]), ("0", "0", "0"))

    def test_60_killed_in_the_middle_of_an_answer(self):
        """It is back, with the image that systemd kept for it: no byte of the file is read again."""
        before = self.ready()
        client = wire.Client(self.guest.uart)
        client.start()
        client.send(wire.checked(b'AT#GEN="%s",64' % system.FRANCE.encode()) + b"\r")
        self.assertTrue(client.line(60).startswith(b'#TOK: "'))  # and no more, until it is acknowledged
        self.guest.sh(f"kill -9 {before}")
        after = self.ready(since=before)
        self.assertNotEqual(after, before)
        self.assertEqual(self.property("NRestarts"), "1")
        log = self.guest.sh(f"journalctl -b _PID={after} -o cat --no-pager")
        self.assertIn("kept in memory over the restart", log)
        self.assertNotIn("reading the file", log)
        wire.plain(self.guest.uart)
        self.guest.uart.write(b'AT#GEN="%s",32\r' % system.FRANCE.encode())
        self.assertIn(b"#GEN: \"stop\"", self.guest.uart.read_until(b"\r\nOK\r\n"))
        print(f"from the kill to READY, by the guest's clock: {self.restart_ms():.0f} ms", file=sys.stderr)

    def restart_ms(self):
        """By the journal: from systemd's note that the process has ended to slmd's own that it is ready."""
        entries = [json.loads(line) for line in self.guest.sh("journalctl -b -u slmd -o json --no-pager").splitlines()]
        when = lambda words: [int(e["__MONOTONIC_TIMESTAMP"]) for e in entries if words in e["MESSAGE"]][-1]  # noqa: E731
        return (when(" ready: ") - when("code=killed")) / 1000

    def test_61_hung(self):
        """A slmd that stands still is found out by the watchdog and started anew."""
        before = self.ready()
        self.guest.sh(f"kill -STOP {before}")
        self.ready(since=before)
        self.assertIn("Watchdog timeout", self.guest.sh("journalctl -b _PID=1 -u slmd -o cat --no-pager"))
        self.assertEqual(self.ask(), system.PARIS)

    def test_62_clock_jumps(self):
        """The time of day leaps a year ahead, and back: nothing that waits is ended by it, nothing is held up."""
        before, restarts = self.ready(), self.property("NRestarts")
        counted = self.ask("Count from 0 to 26.")
        for step in ("+1 year", "-1 year"):
            self.assertEqual(self.guest.sh(f"slmctl ask 'Count from 0 to 26.' >/run/answer & date -s '{step}' >/dev/null; wait $!; cat /run/answer"), counted)
            self.assertEqual(self.ask(), system.PARIS)
        self.assertEqual((self.ready(), self.property("NRestarts")), (before, restarts))

    def test_63_image_damaged_while_it_runs(self):
        """The file is overwritten in place: the running slmd goes on with what it has, a new one says what is wrong, and the right file cures it."""
        before = self.ready()
        self.guest.sh(f"cp {slmd.MODEL} /run/good.slm && head -c 1000 /dev/urandom | dd of={slmd.MODEL} conv=notrunc seek=20 bs=1000 status=none && truncate -s 50000 {slmd.MODEL}")
        self.assertEqual(self.ask(), system.PARIS)
        self.assertEqual(self.ready(), before)
        self.guest.call("systemctl restart slmd")
        self.guest.until("journalctl -b -u slmd -o cat --no-pager | grep -E 'default.slm: .*(damaged|truncated|short|end|size|checksum|frame)'")
        self.guest.sh(f"cat /run/good.slm >{slmd.MODEL}; systemctl reset-failed slmd slmd.socket; systemctl restart slmd.socket slmd")
        self.ready(since=before)
        self.assertEqual(self.ask(), system.PARIS)

    def test_64_state_folder_full_and_read_only(self):
        """Nothing can be kept: slmd is ready and answers all the same."""
        state = "/var/lib/private/slmd"
        self.guest.sh(f"""
            systemctl stop slmd slmd.socket
            cp -a {state} /run/state
            mount -t tmpfs -o size=1m tmpfs {state}
            cp -a /run/state/models {state}/ && chown --reference=/run/state {state} && chmod --reference=/run/state {state}
            cat /dev/zero >{state}/full 2>/dev/null
            systemctl start slmd.socket slmd""")
        full = self.ready()
        self.assertEqual(self.guest.sh(f"df --output=avail {state} | tail -n 1").strip(), "0")
        self.assertEqual(self.ask(), system.PARIS)
        self.guest.sh(f"systemctl stop slmd; mount -o remount,ro {state} && systemctl start slmd")
        self.ready(since=full)
        self.assertEqual(self.ask(), system.PARIS)
        self.guest.sh(f"systemctl stop slmd slmd.socket; umount {state}; rm -rf /run/state; systemctl start slmd.socket slmd")
        self.ready()

    def test_7_reinstalled(self):
        """The package installed over itself while slmd runs: it is restarted, and its configuration stays."""
        before, config = self.ready(), self.guest.sh("sha256sum /etc/slmd/slmd.toml")
        self.guest.sh("dpkg --force-unsafe-io --force-confold -i /emulate/debs/slmd_*.deb", timeout=300)
        self.ready(since=before)
        self.assertEqual(self.guest.sh("sha256sum /etc/slmd/slmd.toml"), config)
        self.assertEqual(self.ask(), system.PARIS)

    def test_8_removed_and_purged(self):
        """Last of all: what was installed is gone."""
        self.guest.sh("dpkg --remove slmd", timeout=300)
        self.assertEqual(self.guest.call("systemctl is-active slmd")[1].strip(), "inactive")
        self.guest.sh("dpkg --purge slmd", timeout=300)
        left = self.guest.sh("ls -d /usr/sbin/slmd /usr/bin/slmctl /usr/share/slmd /etc/slmd /var/lib/slmd /var/lib/private/slmd /run/slmd "
                             "/etc/systemd/system/*/slmd.* 2>/dev/null || true")
        self.assertEqual(left, "")


if __name__ == "__main__":
    system.main()
