#!/usr/bin/env python3
"""Accuracy of the parameter `tools` on BFCL's files (Patil et al., ICML 2025), asked of a real slmd over its socket.

  tools.py IMAGE FOLDER [--categories NAMES] [--limit N] [--first N] [--choice CHOICE] [--doubt P] [--wrong FILE] [--slmd PROGRAM]
           [--peer GGUF --python PYTHON [--threads N]] [-- ARGUMENTS of slmd]

FOLDER has BFCL_v4_NAME.json and possible_answer/BFCL_v4_NAME.json.
--categories NAMES: with commas between; simple_python,multiple,irrelevance without it.
--limit N: every n-th line, so that about N of each are asked.
--first N: the first of them.
--choice CHOICE: the parameter tool_choice.
--doubt P: the setting; doubtful calls are not made.
--wrong FILE: what was wrong, a line each: for reading.
--peer GGUF: llama.cpp's server with that file is asked the same lines, one behind the other, unconstrained: the file's own chat template tells of the tools, the answer is
greedy and free. Whatever can be read as calls of it counts: <tool_call>, a fence, or JSON alone, with "arguments" or "parameters". --python PYTHON: one that has the package
xllamacpp. --threads N: of each.

A call is right as BFCL's ast_checker has it: the name, no parameter that is not there, none missing that must be there, types, and each value one of those accepted, texts without
regard to case, spaces and ,./-_*^. Of irrelevance, no call is right. Prints accuracy with its standard error, answers that called or did not call where the other was right, and
milliseconds of a request as the client sees them.
"""
import argparse
import contextlib
import json
import math
import os
import pathlib
import re
import statistics
import sys
import time

import functions
from peer import Peer
from wire import Client, Slmd

def plain(value):
    if isinstance(value, str):
        return re.sub(r"[ ,./\-_*^]", "", value).lower().replace("'", '"')
    if isinstance(value, list):
        return [plain(v) for v in value]
    return value


def same(value, accepted, kind):
    """Whether a value is one of those accepted; kind: BFCL's schema of it."""
    of = kind.get("type")
    if of == "float" and type(value) is int:
        value = float(value)
    python = {"integer": int, "float": float, "string": str, "boolean": bool, "array": list, "tuple": list, "dict": dict}.get(of)
    if python is not None and type(value) is not python:
        return False
    if of == "dict":
        return any(isinstance(a, dict) and fits(value, a, kind.get("properties", {})) for a in accepted)
    if isinstance(value, list) and kind.get("items", {}).get("type") == "dict":
        return any(isinstance(a, list) and len(a) == len(value)
                   and all(fits(v, b, kind["items"].get("properties", {})) for v, b in zip(value, a)) for a in accepted)
    return plain(value) in [plain(a) for a in accepted]


def fits(arguments, accepted, kinds, required=()):
    if not all(k in accepted and k in kinds for k in arguments) or not all(k in arguments for k in required):
        return False
    if not all(k in arguments or "" in v for k, v in accepted.items()):
        return False
    return all(same(v, accepted[k], kinds[k]) for k, v in arguments.items())


def right(line, calls, truth):
    """truth: a list of {name: {parameter: [accepted ...]}}; None: no call is right."""
    if truth is None:
        return not calls
    if len(calls) != len(truth):
        return False
    (name, accepted), = truth[0].items()
    function = next(f for f in line["function"] if f["name"] == name)["parameters"]
    return calls[0]["name"] == name and fits(calls[0]["arguments"], accepted, function["properties"], function.get("required", []))


