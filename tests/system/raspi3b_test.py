"""QEMU's own Raspberry Pi 3 with the device tree of Debian's kernel: a board that nothing was changed in."""
import system


class Pi3(system.Board):
    guest_options = {"machine": "raspi3b"}
    board = "pi-3"
    configuration = system.slmd.configuration().split(b"[[tty]]")[0]

    def test_device_tree(self):
        self.assertEqual(self.guest.sh("tr '\\0' ' ' </sys/firmware/devicetree/base/compatible").split(), ["raspberrypi,3-model-b", "brcm,bcm2837"])
        self.assertIn("GPIO17", self.guest.sh("gpioinfo"))

    def test_answer(self):
        self.assertEqual(self.ask(), system.PARIS)


if __name__ == "__main__":
    system.main()
