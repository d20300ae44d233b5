#!/usr/bin/env python3
"""Writes wordpiece_chars.inc: what BERT's basic tokenizer makes of every character, as ranges of text/section.h, from Python's unicodedata.

Run it when a newer Unicode version matters: python3 wordpiece_chars.py > wordpiece_chars.inc

As Hugging Face's BertNormalizer and BertPreTokenizer have it: control characters are dropped, CJK ideographs and punctuation stand alone; uncased: canonical
decomposition without nonspacing marks, then lower case. (Where no two marks that are not nonspacing meet, which no script does, their order is that of the text.)
"""
import unicodedata

WHITE_SPACE = {*range(0x09, 0x0E), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000}
CJK = ((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F), (0x2B920, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F))
WORD, SPACE, ALONE, DROPPED, SEQUENCE, HANGUL = range(6)


def lower(code):
    # A capital sigma has no word around it here: what is made of one character alone.
    return [ord(c) for c in chr(code).lower()]


def normal(code, uncased):
    if not uncased:
        return [code]
    parts = [ord(c) for c in unicodedata.normalize("NFD", chr(code)) if unicodedata.category(c) != "Mn"]
    return [c for part in parts for c in lower(part)]


def kind(code):
    if code in WHITE_SPACE:
        return SPACE
    ascii_punctuation = 0x21 <= code <= 0x7E and not chr(code).isalnum()
    return ALONE if ascii_punctuation or unicodedata.category(chr(code))[0] == "P" else WORD


def meaning(code, uncased, sequences):
    """Action and delta."""
    if code in (9, 10, 13):
        return SPACE, 0
    if code in (0, 0xFFFD) or unicodedata.category(chr(code)) in ("Cc", "Cf", "Co", "Cs"):
        return DROPPED, 0
    if code in WHITE_SPACE:
        return SPACE, 0
    if uncased and 0xAC00 <= code <= 0xD7A3:
        return HANGUL, 0
    out = normal(code, uncased)
    alone = any(low <= code <= high for low, high in CJK)
    if not out:
        return DROPPED, 0
    if len(out) == 1:
        action = ALONE if alone else kind(out[0])
        return action, 0 if action == SPACE else out[0] - code
    assert not alone and len(out) < 8
    at = len(sequences)
    sequences += [c << 2 | kind(c) for c in out]
    return SEQUENCE, at << 3 | len(out)


def table(uncased):
    ranges, sequences, last = [], [], None
    for code in range(0x110000):
        now = meaning(code, uncased, sequences)
        if now != last or now[0] == SEQUENCE:
            ranges.append((code, *now))
        last = now
    return ranges, sequences


print(f"// Made by wordpiece_chars.py from Unicode {unicodedata.unidata_version}: where the meaning of characters changes, and into what.")
print("constexpr auto W = text::CharAction::word, S = text::CharAction::space, A = text::CharAction::alone, D = text::CharAction::dropped,")
print("               Q = text::CharAction::sequence, H = text::CharAction::hangul;")
for name, uncased in (("uncased", True), ("cased", False)):
    ranges, sequences = table(uncased)
    print(f"constexpr text::CharRange {name}_ranges[] = {{")
    texts = [f"{{0x{first:x},{'WSADQH'[action]},{delta}}}" for first, action, delta in ranges]
    for i in range(0, len(texts), 9):
        print(",".join(texts[i : i + 9]) + ",")
    print("};")
    if sequences:
        print(f"constexpr std::uint32_t {name}_sequences[] = {{")
        for i in range(0, len(sequences), 18):
            print(",".join(f"0x{s:x}" for s in sequences[i : i + 18]) + ",")
        print("};")
