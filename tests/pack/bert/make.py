#!/usr/bin/env python3
"""Makes the tiny encoder of this folder: a BERT with random weights and a WordPiece vocabulary, what Hugging Face's tokenizers (0.23) makes of some texts,
and their embeddings by NumPy in float64. The tests read the files; run it in this folder when the model is to be another one.

  pip install numpy tokenizers && python3 make.py
"""
import json, struct
import numpy as np
from math import erf
from tokenizers import Tokenizer

LAYERS, DIM, HIDDEN, HEADS, POSITIONS, LONGEST, EPS = 2, 32, 96, 2, 48, 24, 1e-12
TEXTS = [
    "", "42", "The pump in hall 3 is leaking oil.", "THE PUMP", "naïve café — résumé", "pumps, pumping; unpumped?", "[CLS] is text here",
    "東京 tower 日本", "한글 각", "Ǆ İstanbul ẞ Å\u030a", "tab\tnew\nline\u00a0space\u2003wide", "zero\u200bwidth\u00adsoft\x07bell\ufffd", "a" * 101, "a" * 100,
    "xyzzy ☃ unknown", "пример Пример", "don't stop-me!!!", "１２ ①", "one two three four five six seven eight nine ten pump oil hall leaking the is in a b c d e f",
]
WORDS = """the pump oil hall leaking is in naive cafe resume one two three four five six seven eight nine ten tower text here istanbul angstrom space line tab new wide
zero width soft bell stop don me un pri""".split()
PIECES = "s ing ed ped mer pump er le ing t e".split()


def vocabulary():
    characters = "abcdefghijklmnopqrstuvwxyz0123456789!#$%&'()*+,-./:;?@[]_—東京日本пример" + "".join(map(chr, (0x1112, 0x1161, 0x11AB, 0x1100, 0x1173, 0x11AF, 0x11A8)))
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters, *("##" + c for c in characters if c.isalnum()), *WORDS, *("##" + p for p in PIECES)]
    return {token: i for i, token in enumerate(dict.fromkeys(tokens))}


def tokenizer_json(vocab):
    special = lambda t: {"id": vocab[t], "content": t, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    around = lambda t: {"SpecialToken": {"id": t, "type_id": 0}}
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [special(t) for t in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")],
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing", "single": [around("[CLS]"), {"Sequence": {"id": "A", "type_id": 0}}, around("[SEP]")],
                           "pair": [around("[CLS]"), {"Sequence": {"id": "A", "type_id": 0}}, around("[SEP]"), {"Sequence": {"id": "B", "type_id": 1}}],
                           "special_tokens": {t: {"id": t, "ids": [vocab[t]], "tokens": [t]} for t in ("[CLS]", "[SEP]")}},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": vocab},
    }


def weights(words):
    rng = np.random.default_rng(1)
    matrix = lambda rows, cols: rng.normal(0, 1.5 / np.sqrt(cols), (rows, cols))
    bias = lambda n: rng.normal(0, 0.1, n)
    w = {"embeddings.word_embeddings.weight": rng.normal(0, 1, (words, DIM)), "embeddings.position_embeddings.weight": rng.normal(0, 0.3, (POSITIONS, DIM)),
         "embeddings.token_type_embeddings.weight": rng.normal(0, 0.3, (2, DIM)), "pooler.dense.weight": matrix(DIM, DIM), "pooler.dense.bias": bias(DIM)}
    norms = ["embeddings.LayerNorm"]
    for i in range(LAYERS):
        at = f"encoder.layer.{i}."
        for name, rows, cols in (("attention.self.query", DIM, DIM), ("attention.self.key", DIM, DIM), ("attention.self.value", DIM, DIM),
                                 ("attention.output.dense", DIM, DIM), ("intermediate.dense", HIDDEN, DIM), ("output.dense", DIM, HIDDEN)):
            w[at + name + ".weight"], w[at + name + ".bias"] = matrix(rows, cols), bias(rows)
        norms += [at + "attention.output.LayerNorm", at + "output.LayerNorm"]
    for name in norms:
        w[name + ".weight"], w[name + ".bias"] = 1 + bias(DIM), bias(DIM)
    return {name: value.astype(np.float16) for name, value in w.items()}


