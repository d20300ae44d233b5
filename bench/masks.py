#!/usr/bin/env python3
"""What a grammar costs for each token: slmd's beside llguidance and xgrammar (pip install llguidance xgrammar), same schemas, same tokens of the same vocabulary, one thread each.

  masks.py IMAGE FUNCTIONS [--cases N] [--bench PROGRAM]

FUNCTIONS: the folder of BFCL's simple_python with its possible answers: the schemas are those of the functions' parameters, the texts the right calls, as compact JSON.

The peers make a mask for each token, as they are used. slmd checks the token that was drawn (check), and makes a mask only where the draw is refused or little is allowed (step is what
its decode does: tokens of what is forced cost nothing, as they are not decoded; mask is one for every token). Prints us at the median and the 99th percentile, and the ratios to the peers; what compiling takes; and how many passes a model takes that wants to write those texts,
told the function and the question.
"""
import argparse
import json
import pathlib
import re
import statistics
import subprocess
import sys
import time
import types

import numpy as np

from functions import convert

parser = argparse.ArgumentParser(usage=__doc__)
parser.add_argument("image")
parser.add_argument("functions")
parser.add_argument("--cases", type=int, default=200)
parser.add_argument("--bench", default=str(pathlib.Path(__file__).parent / "../build/release/bench/bench_masks"))
o = parser.parse_args()


def fits(schema, v):
    kind = schema.get("type")
    if "enum" in schema and v not in schema["enum"]:
        return False
    if kind == "object":
        return isinstance(v, dict) and all(k in schema.get("properties", {}) and fits(schema["properties"][k], x) for k, x in v.items())
    if kind == "array":
        return isinstance(v, list) and all(fits(schema.get("items", {}), x) for x in v)
    return isinstance(v, {"string": str, "integer": int, "number": (int, float), "boolean": bool}.get(kind, object)) and (kind == "boolean" or not isinstance(v, bool))


folder = pathlib.Path(o.functions)
answers = {a["id"]: a for a in map(json.loads, (folder / "possible_answer/BFCL_v4_simple_python.json").open(encoding="utf-8"))}
cases = []
for line in (folder / "BFCL_v4_simple_python.json").open(encoding="utf-8"):
    entry = json.loads(line)
    schema = convert(entry["function"][0]["parameters"])
    given = next(iter(answers[entry["id"]]["ground_truth"][0].values()))
    value = {k: given[k][0] for k in schema["properties"] if k in given and given[k] and given[k][0] != ""}
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if fits(schema, value) and all(k in value for k in schema["required"]) and "\\" not in text:
        told = json.dumps(entry["function"][0]) + " " + entry["question"][0][-1]["content"] + " "
        cases.append((schema, text, re.sub(r"\s", " ", told)))
cases = cases[: o.cases]

pieces = [bytes.fromhex(line) for line in subprocess.run([o.bench, o.image, "vocabulary"], stdout=subprocess.PIPE, check=True, text=True).stdout.splitlines()]
lines = "".join("\t".join([json.dumps(s), *rest]) + "\n" for s, *rest in cases)


def bench(what):
    return [json.loads(x) for x in subprocess.run([o.bench, o.image, what], input=lines.encode(), stdout=subprocess.PIPE, check=True).stdout.splitlines()]


ours = bench("time")
end = next(i for i, p in enumerate(pieces) if not p)

import tvm_ffi  # noqa: E402, F401: before what stands for torch

try:
    import torch  # noqa: F401
except ImportError:
    # xgrammar imports these, and uses nothing of them here.
    class Empty(types.ModuleType):
        Tensor = dtype = device = type("Nothing", (), {"__init__": lambda *_, **__: None})

        def __getattr__(self, name):
            return type("Nothing", (), {"__init__": lambda *_, **__: None})

    for name in ("torch", "torch.utils", "torch.utils.cpp_extension", "transformers", "triton", "triton.language", "triton.runtime"):
        sys.modules.setdefault(name, Empty(name))