def read(folder, category, limit, first=0):
    name = f"BFCL_v4_{category}.json"
    lines = [json.loads(line) for line in (folder / name).open(encoding="utf-8")]
    answers = folder / "possible_answer" / name
    truth = {a["id"]: a["ground_truth"] for a in map(json.loads, answers.open(encoding="utf-8"))} if answers.exists() else {}
    return [(line, truth.get(line["id"])) for line in lines[first :: max(1, len(lines) // limit)]]


def tools_of(line):
    return [{"type": "function", "function": f | {"parameters": functions.convert(f["parameters"], functions.TOLD)}} for f in line["function"]]


class Tally:
    def __init__(self, name):
        self.name, self.good, self.called, self.refused, self.times = name, [], 0, 0, []

    def add(self, line, calls, truth, seconds, out=None):
        """calls, or an error's text."""
        self.times.append(seconds * 1000)
        if isinstance(calls, str):
            self.refused += 1
        else:
            self.called += bool(calls)
        self.good.append(not isinstance(calls, str) and right(line, calls, truth))
        if out and not self.good[-1]:
            print(json.dumps([self.name, line["id"], line["question"][0][-1]["content"], [f["name"] for f in line["function"]], calls, truth]), file=out, flush=True)

    def __str__(self):
        n, times = len(self.good), sorted(self.times)
        p = sum(self.good) / n
        return (f"{self.name}: {n} lines, accuracy {p:.3f} +- {math.sqrt(p * (1 - p) / n):.3f}, called in {self.called / n:.3f}, {self.refused} errors, "
                f"median {times[n // 2]:.0f} ms, 95 % {times[n * 95 // 100]:.0f} ms")


def calls_in(text):
    """What can be read as calls in a free answer."""
    found = re.findall(r"<tool_call>(.*?)(?:</tool_call>|$)", text, re.S) or re.findall(r"```(?:json)?\n(.*?)(?:```|$)", text, re.S) or [text]
    calls = []
    for piece in found:
        start = re.search(r"[\[{]", piece)
        try:
            value = json.JSONDecoder().raw_decode(piece[start.start():])[0] if start else []
        except ValueError:
            continue
        for c in value if isinstance(value, list) else [value]:
            arguments = c.get("arguments", c.get("parameters")) if isinstance(c, dict) else None
            if isinstance(arguments, dict) and isinstance(c.get("name"), str):
                calls.append({"name": c["name"], "arguments": arguments})
    return calls


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("image")
    parser.add_argument("folder")
    parser.add_argument("--categories", default="simple_python,multiple,irrelevance")
    parser.add_argument("--limit", type=int, default=1 << 30)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--choice")
    parser.add_argument("--doubt", type=float, default=0)
    parser.add_argument("--wrong")
    parser.add_argument("--peer")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--slmd", default=str(pathlib.Path(__file__).parent / "../build/release/runtime/daemon/slmd"))
    end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    o = parser.parse_args(sys.argv[1:end])
    more = ({"tool_choice": o.choice} if o.choice else {}) | {"doubt": o.doubt}

    def ask(client, line):
        begin = time.perf_counter()
        reply = client.reply("gen", prompt=line["question"][0][-1]["content"], tools=tools_of(line), temp=0, max=400, **more)
        if "error" in reply:
            return reply["error"]["message"], time.perf_counter() - begin
        result = reply["result"]
        return [] if result.get("doubtful") else result.get("calls", []), time.perf_counter() - begin

    def ask_peer(peer, line):
        begin = time.perf_counter()
        prompt = peer.call("/apply-template", {"messages": [{"role": "user", "content": line["question"][0][-1]["content"]}], "tools": tools_of(line)})["prompt"]
        said = peer.call("/completion", {"prompt": prompt, "temperature": 0, "n_predict": 400, "cache_prompt": True})["content"]
        return calls_in(said), time.perf_counter() - begin

    beside = Peer(o.python, o.peer, o.threads) if o.peer else contextlib.nullcontext()
    with Slmd(o.slmd, o.image, 1, ["--threads", str(o.threads), *sys.argv[end + 1 :]]) as slmd, beside as peer:
        client = Client(slmd.path)
        out = open(o.wrong, "w", encoding="utf-8") if o.wrong else None
        for category in o.categories.split(","):
            ours, theirs = Tally(category), Tally(f"{category}, llama.cpp unconstrained")
            for line, truth in read(pathlib.Path(o.folder), category, o.limit, o.first):
                calls, seconds = ask(client, line)
                ours.add(line, calls, truth, seconds, out)
                if peer:
                    calls, seconds = ask_peer(peer, line)
                    theirs.add(line, calls, truth, seconds, out)
            print(ours, flush=True)
            if peer:
                print(theirs, flush=True)
                print(f"right here alone {sum(a and not b for a, b in zip(ours.good, theirs.good))}, there alone {sum(b and not a for a, b in zip(ours.good, theirs.good))}, "
                      f"median time {statistics.median(ours.times) / statistics.median(theirs.times):.2f} of the peer's", flush=True)


if __name__ == "__main__":
    main()
