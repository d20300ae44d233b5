"""The board's GPIO lines and LED with slmd at them, driven and seen from outside the board."""
import re
import sys
import time

import system
from system import slmd

LED = "LED-A"  # the line behind the board's LED "ACT"


class Gpio(system.Board):
    board = "pi-5"
    configuration = slmd.configuration(tty="trusted = true\n", more=f"""
[pins]
status = "ACT"
busy = "GPIO27"
privacy = "GPIO22"

[[trigger]]
name = "door"
line = "GPIO17"
edge = "rising"
prompt = "{system.FRANCE}"

[[trigger]]
name = "bell"
line = "GPIO4"
edge = "both"
prompt = "What is the capital of Italy?"
to = "file"

[[output]]
name = "relay"
line = "GPIO23"
max_pulse_ms = 500
interlock = "GPIO24"
""")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.guest.uart.write(b"\x1b\rATE0\r")
        cls.guest.uart.read_until(b"\r\nOK\r\n")

    def command(self, text, end=b"\r\nOK\r\n"):
        self.guest.uart.write(text + b"\r")
        return self.guest.uart.read_until(end).decode()

    def hardware(self, name):
        return re.search(rf'#HW: "{name}",(.*)\r', self.command(b"AT#HW?"))[1]

    def until(self, condition, what, timeout=60):
        deadline = time.monotonic() + timeout
        while not (value := condition()):
            self.assertLess(time.monotonic(), deadline, f"waited for {what}")
            time.sleep(0.1)
        return value

    def test_1_names(self):
        """Lines by the board's names; slmd holds those that it was given."""
        said = self.guest.sh("gpioinfo")
        for name, user in (("GPIO17", "slmd"), ("GPIO22", "slmd"), ("GPIO23", "slmd"), ("GPIO24", "slmd"), ("GPIO27", "slmd"), (LED, "ACT")):
            self.assertRegex(said, rf'"{name}".*"{user}')

    def test_2_board_on_the_wire(self):
        self.assertEqual(self.hardware("board"), '"pi-5"')

    def test_3_trigger(self):
        """An edge on the line asks, and the answer comes on the line to those who listen."""
        self.command(b"AT#EVT=3")
        self.guest.gpio.set("GPIO17", 1)
        said = self.guest.uart.read_until(b'#TRIG: "door",0,"%s"' % system.PARIS.encode()).decode()
        self.assertIn('#EVT: "PIN","door",1', said)
        self.guest.gpio.set("GPIO17", 0)  # the other edge: told, but it asks nothing
        self.guest.uart.read_until(b'#EVT: "PIN","door",0')
        self.command(b"AT#EVT=0")
        self.assertEqual(self.guest.sh("journalctl -b -u slmd -o cat --no-pager | grep -c 'trigger door: '"), "1")

    def test_3_trigger_to_file(self):
        self.guest.gpio.set("GPIO4", 1)
        self.assertEqual(self.guest.until("cat /var/lib/slmd/triggers/bell"), "The capital of Italy is Rome.")
        self.guest.gpio.set("GPIO4", 0)
        self.guest.until("[ $(journalctl -b -u slmd -o cat --no-pager | grep -c 'trigger bell: ') = 2 ]")

    def test_4_privacy_switch(self):
        """Closed to ground: leaving is allowed; an open wire, which a pull-up holds high, cuts."""
        self.assertEqual(self.hardware("cut"), "0")
        self.guest.gpio.set("GPIO22", 1)
        self.until(lambda: self.hardware("cut") == "1", "the cut")
        self.guest.gpio.set("GPIO22", 0)
        self.until(lambda: self.hardware("cut") == "0", "the end of the cut")

    def test_5_output_pulse(self):
        """Pulses are as long as was said, seen from outside; too long ones are refused; an open interlock ends them."""
        gpio = self.guest.gpio
        before = len(gpio.changes("GPIO23"))
        self.assertIn("ERROR", self.command(b'AT#GPIO="relay",1,100', b"\r\n+CME ERROR: 3\r\n"))
        gpio.set("GPIO24", 1)
        self.until(lambda: '"GPIO24","interlock",1' in self.command(b"AT#GPIO?"), "the interlock")
        for _ in range(3):
            self.command(b'AT#GPIO="relay",1,250')
            self.until(lambda: gpio.get("GPIO23") == 0, "the end of the pulse")
        self.assertIn("ERROR", self.command(b'AT#GPIO="relay",1,501', b"\r\n+CME ERROR: 50\r\n"))
        changes = gpio.changes("GPIO23")[before:]
        pulses = gpio.pulses(changes)
        self.assertEqual([level for _, level in changes], [1, 0] * 3)
        # Never too short. How much too long depends on how busy this machine is: of three, one is not.
        self.assertGreaterEqual(min(pulses), 250_000 - 1_000)
        self.assertLess(min(pulses), 500_000)
        print("pulses of 250 ms, seen from outside:", [f"{p / 1000:.1f} ms" for p in pulses], file=sys.stderr)
        self.command(b'AT#GPIO="relay",1,500')
        gpio.set("GPIO24", 0)
        self.until(lambda: gpio.get("GPIO23") == 0, "the interlock to switch off")
        self.guest.until("journalctl -b -u slmd -o cat --no-pager | grep 'relay: off, its interlock opened'")

    def test_6_busy_line(self):
        gpio = self.guest.gpio
        before = len(gpio.changes("GPIO27"))
        self.assertEqual(self.ask(), system.PARIS)
        changes = gpio.wait("GPIO27", before + 2)[before:]
        self.assertEqual([level for _, level in changes], [1, 0])

    def test_7_led(self):
        """Lit while ready, blinking while it answers: seen on the LED's line and in sysfs."""
        gpio = self.guest.gpio
        self.until(lambda: gpio.get(LED) == 1, "the LED of a slmd that is ready")
        self.assertEqual(self.guest.sh("cat /sys/class/leds/ACT/brightness"), "1")
        before = len(gpio.changes(LED))
        for _ in range(50):  # one answer may be shorter than the first step of the pattern, an eighth of a second
            self.guest.sh("for i in 1 2 3 4 5 6 7 8; do slmctl ask 'Count from 0 to 26.' >/dev/null & done; wait")
            if len(gpio.changes(LED)) > before:
                break
        self.until(lambda: gpio.get(LED) == 1 and len(gpio.changes(LED)) > before, "blinking, and the end of it")
        self.assertEqual([level for _, level in gpio.changes(LED)[before:]][:2], [0, 1])

    def test_8_line_held_by_another(self):
        """What another program holds is said, and taken when it is free; slmd goes on meanwhile."""
        self.guest.sh("systemctl stop slmd slmd.socket")
        line = self.guest.gpio.number("GPIO23")
        # The tools of libgpiod 1 and 2 take the chip in different ways.
        chip = "-c gpiochip0" if " v2" in self.guest.sh("gpioset --version") else "--mode=signal gpiochip0"
        self.guest.sh(f"systemd-run --quiet --unit=holder gpioset {chip} {line}=0 && until gpioinfo | grep '\"GPIO23\".*\"gpioset'; do sleep 0.1; done")
        self.guest.sh("systemctl start slmd.socket slmd")
        self.ready()
        self.assertEqual(self.ask(), system.PARIS)
        self.guest.until("journalctl -b -u slmd -o cat --no-pager | grep 'relay: .*gpioset'")
        self.guest.sh("systemctl stop holder")
        self.guest.until("journalctl -b -u slmd -o cat --no-pager | grep 'relay: the line is there'")


if __name__ == "__main__":
    system.main()
