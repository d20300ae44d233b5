"""The board's 16550A, with this end of its line held here: commands with and without checks, JSON-RPC, noise, cuts, and a megabyte in each direction."""
import json
import time

import system
import wire

MEBIBYTE = 1 << 20


def plain(uart):
    """A client's way back to a known state: echo off, no checks, what was left on the line passed by."""
    uart.write(b"\x1b\r")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        uart.write(b"AT#CRC=0\r")
        said = b""
        while more := uart.read_some(1):
            said += more
        if b"OK" in said:
            break
    uart.write(b"ATZ\rATE0\r")
    uart.read_until(b"\r\nOK\r\n")
    uart.read_until(b"\r\nOK\r\n")
    while uart.read_some(0.3):
        pass


class Serial(system.Board):
    board = "pi-zero-2w"

    def setUp(self):
        plain(self.guest.uart)

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
        """One bit in ten thousand wrong and one byte in two thousand lost, both ways: what is accepted is intact."""
        noise = wire.Noise(1, bit_errors=1e-4, drops=5e-4)
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

    def test_megabyte_in(self):
        """More than a megabyte of commands, sent as fast as the board takes them: each is answered, none is dropped, no byte is missing."""
        uart = self.guest.uart
        dropped = self.stat()[-1]
        before = self.counters()
        sent = replies = commands = 0
        while sent < MEBIBYTE:
            lines = b"".join(b'%sAT#SET="seed",%d\r' % (b"." * 200, commands + i) for i in range(16))
            uart.write(lines)
            sent += len(lines)
            commands += 16
            # What is on its way fits into the board's own buffers: slmd does not read on while its replies are not taken.
            while replies < commands - 16:
                replies += self.oks(1)
        replies += self.oks(commands - replies)
        self.assertEqual(replies, commands)
        uart.write(b"AT#SET?\r")
        self.assertIn(b'#SET: "seed",%d\r\n' % (commands - 1), uart.read_until(b"\r\nOK\r\n"))
        self.assertEqual(self.stat()[-1], dropped)
        after = self.counters()
        self.assertGreaterEqual(after["rx"] - before["rx"], sent)
        self.assertEqual({k: after.get(k, 0) for k in ("oe", "fe", "pe", "brk")}, {k: before.get(k, 0) for k in ("oe", "fe", "pe", "brk")})

    def oks(self, count):
        """Reads that many replies, all of which have to be OK."""
        for _ in range(count):
            self.assertEqual(self.guest.uart.read_until(b"\r\nOK\r\n"), b"\r\nOK\r\n")
        return count

    def test_megabyte_out(self):
        """A megabyte of answers to a reader who at times does not read: every byte comes."""
        uart = self.guest.uart
        uart.write(b"AT#HELP\r")
        page = uart.read_until(b"\r\nOK\r\n")
        rounds = MEBIBYTE // len(page) + 1
        before = self.counters()
        asked = got = 0
        while got < rounds:
            while asked < min(rounds, got + 4):
                uart.write(b"AT#HELP\r")
                asked += 1
            if got % 100 == 50:
                time.sleep(0.5)
            self.assertEqual(uart.read_until(b"\r\nOK\r\n"), page)
            got += 1
        self.assertGreaterEqual(self.counters()["tx"] - before["tx"], MEBIBYTE)

    def counters(self):
        """Of the driver: bytes received and sent, errors of each kind."""
        line = self.guest.sh("grep '^0:' /proc/tty/driver/serial")
        return {k: int(v) for k, v in (word.split(":") for word in line.split() if ":" in word and word.split(":")[1].isdigit())}


if __name__ == "__main__":
    system.main()
