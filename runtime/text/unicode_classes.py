#!/usr/bin/env python3
"""Writes unicode_classes.inc: the code points at which the class (other, letter, number, space) changes, from Python's unicodedata.

Run it when a newer Unicode version matters: python3 unicode_classes.py > unicode_classes.inc
"""
import unicodedata

WHITE_SPACE = {*range(0x09, 0x0E), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000}


def char_class(code):
    if code in WHITE_SPACE:
        return 3
    return {"L": 1, "N": 2}.get(unicodedata.category(chr(code))[0], 0)


changes, last = [], None
for code in range(0x110000):
    now = char_class(code)
    if now != last:
        changes.append(f"0x{code << 2 | now:x}")
        last = now

print(f"// Made by unicode_classes.py from Unicode {unicodedata.unidata_version}: code point << 2 | class, where the class changes.")
for i in range(0, len(changes), 14):
    print(",".join(changes[i : i + 14]) + ",")
