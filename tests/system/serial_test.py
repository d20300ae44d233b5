"""The board's 16550A, with this end of its line held here: commands with and without checks, JSON-RPC, noise, cuts, flow control.

SLMD_SERIAL_KIB says how much goes over the line in each direction; under emulation a megabyte takes minutes.
"""
import contextlib
import json
import os
import pty
import select
import socket
import subprocess
import tempfile
import time
import tty
from unittest import mock

import system
import wire
from system import guest, slmd
from wire import XOFF, XON

SIZE = int(os.environ.get("SLMD_SERIAL_KIB", "256")) << 10  # of what is sent in each direction
PIO = 0x3EFF0000  # where virt's PCI has its I/O ports


class Cable(guest.Lines):
    """A serial port of the board, this end of its line a pseudo-terminal, and a CTS of ours (cable.c): what QEMU has behind a socket is always there."""

    def __init__(self, folder):
        self.pending, self.cut, library = b"", os.path.join(folder, "cut"), os.path.join(folder, "cable.so")
        subprocess.run(["cc", "-Wall", "-Werror", "-shared", "-fPIC", "-o", library, os.path.join(os.path.dirname(os.path.abspath(__file__)), "cable.c")], check=True)
        self.environment = {"LD_PRELOAD": library, "SLMD_CABLE_CUT": self.cut}
        self.end, self.qemu_end = pty.openpty()
        tty.setraw(self.qemu_end)
        self.qemu = ["-chardev", f"serial,id=cable,path={os.ttyname(self.qemu_end)}", "-device", "pci-serial,chardev=cable,addr=4"]

    def cts(self, level):
        if level:
            os.unlink(self.cut)
        else:
            open(self.cut, "w").close()

    def write(self, data, timeout=60):
        while data:
            if not select.select([], [self.end], [], timeout)[1]:
                raise guest.GuestError(f"the board takes nothing: {len(data)} bytes are left")
            data = data[os.write(self.end, data):]

    def read_some(self, timeout):
        if self.pending:
            data, self.pending = self.pending, b""
            return data
        return os.read(self.end, 65536) if select.select([self.end], [], [], max(0, timeout))[0] else b""


