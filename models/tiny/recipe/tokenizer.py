"""A byte-level BPE tokenizer with GPT-2's pre-tokenizer, trained on the generated world and written as Hugging Face's tokenizer.json."""
import collections
import json
import re

SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
# GPT-2's pattern. The world is ASCII, so [A-Za-z] stands for \p{L} and [0-9] for \p{N}.
PATTERN = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+")
SPECIAL = re.compile("(" + "|".join(re.escape(s) for s in SPECIALS) + ")")


def byte_alphabet():
    """GPT-2's printable character of each byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    other = [b for b in range(256) if b not in printable]
    return {**{b: chr(b) for b in printable}, **{b: chr(256 + i) for i, b in enumerate(other)}}


ALPHABET = byte_alphabet()
BYTE = {c: b for b, c in ALPHABET.items()}


def words(text):
    return ["".join(ALPHABET[b] for b in w.encode()) for w in PATTERN.findall(text)]


def merge(symbols, left, right):
    out, i = [], 0
    while i < len(symbols):
        if i + 1 < len(symbols) and symbols[i] == left and symbols[i + 1] == right:
            out.append(left + right)
            i += 2
        else:
            out.append(symbols[i])
            i += 1
    return out


class Tokenizer:
    def __init__(self, merges):
        self.merges = [tuple(m) for m in merges]
        self.tokens = SPECIALS + [ALPHABET[b] for b in range(256)] + ["".join(m) for m in self.merges]
        self.ids = {t: i for i, t in enumerate(self.tokens)}
        self.rank = {m: i for i, m in enumerate(self.merges)}
        self.cache = {}

    @classmethod
    def train(cls, text, vocab):
        count = collections.Counter(w for part in SPECIAL.split(text) if part not in SPECIALS for w in words(part))
        splits = {w: list(w) for w in count}
        merges = []
        while len(SPECIALS) + 256 + len(merges) < vocab:
            pairs = collections.Counter()
            for w, n in count.items():
                for pair in zip(splits[w], splits[w][1:]):
                    pairs[pair] += n
            best = min(pairs, key=lambda p: (-pairs[p], p))  # ties: the first in order, so that training is repeatable
            merges.append(best)
            for w in count:
                splits[w] = merge(splits[w], *best)
        return cls(merges)

    def _word(self, w):
        if w not in self.cache:
            s = list(w)
            while len(s) > 1:
                best = min(zip(s, s[1:]), key=lambda p: self.rank.get(p, 1 << 30))
                if best not in self.rank:
                    break
                s = merge(s, *best)
            self.cache[w] = [self.ids[t] for t in s]
        return self.cache[w]

    def encode(self, text):
        out = []
        for part in SPECIAL.split(text):
            if part in SPECIALS:
                out.append(self.ids[part])
            else:
                for w in words(part):
                    out += self._word(w)
        return out

    def decode(self, ids):
        out = b""
        for i in ids:
            t = self.tokens[i]
            out += t.encode() if t in SPECIALS else bytes(BYTE[c] for c in t)
        return out.decode(errors="replace")

    def save(self, path):
        byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
        added = [{"id": i, "content": s, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True} for i, s in enumerate(SPECIALS)]
        with open(path, "w", encoding="utf-8") as f:
            json.dump({"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None, "pre_tokenizer": byte_level,
                       "post_processor": None, "decoder": byte_level,
                       "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                                 "fuse_unk": False, "byte_fallback": False, "ignore_merges": False, "vocab": self.ids,
                                 "merges": [" ".join(m) for m in self.merges]}}, f, ensure_ascii=False, indent=0)
            f.write("\n")

    @classmethod
    def load(cls, path):
        with open(path, encoding="utf-8") as f:
            return cls([m.split(" ") for m in json.load(f)["model"]["merges"]])
