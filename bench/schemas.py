#!/usr/bin/env python3
"""Does what a model writes under a schema always parse and obey it? Answers drawn hot, cut short anywhere, judged by python-jsonschema.

  schemas.py IMAGE FUNCTIONS [--answers N] [--temp T] [--seed N] [--slmd PROGRAM] [-- ARGUMENTS of slmd]

FUNCTIONS: a folder with BFCL's files (BFCL_v4_*.json): 200 different parameter lists of real functions are the schemas, and beside the plain prompt "Call ..." nothing tells the
model what is wanted. The limit of each answer is random, from the shortest that slmd accepts to 80 tokens more.

Prints how many answers parse, obey their schema, name no property twice, ended by themselves or were cut short; forward passes are the tokens that were not forced.
"""
import argparse
import json
import os
import pathlib
import random
import re
import socket
import subprocess
import sys
import tempfile
import time

from functions import convert
from jsonschema import Draft202012Validator

parser = argparse.ArgumentParser(usage=__doc__)
parser.add_argument("image")
parser.add_argument("functions")
parser.add_argument("--answers", type=int, default=5000)
parser.add_argument("--temp", type=float, default=1.5)
parser.add_argument("--seed", type=int, default=1)
parser.add_argument("--slmd", default=str(pathlib.Path(__file__).parent / "../build/release/runtime/daemon/slmd"))
end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
o = parser.parse_args(sys.argv[1:end])
random.seed(o.seed)


cases = []
for file in sorted(pathlib.Path(o.functions).glob("BFCL_v4_*.json")):
    for line in file.open(encoding="utf-8"):
        for f in json.loads(line)["function"]:
            schema = convert(f["parameters"])
            if schema not in [c[1] for c in cases]:
                cases.append((f"Call {f['name']}. {f['description']} Give an example of its parameters as JSON.", schema))
random.shuffle(cases)
cases = cases[:200]
validators = [Draft202012Validator(schema) for _, schema in cases]


def once(pairs):
    if len({k for k, _ in pairs}) != len(pairs):
        raise ValueError("a name is there twice")
    return dict(pairs)


with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "slmd.sock")
    slmd = subprocess.Popen([o.slmd, "--model", o.image, "--socket", path, *sys.argv[end + 1 :]], stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            try:
                s = socket.socket(socket.AF_UNIX)
                s.connect(path)
                break
            except OSError:
                time.sleep(0.1)
        wire = s.makefile("rw", encoding="utf-8")

        def call(method, **params):
            wire.write(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}) + "\n")
            wire.flush()
            return json.loads(wire.readline())

        while call("stat")["result"]["loading"] < 100:
            time.sleep(0.2)
        # The least limit that each schema takes, found by halving.
        shortest = []
        for prompt, schema in cases:
            low, high = 1, 256
            while low < high:
                middle = (low + high) // 2
                r = call("gen", prompt="x", raw=True, schema=schema, max=middle)
                if "error" in r and not re.search("shortest answer", r["error"]["message"]):
                    sys.exit(f"{json.dumps(schema)}: {r['error']['message']}")
                low, high = (middle + 1, high) if "error" in r else (low, middle)
            shortest.append(low)
        good = cut = tokens = 0
        bad = []
        begin = time.time()
        for i in range(o.answers):
            k = i % len(cases)
            r = call("gen", prompt=cases[k][0], schema=cases[k][1], temp=o.temp, topp=1, minp=0, topk=0, seed=i, max=shortest[k] + random.randrange(81))
            if "error" in r:
                bad.append((k, r["error"]["message"]))
                continue
            result = r["result"]
            tokens += result["tokens"]
            cut += result["finish"] == "length"
            try:
                validators[k].validate(json.loads(result["text"], object_pairs_hook=once))
                good += 1
            except Exception as e:  # noqa: BLE001
                bad.append((k, f"{result['text']}: {str(e).splitlines()[0]}"))
        for k, what in bad[:10]:
            print(json.dumps(cases[k][1]), what, sep="\n  ")
        print(f"{o.answers} answers at temperature {o.temp} under {len(cases)} schemas: {good} parse and obey, {len(bad)} do not; {cut} were cut short; {tokens / o.answers:.1f} tokens an answer, "
              f"{o.answers / (time.time() - begin):.1f} answers/s")
    finally:
        slmd.terminate()
        slmd.wait()