class Serial(system.Board):
    board = "pi-zero-2w"
    configuration = slmd.configuration(more='[[tty]]\npath = "/dev/ttyS2"\nrtscts = true\n')

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="slmd-cable.")
        cls.addClassCleanup(folder.cleanup)
        cls.cable = Cable(folder.name)
        cls.guest_options = {"qemu": cls.cable.qemu}
        with mock.patch.dict(os.environ, cls.cable.environment):
            super().setUpClass()

    def setUp(self):
        wire.plain(self.guest.uart)

    def stat(self):
        """Fields of AT#STAT?, of which the last counts the lines that were dropped."""
        self.guest.uart.write(b"AT#STAT?\r")
        said = self.guest.uart.read_until(b"\r\nOK\r\n").decode()
        return said[said.index("#STAT: ") + 7:].split("\r\n")[0].split(",")

    def test_answer(self):
        self.guest.uart.write(b'AT#GEN="%s",32\r' % system.FRANCE.encode())
        said = self.guest.uart.read_until(b"\r\nOK\r\n")
        tokens = [wire.unescape(line[7:-1]) for line in said.split(b"\r\n") if line.startswith(b"#TOK: ")]
        self.assertEqual(b"".join(tokens).decode(), system.PARIS)

    def test_answer_with_checks(self):
        client = wire.Client(self.guest.uart)
        client.start()
        self.assertEqual(client.generate(system.FRANCE.encode()).decode(), system.PARIS)
        self.assertEqual((client.damaged, client.naks, client.attempts), (0, 0, 1))

    def test_json_rpc(self):
        request = {"jsonrpc": "2.0", "id": 7, "method": "gen", "params": {"prompt": system.FRANCE, "max": 32}}
        self.guest.uart.write(json.dumps(request).encode() + b"\n")
        while True:
            line = self.guest.uart.line()
            if line.startswith(b"{") and json.loads(line).get("id") == 7:
                break
        self.assertEqual(json.loads(line)["result"]["text"], system.PARIS)

    def test_noise(self):
        """One bit in ten thousand wrong and one byte in five hundred lost, both ways: what is accepted is intact."""
        noise = wire.Noise(1, bit_errors=1e-4, drops=2e-3)
        client = wire.Client(self.guest.uart, noise)
        client.start()
        questions = {f"What is {a} plus {b}?": str(a + b) for a, b in ((2, 3), (4, 4), (1, 7), (5, 2), (6, 3), (9, 9))} | {system.FRANCE: system.PARIS}
        truth = {q: self.ask(q) for q in questions}
        for question, part in questions.items():
            self.assertIn(part, truth[question])
        for _ in range(2):
            for question in questions:
                self.assertEqual(client.generate(question.encode()).decode(), truth[question])
        self.assertGreater(noise.flipped + noise.dropped, 5)
        self.assertGreater(client.damaged, 0)

    def test_cut_in_the_middle(self):
        """The line goes dead within a command, and within an answer that nobody acknowledges; afterwards it is as if nothing had been."""
        uart = self.guest.uart
        client = wire.Client(uart)
        client.start()
        half = wire.checked(b'AT#GEN="%s",32' % system.FRANCE.encode())
        uart.write(half[:20])
        self.assertEqual(client.generate(b"What is the capital of Italy?").decode(), "The capital of Italy is Rome.")
        uart.write(half + b"\r")
        self.assertTrue(client.line(60))  # the first token's line; no acknowledgement is sent
        self.assertEqual(client.generate(b"What is the capital of Italy?").decode(), "The capital of Italy is Rome.")
        self.assertEqual(self.property("NRestarts"), "0")

    def test_xonxoff_in(self):
        """Many commands to a slmd that at times stands still: XOFF stops us in time, and no byte is missing."""
        with self.flow_control("xonxoff = true"):
            self.flood(SIZE, stops=3)

    def test_xonxoff_out(self):
        """Long answers to a reader who at times says XOFF: silence until XON, and every byte comes."""
        with self.flow_control("xonxoff = true"):
            uart = self.guest.uart
            uart.write(b"AT#HELP\r")
            page = uart.read_until(b"\r\nOK\r\n")
            rounds = SIZE // len(page) + 1
            before = self.counters()
            asked = got = 0
            while got < rounds:
                while asked < min(rounds, got + 4):
                    uart.write(b"AT#HELP\r")
                    asked += 1
                if got % 60 == 30 and asked < rounds:
                    self.silence(uart)
                    asked += 1
                self.assertEqual(uart.read_until(b"\r\nOK\r\n"), page)
                got += 1
            self.assertGreaterEqual(self.counters()["tx"] - before["tx"], SIZE)

    def silence(self, uart):
        """XOFF, and a question that would be answered at once: nothing comes. Then XON."""
        uart.write(XOFF)
        on_its_way, sent = b"", -1
        for _ in range(40):  # what was sent before XOFF came to the board
            on_its_way += uart.read_some(0)
            before, sent = sent, self.counters()["tx"]
            more = uart.read_some(0)
            on_its_way += more
            if before == sent and not more:
                break
        uart.write(b"AT#HELP\r")
        self.guest.sh("sleep 0.5")
        self.assertEqual(uart.read_some(0), b"")
        self.assertEqual(self.counters()["tx"], sent)
        uart.pending = on_its_way
        uart.write(XON)

    def test_unplugged(self):
        """The port goes away under slmd and comes back: it is said, nothing else suffers, and it is used again."""
        before = self.ready()
        self.guest.sh("echo 0000:00:02.0 >/sys/bus/pci/drivers/serial/unbind")
        self.assertEqual(self.ask(), system.PARIS)
        self.guest.until("journalctl -b -u slmd -o cat --no-pager | grep /dev/ttyS0")
        self.guest.sh("echo 0000:00:02.0 >/sys/bus/pci/drivers/serial/bind && test -e /dev/ttyS0")
        wire.plain(self.guest.uart)
        self.test_answer()
        self.assertEqual((self.ready(), self.property("NRestarts")), (before, "0"))

    def test_rtscts(self):
        """With RTS/CTS, a slmd that stands still makes the driver take RTS back before anything is lost."""
        with self.flow_control("rtscts = true"):
            port = int(self.guest.sh("grep '^0:' /proc/tty/driver/serial | grep -o 'port:[0-9A-F]*' | cut -d: -f2"), 16)
            self.flood(128 << 10, stops=1, may_send=lambda: int(self.guest.gpio.ask(f"readb {PIO + port + 4:#x}"), 16) & 2)

    def ask_without_cts(self):
        """Four commands to the port behind the cable, of whose answers nothing leaves; the driver's counters before."""
        port = "grep '^2:' /proc/tty/driver/serial"
        self.guest.until(f"{port} | grep CTS")
        self.cable.cts(0)
        self.guest.until(f"! {port} | grep CTS")
        before = self.counters(2)
        self.cable.write(b"AT#HELP\r" * 4)
        self.guest.until(f"[ $({port} | grep -o 'rx:[0-9]*' | cut -d: -f2) = {before['rx'] + 4 * len(b'AT#HELP.')} ] && sleep 0.5")
        self.assertEqual(self.cable.read_some(0), b"")
        self.assertEqual(self.counters(2)["tx"], before["tx"])
        return before

    def test_cts(self):
        """With RTS/CTS, nothing leaves the board while the other side holds CTS back; it is all there, and nothing else waits for it."""
        cable = self.cable
        wire.plain(cable)
        cable.write(b"AT#HELP\r")
        page = cable.read_until(b"\r\nOK\r\n")
        before = self.ask_without_cts()
        self.assertEqual(self.ask(), system.PARIS)
        cable.cts(1)
        for _ in range(4):
            self.assertEqual(cable.read_until(b"\r\nOK\r\n"), page)
        self.assertEqual(self.counters(2)["tx"], before["tx"] + 4 * len(page))

    def test_cts_at_the_end(self):
        """A side that takes nothing does not hold up the end of slmd, for which systemd would kill it and count a failure."""
        before = self.ready()
        wire.plain(self.cable)
        self.ask_without_cts()
        self.guest.sh("systemctl restart slmd")
        self.cable.cts(1)
        self.ready(since=before)
        self.assertEqual(self.guest.call("journalctl -b -u slmd -o cat --no-pager | grep -c 'timed out'")[1], "0\n")
        wire.plain(self.cable)

    def flood(self, size, stops, may_send=None):
        """Sends commands of that many bytes in all as fast as flow control allows, during which slmd is stopped for a while so many times; every one must be answered."""
        uart, pid = self.guest.uart, self.property("MainPID")
        dropped, before = self.stat()[-1], self.counters()
        seed = lambda i: b'%sAT#SET="seed",%d\r' % (b"." * 200, i)  # noqa: E731
        commands = size // len(seed(1000))
        stop_at = [commands * (i + 1) // (stops + 2) for i in range(stops)]
        sent = answered = held = 0
        stopped, said, go = False, b"", True
        deadline = time.monotonic() + 600
        while answered < commands:
            self.assertLess(time.monotonic(), deadline, f"{answered} of {commands} commands answered")
            if stop_at and sent >= stop_at[0]:
                self.guest.sh(f"kill -STOP {pid}")
                stopped, stopped_at = True, sent
                stop_at.pop(0)
            go = may_send() if may_send else go
            room = min(commands - sent, 4 if stopped else answered + 32 - sent) if go else 0
            if room >= min(4, commands - sent):
                uart.write(b"".join(seed(i) for i in range(sent, sent + room)))
                sent += room
            else:
                room = 0
            if stopped and (not go or sent == commands):
                # Held back, in time: the driver's own buffers take 64 KiB, beyond which it would drop.
                self.assertLess((sent - stopped_at) * len(seed(1000)), 60 << 10)
                held += not go
                self.guest.sh(f"kill -CONT {pid}")
                stopped = False
            said += uart.read_some(0 if room else 0.05)
            if not may_send:
                for byte in said:
                    go = True if byte == XON[0] else False if byte == XOFF[0] else go
                said = said.replace(XON, b"").replace(XOFF, b"")
            while (at := said.find(b"OK\r\n")) >= 0:
                self.assertEqual(said[:at + 4], b"\r\nOK\r\n")
                said, answered = said[at + 4:], answered + 1
        self.assertEqual(held, stops, "slmd stood still, and nobody was held back")
        uart.write(b"AT#SET?\r")
        self.assertIn(b'#SET: "seed",%d\r\n' % (commands - 1), uart.read_until(b"\r\nOK\r\n"))
        self.assertEqual(self.stat()[-1], dropped)
        after = self.counters()
        self.assertGreaterEqual(after["rx"] - before["rx"], commands * len(seed(0)))
        for name in ("oe", "fe", "pe", "brk"):
            self.assertEqual(after.get(name, 0), before.get(name, 0), name)

    @contextlib.contextmanager
    def flow_control(self, key):
        """slmd started anew with another setting of its port."""
        # As little as possible on its way between us and the board's UART, as on a wire.
        self.guest.uart.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        before = self.ready()
        # systemd's watchdog has its own test, and a slmd that is made to stand still for as long as a busy machine takes is none of its cases.
        self.guest.sh("systemctl service-watchdogs no")
        self.guest.sh(f"cp /etc/slmd/slmd.toml /run/slmd.toml && sed -i 's/^baud = 115200$/baud = 115200\\n{key}/' /etc/slmd/slmd.toml && systemctl restart slmd")
        try:
            self.ready(since=before)
            wire.plain(self.guest.uart)
            yield
        finally:
            self.guest.sh(f"kill -CONT {self.property('MainPID')}; cp /run/slmd.toml /etc/slmd/slmd.toml && systemctl service-watchdogs yes && systemctl restart slmd")
            self.ready()

    def counters(self, port=0):
        """Of the driver: bytes received and sent, errors of each kind."""
        line = self.guest.sh(f"grep '^{port}:' /proc/tty/driver/serial")
        return {k: int(v) for k, v in (word.split(":") for word in line.split() if ":" in word and word.split(":")[1].isdigit())}


if __name__ == "__main__":
    system.main()
