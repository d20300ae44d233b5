"""One emulated board: QEMU with the cached root, what is installed into it, and the wires that lead out of it.

guest.sh() runs a command in the guest (over a serial line of its own), guest.uart is the host's end of the board's serial port, guest.gpio drives and watches its GPIO
lines from outside. Every wait ends. The guest dies with this process, however that ends.
"""
import base64
import contextlib
import ctypes
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from . import boards, root

QEMU = "qemu-system-aarch64"
PL061_BASE = 0x9030000


class GuestError(Exception):
    pass


def _die_with_parent():
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Lines:
    """A Unix socket of QEMU, read by lines with a deadline."""

    def __init__(self, path, timeout=30):
        deadline = time.monotonic() + timeout
        while True:
            self.socket = socket.socket(socket.AF_UNIX)
            try:
                self.socket.connect(path)
                break
            except OSError as e:
                self.socket.close()
                if time.monotonic() > deadline:
                    raise GuestError(f"QEMU does not open {path}: {e}") from e
                time.sleep(0.02)
        self.pending = b""

    def write(self, data, timeout=60):
        self.socket.settimeout(timeout)
        self.socket.sendall(data)

    def read_some(self, timeout):
        """What has come, at least one byte; b"" when nothing comes within timeout. Raises when the other end is gone."""
        if self.pending:
            data, self.pending = self.pending, b""
            return data
        if not select.select([self.socket], [], [], max(0, timeout))[0]:
            return b""
        data = self.socket.recv(65536)
        if not data:
            raise GuestError("QEMU has ended")
        return data

    def read_until(self, end, timeout=60):
        """Everything up to and with the bytes end."""
        deadline = time.monotonic() + timeout
        data = b""
        while True:
            at = data.find(end)
            if at >= 0:
                self.pending = data[at + len(end):] + self.pending
                return data[:at + len(end)]
            more = self.read_some(deadline - time.monotonic())
            if not more:
                self.pending = data
                raise GuestError(f"waited {timeout} s for {end!r}; what came: {data[-300:]!r}")
            data += more

    def line(self, timeout=60):
        return self.read_until(b"\n", timeout).rstrip(b"\r\n")


class Qmp(Lines):
    def __init__(self, path):
        super().__init__(path)
        self.line()
        self("qmp_capabilities")

    def __call__(self, command, **arguments):
        self.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        while True:
            reply = json.loads(self.line())
            if "error" in reply:
                raise GuestError(f"QMP {command}: {reply['error']['desc']}")
            if "return" in reply:
                return reply["return"]


class Gpio:
    """The lines of the board's PL061 seen from outside the board, by name or number.

    Inputs are driven through QEMU's qtest socket. Outputs are read from the chip's data register, and watched through QEMU's trace: the chip writes down when it changes
    a line. QEMU's clock stands still only while the machine is stopped, so the differences of these times are those of the guest's own clock, to the microsecond.
    """

    def __init__(self, qmp, qtest, names, trace):
        chips = [c["name"] for c in qmp("qom-list", path="/machine/unattached") if c["type"] == "child<pl061>"]
        self.path, self.qtest, self.names, self.trace = "/machine/unattached/" + chips[0], qtest, names, trace

    def number(self, line):
        return line if isinstance(line, int) else self.names.index(line)

    def ask(self, words):
        self.qtest.write(words.encode() + b"\n")
        reply = self.qtest.line().decode().split()
        if reply[:1] != ["OK"]:
            raise GuestError(f"qtest {words}: {reply}")
        return reply[1] if len(reply) > 1 else ""

    def set(self, line, level):
        """Drives an input of the board."""
        self.ask(f"set_irq_in {self.path} unnamed-gpio-in {self.number(line)} {int(bool(level))}")

    def get(self, line):
        """Level of a line as the chip has it."""
        mask = 1 << self.number(line)
        return int(bool(int(self.ask(f"readb {PL061_BASE + (mask << 2):#x}"), 16) & mask))

    def changes(self, line):
        """[(microseconds, level)] of all changes of an output since the start."""
        found = []
        with open(self.trace, encoding="utf-8", errors="replace") as f:
            for text in f:
                m = re.search(r"@(\d+)\.(\d+):pl061_set_output .* setting output (\d+) to (\d+)", text)
                if m and int(m[3]) == self.number(line):
                    found.append((int(m[1]) * 1000000 + int(m[2]), int(m[4])))
        return found

    def wait(self, line, count, timeout=60):
        """The changes of an output, once there are at least count of them."""
        deadline = time.monotonic() + timeout
        while True:
            found = self.changes(line)
            if len(found) >= count:
                return found
            if time.monotonic() > deadline:
                raise GuestError(f"{count} changes of {line} expected within {timeout} s, seen: {found}")
            time.sleep(0.05)

    @staticmethod
    def pulses(changes):
        """Lengths in microseconds of the times that a line was high."""
        return [later[0] - earlier[0] for earlier, later in zip(changes, changes[1:]) if earlier[1] == 1 and later[1] == 0]


