"""The host's side of slmd's serial protocol: a client that is as careful as a microcontroller on a bad line has to be (tests/wire/mcu.h is its model)."""
import random
import re
import time

XON, XOFF = b"\x11", b"\x13"


def crc16(data):
    """CRC-16/XMODEM."""
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = crc << 1 ^ (0x1021 if crc & 0x8000 else 0)
        crc &= 0xFFFF
    return crc


def checked(line):
    return line + b"*%04X" % crc16(line)


def good(line):
    """The line without its check; None: it has none, or a wrong one."""
    return line[:-5] if len(line) > 5 and checked(line[:-5]) == line else None


def unescape(text):
    """Of AT: \\" \\\\ \\n \\r \\t \\xHH in UTF-8."""
    def one(m):
        c = m[1]
        return bytes([int(c[1:], 16)]) if c[:1] == b"x" else {b"n": b"\n", b"r": b"\r", b"t": b"\t"}.get(c, c)
    return re.sub(rb"\\(x[0-9A-Fa-f]{2}|.)", one, text, flags=re.S)


def plain(uart):
    """A client's way back to a known state: echo off, no checks, what was left on the line passed by."""
    uart.write(XON + b"\x1b\r")
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


class Noise:
    """A bad line: flips bits and drops bytes, the same ones in every run."""

    def __init__(self, seed, bit_errors=0.0, drops=0.0):
        self.random, self.bit_errors, self.drops = random.Random(seed), bit_errors, drops
        self.flipped = self.dropped = 0

    def __call__(self, data):
        out = bytearray()
        for byte in data:
            if self.random.random() < self.drops:
                self.dropped += 1
                continue
            for bit in range(8):
                if self.random.random() < self.bit_errors:
                    byte ^= 1 << bit
                    self.flipped += 1
            out.append(byte)
        return bytes(out)


class Client:
    """Speaks with checks (AT#CRC=1) and a window of one line (AT#WIN=1) over a line that may lose and change bytes in both directions.

    A setting with a number of its own, read back, tells when all that an abandoned attempt left on the line has passed: only then is the next prompt sent.
    """

    def __init__(self, uart, noise=lambda data: data):
        self.uart, self.noise, self.buffer = uart, noise, b""
        self.damaged = self.attempts = self.naks = 0

    def send(self, data):
        self.uart.write(self.noise(data))

    def line(self, timeout):
        """The next line that is whole and has the right check; None: nothing came; False: a damaged one did."""
        deadline = time.monotonic() + timeout
        while True:
            m = re.search(rb"[\r\n]", self.buffer)
            if m:
                text, self.buffer = self.buffer[:m.start()], self.buffer[m.end():]
                if not text:
                    continue
                body = good(text)
                if body is None:
                    self.damaged += 1
                    return False
                return body
            more = self.uart.read_some(deadline - time.monotonic())
            if not more:
                return None
            self.buffer += self.noise(more)

    def command(self, text, want=rb"OK", tries=40):
        """Sends a command until its checked final result comes; its checked lines before that."""
        for _ in range(tries):
            self.send(b"\x1b\r" + checked(text) + b"\r")
            lines = []
            while (body := self.line(5)) is not None:
                if body is False:
                    continue
                lines.append(body)
                if re.fullmatch(want, body):
                    return lines
        raise AssertionError(f"{text} got no answer in {tries} tries")

    def start(self):
        """Leaves the line in a known state with echo off, checks on and a window of one."""
        for _ in range(40):
            self.send(b"\x1b\rAT#CRC=1\r")
            if any(body == b"OK" for body in iter(lambda: self.line(2), None)):
                break
        else:
            raise AssertionError("AT#CRC=1 got no answer")
        self.command(b"ATE0")
        self.command(b"AT#WIN=1")

    def generate(self, prompt, limit=32, tries=60):
        """The answer, complete and checked: sent again until one is."""
        for _ in range(tries):
            self.attempts += 1
            fence = b'#SET: "seed",%d' % self.attempts
            self.send(b"\x1b\r" + checked(b'AT#SET="seed",%d' % self.attempts) + b"\r")
            self.send(checked(b"AT#SET?") + b"\r")
            while (body := self.line(3)) is not None and body != fence:
                pass
            if body is None:
                continue
            self.send(checked(b'AT#GEN="%s",%d' % (prompt, limit)) + b"\r")
            text, expected, gap = b"", 1, False
            while (body := self.line(5)) is not None:
                if body is False:
                    if not gap:
                        self.send(b"\x15")
                        self.naks += 1
                        gap = True
                elif m := re.fullmatch(rb'#TOK: "(.*)",(\d+)', body, re.S):
                    number = int(m[2])
                    if number > expected:
                        if not gap:
                            self.send(b"\x15")
                            self.naks += 1
                            gap = True
                        continue
                    if number == expected:
                        text, expected, gap = text + unescape(m[1]), expected + 1, False
                    self.send(b"\x06")
                elif m := re.fullmatch(rb"#GEN: .*,(\d+)", body):
                    if int(m[1]) + 1 != expected:
                        self.send(b"\x15")
                        self.naks += 1
                        continue
                    return text
                elif body.startswith(b"+CME ERROR"):
                    break
        raise AssertionError(f"no complete answer in {tries} tries")
