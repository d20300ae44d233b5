"""Boards as their device tree says: each of the four is booted, found, and answers. SLMD_BOARDS="NAME ..." names others."""
import os
import unittest

import system
from system import boards

NAMES = os.environ.get("SLMD_BOARDS", "orange-pi-5").split()


class Detection:
    def test_device_tree(self):
        board = boards.BOARDS[self.board]
        self.assertEqual(self.guest.sh("tr '\\0' ' ' </sys/firmware/devicetree/base/compatible").split(), list(board.compatible))
        capacity = self.guest.sh("cat /sys/devices/system/cpu/cpu[0-9]*/cpu_capacity").split()
        self.assertEqual([int(c) for c in capacity], list(board.capacity))

    def test_answer(self):
        self.assertEqual(self.ask(), system.PARIS)


for name in NAMES:
    globals()["Board_" + name.replace("-", "_")] = type("Board_" + name.replace("-", "_"), (Detection, system.Board), {"board": name})


def load_tests(loader, standard, pattern):
    return unittest.TestSuite(loader.loadTestsFromTestCase(globals()["Board_" + name.replace("-", "_")]) for name in NAMES)


if __name__ == "__main__":
    system.main()