def needs():
    """What is missing on this machine to boot a guest, as text; None: nothing."""
    for program in (QEMU, "dtc", "dpkg-deb", "apt-get"):
        if shutil.which(program) is None:
            return f"{program} is missing: run toolchain/install-dependencies --emulate"
    return None


class Guest:
    def __init__(self, board="pi-4", machine="virt", debs=(), files=None, packages=(), arguments=(), qemu=(), interactive=False, say=lambda text: None, mask=(),
                 suite=root.own_suite()):
        """Starts a board, with the packages debs installed and files ({path: bytes, or path on the host}) put in place before systemd starts. qemu: further options.

        packages: Debian packages that the root is to hold beside what debs depend on. arguments: of the kernel. mask: units that are not to start. suite: of Debian.
        """
        if missing := needs():
            raise root.Unavailable(missing)
        self.board, self.machine, self.suite, self.process = board, machine, suite, None
        self.uart = self.gpio = None
        self.requests = 0
        self.folder = tempfile.mkdtemp(prefix="slmd-guest.")
        try:
            self.start(boards.BOARDS[board], debs, files or {}, packages, list(arguments), list(qemu), interactive, say, mask)
        except BaseException:
            self.close()
            raise

    def place(self, name):
        return os.path.join(self.folder, name)

    def start(self, board, debs, files, packages, arguments, qemu, interactive, say, mask):
        depends = set(packages)
        for deb in debs:
            said = subprocess.run(["dpkg-deb", "-f", deb, "Pre-Depends", "Depends"], capture_output=True, check=True, timeout=60).stdout.decode()
            for line in said.splitlines():
                # Of alternatives the first; packages installed together may depend on each other.
                depends |= {re.match(r"[a-z0-9.+-]+", d.strip())[0] for d in line.split(":", 1)[1].split(",")}
        for deb in debs:
            depends.discard(os.path.basename(deb).split("_")[0])
        base = root.prepare(depends, self.suite, say)

        payload = root.Tree()
        payload.folder("emulate/debs")
        for deb in debs:
            with open(deb, "rb") as f:
                payload.put("emulate/debs/" + os.path.basename(deb), f.read())
        for path, content in files.items():
            if isinstance(content, str):
                with open(content, "rb") as f:
                    content = f.read()
            payload.put("emulate/root/" + path.strip("/"), content)
        for unit in mask:
            payload.link(f"emulate/root/etc/systemd/system/{unit}", "/dev/null")
        payload.write(self.place("payload.cpio"))
        with open(self.place("initrd"), "wb") as out:
            for part in (base.archive, self.place("payload.cpio")):
                with open(part, "rb") as f:
                    shutil.copyfileobj(f, out, 1 << 20)

        socket_device = lambda name: ["-chardev", f"socket,id={name},path={self.place(name)},server=on,wait=off"]  # noqa: E731
        command = [QEMU, "-accel", "tcg,tb-size=256", "-nodefaults", "-display", "none", "-no-reboot", "-kernel", base.kernel, "-initrd", self.place("initrd"),
                   "-chardev", ("stdio,signal=off,mux=on" if interactive else "null") + f",id=console,logfile={self.place('console')}", "-serial", "chardev:console",
                   *(["-mon", "chardev=console"] if interactive else []),
                   *socket_device("agent"), "-qmp", f"unix:{self.place('qmp')},server=on,wait=off"]
        if self.machine == "raspi3b":
            # The Pi 3's mini UART (serial1) is the agent's; this machine has no other serial port, and no lines that can be driven.
            command += ["-M", "raspi3b", "-dtb", base.raspi3b_dtb, "-serial", "chardev:agent"]
        else:
            dtb = boards.device_tree(board, board.cpu, QEMU, self.folder)
            command += ["-M", "virt", "-cpu", board.cpu, "-smp", str(len(board.capacity)), "-m", str(board.memory_mib), "-dtb", dtb,
                        *socket_device("uart"), "-device", "pci-serial,chardev=uart,addr=2", "-device", "pci-serial,chardev=agent,addr=3",
                        "-device", "i6300esb", "-action", "watchdog=poweroff",
                        "-qtest", f"unix:{self.place('qtest')},server=on,wait=off", "-qtest-log", "none",
                        "-trace", "enable=pl061_set_output", "-msg", "timestamp=on", "-D", self.place("trace")]
        # Without address randomization the kernel does without page-table isolation, which under emulation takes a third of all time.
        words = ["console=ttyAMA0", "quiet", "panic=-1", "nokaslr", "kpti=0", "mitigations=off", "audit=0", "systemd.show_status=0",
                 "systemd.wants=emulate-agent@ttyS1.service"]
        if interactive:
            words.append("systemd.wants=emulate-shell@ttyAMA0.service")
        command += ["-append", " ".join(words + arguments), *qemu]
        log = open(self.place("qemu.log"), "wb")  # noqa: SIM115
        with log:
            self.process = subprocess.Popen(command, stdin=None if interactive else subprocess.DEVNULL, stdout=None if interactive else log,
                                            stderr=None if interactive else log, preexec_fn=_die_with_parent)
        if interactive:
            return
        try:
            self.qmp = Qmp(self.place("qmp"))
            self.agent = Lines(self.place("agent"))
            if self.machine == "virt":
                self.uart = Lines(self.place("uart"))
                self.gpio = Gpio(self.qmp, Lines(self.place("qtest")), board.lines, self.place("trace"))
        except GuestError as e:
            raise GuestError(f"{e}\n{self.logs()}") from e

    def logs(self):
        text = ""
        for name in ("qemu.log", "console"):
            with contextlib.suppress(OSError), open(self.place(name), encoding="utf-8", errors="replace") as f:
                text += f"--- {name}\n{f.read()[-4000:]}\n"
        return text

    def wait_up(self, timeout=240):
        """Until commands can be run: early in the boot, before the services."""
        try:
            self.agent.read_until(b"AGENT\n", timeout)
        except GuestError as e:
            raise GuestError(f"the guest does not come up: {e}\n{self.logs()}") from e
        return self

    def call(self, command, timeout=120):
        """(status, output) of a bash command in the guest. At most one at a time; what is to go on in the background must not hold its output."""
        self.requests += 1
        name = str(self.requests).encode()
        self.agent.write(name + b" " + base64.b64encode(command.encode()) + b"\n")
        try:
            self.agent.read_until(b"BEGIN " + name + b"\n", timeout)
            said = self.agent.read_until(b"END " + name + b" ", timeout)
            status = int(self.agent.line())
        except GuestError as e:
            raise GuestError(f"in the guest: {command}: {e}\n{self.logs()}") from e
        return status, base64.b64decode(said[:said.rindex(b"END ")]).decode(errors="replace")

    def sh(self, command, timeout=120):
        """The output of a command that must succeed, without the last line end."""
        status, output = self.call(command, timeout)
        if status:
            raise GuestError(f"in the guest: {command}: status {status}\n{output}")
        return output.rstrip("\n")

    def until(self, command, timeout=120):
        """Repeats a command until it succeeds; its output."""
        deadline = time.monotonic() + timeout
        while True:
            status, output = self.call(command)
            if status == 0:
                return output.rstrip("\n")
            if time.monotonic() > deadline:
                raise GuestError(f"in the guest: {command}: still status {status} after {timeout} s\n{output}")
            time.sleep(0.2)

    def close(self, timeout=60):
        if self.process:
            if self.process.poll() is None:
                self.process.kill()
            self.process.wait(timeout)
        shutil.rmtree(self.folder, ignore_errors=True)

    def power_off(self, timeout=120):
        """Shuts the guest down as its user would; its whole end is waited for."""
        with contextlib.suppress(GuestError):
            self.call("systemctl --no-block poweroff", 20)
        self.process.wait(timeout)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
