"""The board's GPIO lines, seen and driven from outside the board."""
import system
from system import slmd

CHIP_LINES = 8


class Wires(system.Board):
    """What the other tests stand on: lines named as on the board, driven and watched from here, used by plain programs there."""
    board = "pi-5"

    def test_names(self):
        said = self.guest.sh("gpioinfo gpiochip0")
        for name in ("GPIO17", "GPIO22", "GPIO27"):
            self.assertIn(f'"{name}"', said)

    def test_input_edges(self):
        line = self.guest.gpio.number("GPIO17")
        self.guest.sh(f"systemd-run --quiet --unit=edges sh -c 'gpiomon --num-events=4 --format=%e gpiochip0 {line} >/run/edges'")
        self.guest.until(f"gpioinfo gpiochip0 | grep 'line *{line}:' | grep -q used")
        for level in (1, 0, 1, 0):
            self.guest.gpio.set("GPIO17", level)
            # A chip reports that there was an edge, and the driver reads which; two within that time would be one.
            self.guest.sh("true")
        self.assertEqual(self.guest.until("[ $(wc -l </run/edges) = 4 ] && cat /run/edges").split(), ["1", "0", "1", "0"])

    def test_output_pulse(self):
        line, before = self.guest.gpio.number("GPIO23"), len(self.guest.gpio.changes("GPIO23"))
        self.guest.sh(f"gpioset gpiochip0 {line}=0; gpioset --mode=time --usec=50000 gpiochip0 {line}=1; gpioset gpiochip0 {line}=0")
        self.assertEqual(self.guest.gpio.get("GPIO23"), 0)
        pulses = self.guest.gpio.pulses(self.guest.gpio.changes("GPIO23")[before:])
        self.assertEqual(len(pulses), 1)
        self.assertGreaterEqual(pulses[0], 50000)


if __name__ == "__main__":
    system.main()