import llguidance  # noqa: E402
import llguidance.numpy  # noqa: E402
import xgrammar  # noqa: E402


class Words:
    """The vocabulary as llguidance wants it; it never has to tokenize here."""

    tokens = [p if p else b"\xff<" + str(i).encode() + b">" for i, p in enumerate(pieces)]
    special_token_ids = [i for i, p in enumerate(pieces) if not p]
    eos_token_id = end
    bos_token_id = None

    def __call__(self, text):
        return [0]


def timed(f, *args):
    begin = time.perf_counter_ns()
    result = f(*args)
    return time.perf_counter_ns() - begin, result


rows = {"slmd check": [], "slmd step": [], "slmd mask": [], "llguidance": [], "xgrammar": []}
compiling = {"slmd": [], "llguidance": [], "xgrammar": []}
tokenizer = llguidance.LLTokenizer(llguidance.TokenizerWrapper(Words()))
information = xgrammar.TokenizerInfo(pieces, vocab_type=xgrammar.VocabType.RAW, vocab_size=len(pieces), stop_token_ids=[end])
compiler = xgrammar.GrammarCompiler(information, max_threads=1, cache_enabled=False)
mask = llguidance.numpy.allocate_token_bitmask(1, len(pieces))
other = np.zeros((1, (len(pieces) + 31) // 32), dtype=np.int32)
refused = {"llguidance": 0, "xgrammar": 0}
for (schema, _, _), our in zip(cases, ours):
    compiling["slmd"].append(our["compile_ns"])
    for name in ("check", "step", "mask"):
        rows["slmd " + name] += our[name]
    flat = dict(schema, **{"x-guidance": {"whitespace_flexible": False}})
    ns, matcher = timed(lambda: llguidance.LLMatcher(tokenizer, llguidance.LLMatcher.grammar_from_json_schema(json.dumps(flat))))
    compiling["llguidance"].append(ns)
    for token in our["tokens"]:
        ns, _ = timed(llguidance.numpy.fill_next_token_bitmask, matcher, mask)
        rows["llguidance"].append(ns)
        if not matcher.consume_token(token):
            refused["llguidance"] += 1
            break
    ns, grammar = timed(lambda: compiler.compile_json_schema(json.dumps(schema), any_whitespace=False, separators=(",", ":")))
    compiling["xgrammar"].append(ns)
    matcher = xgrammar.GrammarMatcher(grammar)
    for token in our["tokens"]:
        ns, _ = timed(matcher.fill_next_token_bitmask, other)
        rows["xgrammar"].append(ns)
        if not matcher.accept_token(token):
            refused["xgrammar"] += 1
            break


def percentile(values, p):
    return sorted(values)[min(len(values) - 1, int(len(values) * p))]


made = bench("passes")
total = {k: sum(x[k] for x in made) for k in made[0]}
print(f"passes: {total['passes']} for {total['tokens']} tokens, {total['passes'] / total['tokens']:.2f} of those of free decoding; {sum(x['passes'] * 2 <= x['tokens'] for x in made)} of {len(made)} forms "
      f"in half of them or less; {total['right']} of {total['guesses']} guesses right")
print(f"{len(cases)} schemas, {sum(len(x['tokens']) for x in ours)} tokens, vocabulary of {len(pieces)}; texts that a peer refused: {refused}")
print("us a token           median      99 %   of llguidance's    of xgrammar's")
for name, values in rows.items():
    median, high = statistics.median(values), percentile(values, 0.99)
    ratios = "".join(f"   {median / statistics.median(rows[p]):7.3f} {high / percentile(rows[p], 0.99):7.3f}" for p in ("llguidance", "xgrammar"))
    print(f"{name:15} {median / 1000:11.2f} {high / 1000:9.2f}{ratios}")
print("ms to compile        median      99 %")
for name, values in compiling.items():
    print(f"{name:15} {statistics.median(values) / 1e6:11.3f} {percentile(values, 0.99) / 1e6:9.3f}")
