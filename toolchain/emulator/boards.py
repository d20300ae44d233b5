"""Boards that QEMU's machine "virt" can pass for: its device tree, changed to say what a board's own says.

What a program reads of a board (model, compatible, serial number, capacity of the cores, GPIO chip, line names, LEDs) is the board's; the devices behind are virt's:
one GPIO chip of eight lines (a PL061), and 16550A serial ports on PCI.
"""
import os
import subprocess
from dataclasses import dataclass, field

CHIP = "/pl061@9030000"
# Lines 5 and 6 belong to the LEDs.
PI_LINES = ["GPIO17", "GPIO22", "GPIO23", "GPIO24", "GPIO27", "LED-A", "LED-B", "GPIO4"]
RK_LINES = ["GPIO1_C6", "GPIO1_C2", "GPIO1_A3", "GPIO1_A4", "GPIO1_D7", "LED-A", "LED-B", "GPIO1_B6"]


@dataclass(frozen=True)
class Board:
    model: str
    compatible: tuple
    cpu: str = "cortex-a72"
    capacity: tuple = (1024, 1024, 1024, 1024)
    memory_mib: int = 1024
    gpio: str = ""           # what the board's GPIO chip is compatible with
    lines: list = field(default_factory=lambda: PI_LINES)
    leds: tuple = ("ACT", "PWR")


BOARDS = {
    "pi-zero-2w": Board("Raspberry Pi Zero 2 W Rev 1.0", ("raspberrypi,model-zero-2-w", "brcm,bcm2837"), "cortex-a53", memory_mib=512, gpio="brcm,bcm2835-gpio"),
    "pi-3": Board("Raspberry Pi 3 Model B Plus Rev 1.3", ("raspberrypi,3-model-b-plus", "brcm,bcm2837"), "cortex-a53", gpio="brcm,bcm2835-gpio"),
    "pi-4": Board("Raspberry Pi 4 Model B Rev 1.5", ("raspberrypi,4-model-b", "brcm,bcm2711"), gpio="brcm,bcm2711-gpio"),
    "cm4": Board("Raspberry Pi Compute Module 4 Rev 1.1", ("raspberrypi,4-compute-module", "brcm,bcm2711"), gpio="brcm,bcm2711-gpio"),
    "pi-5": Board("Raspberry Pi 5 Model B Rev 1.0", ("raspberrypi,5-model-b", "brcm,bcm2712"), "cortex-a76", gpio="raspberrypi,rp1-gpio"),
    "orange-pi-5": Board("Orange Pi 5", ("xunlong,orangepi-5", "rockchip,rk3588s"), "cortex-a76", (530, 530, 1024, 1024), gpio="rockchip,gpio-bank",
                         lines=RK_LINES, leds=("green:status", "blue:activity")),
    "rock-5b": Board("Radxa ROCK 5B", ("radxa,rock-5b", "rockchip,rk3588"), "cortex-a76", (530, 530, 1024, 1024), gpio="rockchip,gpio-bank",
                     lines=RK_LINES, leds=("blue:status", "green:power")),
    "rock-3": Board("Radxa ROCK3 Model A", ("radxa,rock3a", "rockchip,rk3568"), "cortex-a53", gpio="rockchip,gpio-bank", lines=RK_LINES, leds=("blue:heartbeat", "green:power")),
    "generic": Board("linux,dummy-virt", ("linux,dummy-virt",), leds=("ACT", "PWR")),
}


def source(board):
    """The changes as device-tree source, to stand behind virt's own: what is said twice, the later counts."""
    text = lambda *values: ", ".join(f'"{v}"' for v in values)  # noqa: E731
    cells = lambda data: " ".join(f"0x{data[i:i + 4].hex()}" for i in range(0, len(data), 4))  # noqa: E731
    chip = ([board.gpio] if board.gpio else []) + ["arm,pl061", "arm,primecell"]
    cpus = "".join(f"cpu@{i} {{ capacity-dmips-mhz = <{c}>; }}; " for i, c in enumerate(board.capacity))
    leds = "".join(f'led-{i} {{ label = "{name}"; gpios = <&{{{CHIP}}} {5 + i} 0>; default-state = "off"; }}; ' for i, name in enumerate(board.leds))
    # Thirty-two virtio slots that nothing is plugged into: a second of udev's time.
    unused = "".join(f'&{{/virtio_mmio@{0xa000000 + i * 0x200:x}}} {{ status = "disabled"; }};\n' for i in range(32))
    return f"""
/ {{
    model = "{board.model}";
    compatible = {text(*board.compatible)};
    serial-number = "10000000e71a7ed0";
    /* Line 3 is ours: QEMU presses this key when it is told to power down, which these guests are told in other ways. */
    gpio-keys {{ status = "disabled"; }};
    chosen {{ rng-seed = <{cells(os.urandom(32))}>; }};
    cpus {{ {cpus}}};
    leds {{ compatible = "gpio-leds"; {leds}}};
}};
{unused}&{{{CHIP}}} {{
    compatible = {text(*chip)};
    gpio-line-names = {text(*board.lines)};
}};
"""


def device_tree(board, cpu, qemu, folder):
    """Writes the board's device tree into folder and returns its path."""
    def run(*command, **options):
        return subprocess.run(command, capture_output=True, check=True, timeout=60, **options).stdout.decode()

    dumped, path = os.path.join(folder, "virt.dtb"), os.path.join(folder, "board.dtb")
    run(qemu, "-M", f"virt,dumpdtb={dumped}", "-cpu", cpu, "-smp", str(len(board.capacity)), "-m", str(board.memory_mib), "-nodefaults", "-display", "none")
    text = run("dtc", "-q", "-I", "dtb", "-O", "dts", dumped) + source(board)
    run("dtc", "-q", "-I", "dts", "-O", "dtb", "-o", path, "-", input=text.encode())
    return path