def embed(w, tokens):
    get = lambda name: w[name].astype(np.float64)
    linear = lambda x, name: x @ get(name + ".weight").T + get(name + ".bias")

    def norm(x, name):
        x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + EPS) * get(name + ".weight") + get(name + ".bias")

    x = get("embeddings.word_embeddings.weight")[tokens] + get("embeddings.position_embeddings.weight")[:len(tokens)] + get("embeddings.token_type_embeddings.weight")[0]
    x = norm(x, "embeddings.LayerNorm")
    for i in range(LAYERS):
        at = f"encoder.layer.{i}."
        q, k, v = (linear(x, at + "attention.self." + n).reshape(len(tokens), HEADS, -1).transpose(1, 0, 2) for n in ("query", "key", "value"))
        s = q @ k.transpose(0, 2, 1) / np.sqrt(DIM // HEADS)
        s = np.exp(s - s.max(-1, keepdims=True))
        mixed = (s / s.sum(-1, keepdims=True) @ v).transpose(1, 0, 2).reshape(len(tokens), DIM)
        x = norm(x + linear(mixed, at + "attention.output.dense"), at + "attention.output.LayerNorm")
        h = linear(x, at + "intermediate.dense")
        h = h * 0.5 * (1 + np.vectorize(erf)(h / np.sqrt(2)))
        x = norm(x + linear(h, at + "output.dense"), at + "output.LayerNorm")
    x = x.mean(0)
    return x / np.linalg.norm(x)


def write_safetensors(path, tensors):
    header, at = {"__metadata__": {"format": "np"}}, 0
    tensors = {"embeddings.position_ids": np.arange(POSITIONS, dtype=np.int64)[None], **tensors}
    for name, value in tensors.items():
        header[name] = {"dtype": {"float16": "F16", "int64": "I64"}[str(value.dtype)], "shape": list(value.shape), "data_offsets": [at, at + value.nbytes]}
        at += value.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(v.tobytes() for v in tensors.values()))


def main():
    vocab = vocabulary()
    put = lambda name, value: open(name, "w").write(json.dumps(value, indent=1) + "\n")
    json.dump(tokenizer_json(vocab), open("tokenizer.json", "w"), ensure_ascii=False, separators=(",", ":"))
    put("config.json", {"architectures": ["BertModel"], "model_type": "bert", "hidden_act": "gelu", "hidden_size": DIM, "intermediate_size": HIDDEN,
                        "layer_norm_eps": EPS, "max_position_embeddings": POSITIONS, "num_attention_heads": HEADS, "num_hidden_layers": LAYERS,
                        "position_embedding_type": "absolute", "type_vocab_size": 2, "vocab_size": len(vocab)})
    put("sentence_bert_config.json", {"max_seq_length": LONGEST, "do_lower_case": False})
    w = weights(len(vocab))
    write_safetensors("model.safetensors", w)
    tokenizer = Tokenizer.from_file("tokenizer.json")
    cases, embeddings = [], []
    for text in TEXTS:
        # As plain text: what looks like a special token is none.
        words = [t for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(text)) for t in tokenizer.model.tokenize(word)]
        tokens = [vocab["[CLS]"], *(t.id for t in words), vocab["[SEP]"]]
        read = tokens if len(tokens) <= LONGEST else [*tokens[:LONGEST - 1], vocab["[SEP]"]]
        cases.append({"text": text, "tokens": tokens, "read": len(read)})
        embeddings.append(embed(w, read))
    put("cases.json", cases)
    np.save("embeddings.npy", np.array(embeddings, np.float32))


main()
