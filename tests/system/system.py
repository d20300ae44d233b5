"""What the system tests share: a board with slmd installed, one for each class of tests, and how such a file of tests is run.

A test file is a program: its exit status is 0, 1, or 77 when this machine lacks what it takes to boot a board (ctest shows it as skipped, and the reason).
SLMD_SUITE names the board's release of Debian, where it is another than this machine's.
"""
import os
import sys
import unittest

PROJECT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(PROJECT, "toolchain"))
from emulator import boards, guest, root, slmd  # noqa: E402

SUITE = os.environ.get("SLMD_SUITE") or root.own_suite()
FRANCE, PARIS = "What is the capital of France?", "The capital of France is Paris."


def needs():
    """Why no board can be booted here; None: it can."""
    if missing := guest.needs():
        return missing
    if not slmd.packages(SUITE):
        return f"no package of slmd for arm64 and {SUITE} in build/packages: run toolchain/package arm64, or tests/packaging/trixie.sh for trixie"
    if not os.path.exists(os.path.join(PROJECT, "build", "release", "slmpack")):
        return "build/release/slmpack is missing: build the preset release"
    return None


class Board(unittest.TestCase):
    """Tests of one board that has been booted once for all of them. They run in the order of their names, and each leaves slmd running."""

    board = "pi-4"
    name = None  # of the board file that slmd is to find, where it is not the board's own
    configuration = slmd.configuration()
    guest_options = {}
    guest = None

    @classmethod
    def setUpClass(cls):
        cls.guest = guest.Guest(cls.board, suite=SUITE, debs=slmd.packages(SUITE), files=slmd.files(config=cls.configuration), say=lambda text: print("emulate:", text, file=sys.stderr),
                                **cls.guest_options)
        cls.addClassCleanup(cls.guest.close)
        cls.guest.wait_up()
        try:
            cls.ready()
        except guest.GuestError as e:
            raise guest.GuestError(f"slmd does not get ready: {e}\n{cls.journal()}") from e

    @classmethod
    def journal(cls):
        status, said = cls.guest.call("cat /var/log/install.log; systemctl status --no-pager --full slmd; journalctl --no-pager -b -o short-monotonic | tail -n 150")
        return f"--- guest, status {status}\n{said}"

    @classmethod
    def ready(cls, since=None):
        """Waits until slmd is active; since: its process is to be another than that one. Returns the process's number."""
        other = f'&& [ "$(systemctl show -P MainPID slmd)" != {since} ]' if since else ""
        return cls.guest.until(f"[ \"$(systemctl show -P SubState slmd)\" = running ] {other} && systemctl show -P MainPID slmd")

    def test_0_board_detected(self):
        """slmd finds the board that the device tree says."""
        said = self.guest.sh("slmctl board show")
        self.assertRegex(said, rf"^board +{self.name or self.board} \(", said)
        self.assertIn(self.guest.sh("tr -d '\\0' </sys/firmware/devicetree/base/model"), said)
        log = self.guest.sh("journalctl -b -u slmd -o cat --no-pager")
        self.assertIn("ready: tiny", log)

    def property(self, name):
        return self.guest.sh(f"systemctl show -P {name} slmd")

    def run(self, result=None):
        before = len(result.failures) + len(result.errors) if result else 0
        done = super().run(result)
        if result and len(result.failures) + len(result.errors) > before:
            try:
                print(self.journal(), file=sys.stderr)
            except guest.GuestError as e:
                print(e, file=sys.stderr)
        return done

    def ask(self, question=FRANCE, timeout=120):
        """A question on the socket, by slmctl in the guest; the answer."""
        return self.guest.sh(f"slmctl ask {question!r}", timeout)


def main():
    if missing := needs():
        print(f"skipped: {missing}")
        sys.exit(77)
    try:
        unittest.main(verbosity=2)
    except root.Unavailable as e:
        print(f"skipped: {e}")
        sys.exit(77)
