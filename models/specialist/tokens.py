"""The specialist's tokens: byte-level BPE for what is said, and whole pieces for what is answered.

An answer is written by slmd as the model draws it and as its schema allows: what can only come next is not drawn but forced, a text at a
time, but for its last token where the vocabulary has a longer one that may come, too. segments() cuts an answer in exactly these pieces, so
that training sees what the board will see.
"""
import json
import random
import re

import generate

SPECIALS = ["<|end|>", "<|user|>", "<|answer|>"]
VOCAB = 1024
TOOLS = ["switch", "read", "state", "door"]
HEADS = ['{"name":"%s","arguments":{%s' % (t, "}" if t == "door" else '"name":"') for t in TOOLS]
NONE = 'text":"not for me"}'
FORCED = ['{"', '","on":', '"}}', '","']
PIECES = (['calls":[' + h for h in HEADS] + [NONE] + [o for o in generate.OUTPUTS if "_" in o] + [',"ms":', ',"times":', ',"if":{"name":"', 'above":', 'below":', "000"] +
          [c + "," + h for c in ("", "}", "}}", "}}}") for h in HEADS] + [c + "]}" for c in ("", "}", "}}", "}}}")] + FORCED)
# Ordinary words that are answered as one token, too.
WORDS = [o for o in generate.OUTPUTS if "_" not in o] + generate.READINGS + ["door", "true", "false"]
DRAWN = sorted(set(PIECES) - set(FORCED) | set(WORDS) | set("0123456789-."), key=len, reverse=True)

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


def segments(answer):
    """[(piece, drawn)]: the pieces of an answer; drawn: by the model, not forced."""
    out, at, call, in_if = [], 0, "", False

    def take(piece, drawn):
        nonlocal at
        assert answer.startswith(piece, at), (answer[at:], piece)
        out.append((piece, drawn))
        at += len(piece)

    take('{"', False)
    while at < len(answer):
        piece = next(p for p in DRAWN if answer.startswith(p, at))
        take(piece, True)
        head = re.search(r'"name":"(\w+)","arguments":', piece)
        if head:
            call, in_if = head.group(1), False
        elif piece == ',"if":{"name":"':
            in_if = True
        elif in_if and piece == "door":
            take('","on":', False)
        elif in_if and piece in generate.CONDITIONS:
            take('","', False)
        elif call == "switch" and piece in generate.OUTPUTS:
            take('","on":', False)
        elif call in ("read", "state") and piece in generate.OUTPUTS + generate.READINGS:
            take('"}}', False)
    return out


def train(path):
    """Writes tokenizer.json. Deterministic."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    r = random.Random(1)
    texts = [generate.command(r)[0] for _ in range(60000)]
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    t.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=VOCAB - len(PIECES), special_tokens=SPECIALS, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False)
    t.train_from_iterator(texts + WORDS * 2000, trainer)
    spec = json.loads(t.to_str())
    spec["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, BYTE_LEVEL]}
    vocab = spec["model"]["vocab"]
    assert len(vocab) == VOCAB - len(PIECES) and all(w in vocab for w in WORDS), [w for w in WORDS if w not in vocab]
    added = [{"id": vocab[s], "content": s, "special": True} for s in SPECIALS] + [{"id": len(vocab) + i, "content": p, "special": False} for i, p in enumerate(PIECES)]
    spec["added_tokens"] = [{"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, **a} for a in added]
    with open(path, "w", encoding="utf-8") as f:
        json.dump(spec, f, ensure_ascii=False, indent=0)
        f.write("\n")


class Tokens:
    def __init__(self, path):
        from tokenizers import Tokenizer

        self.t = Tokenizer.from_file(path)
        self.ids = self.t.get_vocab()
        self.cache = {}

    def example(self, encoded, answer):
        """Token ids of a command that is encoded already and of its answer, and which of them the model draws."""
        if answer not in self.cache:
            if len(self.cache) > 200000:
                self.cache.clear()
            pieces = segments(answer)
            self.cache[answer] = [self.ids[p] for p, _ in pieces], [d for _, d in pieces]
        ids, drawn = self.cache[answer]
        head = [self.ids["<|user|>"]] + encoded + [self.ids["<|answer|>"]]
        return head + ids, [False] * len(head) + drawn

    def examples(self, pairs):
        encoded = self.t.encode_batch([text for text, _ in pairs], add_special_tokens=False)
        return [self.example(e.ids, answer) for e, (_, answer) in zip(encoded, pairs)]
