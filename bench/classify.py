#!/usr/bin/env python3
"""Accuracy and rate of the verb CLS on a labelled file (bench/intents.py makes them), asked of a real slmd over its socket.

  classify.py IMAGE TASK.tsv [--prompt FILE] [--raw] [--limit N] [--clients N] [--neutral TEXT] [--first N] [--slmd PROGRAM]
              [--peer GGUF --python PYTHON [--threads N]] [-- ARGUMENTS of slmd]

--prompt FILE: a text with {text}, and perhaps {label} at its end, as slmpack eval --task has it; what stands before {label} is the prompt. Without it: the list of labels, then the text.
--raw: no chat template; the labels then begin with the space that stood before {label}.
--limit N: every n-th line, so that about N are asked, all labels among them.
--clients N: connections that ask at once; slmd gets as many slots.
--neutral TEXT: contextual calibration (Zhao et al. 2021, arXiv 2102.09690): what each label gets for TEXT ("N/A") is divided out, as priors. At most 16 labels.
--first N: only the first N labels are scored, of the same prompts: what labels cost. There is no accuracy then.
--peer GGUF: llama.cpp's server with that file writes the label of the same prompt, greedily, under a grammar of the labels and with its cache of prompts; each line is
asked of both, one behind the other. --python PYTHON: one that has the package xllamacpp. --threads N: of each.

Prints accuracy with its standard error, the expected calibration error (10 bins), requests a second, milliseconds of a request as the client sees them, and slmd's CPU
time a request.
"""
import argparse
import json
import math
import os
import pathlib
import statistics
import sys
import threading
import time

from peer import Peer
from wire import Client, Slmd

parser = argparse.ArgumentParser(usage=__doc__)
parser.add_argument("image")
parser.add_argument("task")
parser.add_argument("--prompt")
parser.add_argument("--raw", action="store_true")
parser.add_argument("--limit", type=int, default=1 << 30)
parser.add_argument("--clients", type=int, default=1)
parser.add_argument("--neutral")
parser.add_argument("--first", type=int)
parser.add_argument("--peer")
parser.add_argument("--python", default=sys.executable)
parser.add_argument("--threads", type=int, default=os.cpu_count())
parser.add_argument("--slmd", default=str(pathlib.Path(__file__).parent / "../build/release/runtime/daemon/slmd"))
end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
o = parser.parse_args(sys.argv[1:end])
arguments = ["--threads", str(o.threads), *sys.argv[end + 1 :]]

lines = [line.split("\t") for line in pathlib.Path(o.task).read_text(encoding="utf-8").splitlines()]
labels = sorted({label for _, label in lines})
step = max(1, len(lines) // o.limit)
lines = lines[::step]
template = pathlib.Path(o.prompt).read_text(encoding="utf-8") if o.prompt else "Intents: " + ", ".join(labels) + "\n\nText: {text}\n\nWhich intent has the text? Answer with the intent alone."
before = template.split("{label}")[0]
lead = " " if o.raw and before.endswith(" ") else ""
before = before.rstrip(" \n") if "{label}" in template or not o.raw else before


def classify(client, text, **more):
    r = client.call("cls", prompt=before.replace("{text}", text), labels=[lead + label for label in labels[: o.first]], raw=o.raw, **more)
    r["label"] = r["label"].strip()
    return r


def cpu_ms(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")


def one(client, text, label, **more):
    begin = time.perf_counter()
    r = classify(client, text, **more)
    return (r["label"] == label, r["probability"], time.perf_counter() - begin, r["prompt_tokens"])


def run(path, which, out, more):
    client = Client(path)
    out += [one(client, text, label, **more) for text, label in which]


GRAMMAR = "root ::= " + " | ".join(json.dumps(lead + label) for label in labels)


def one_of_peer(peer, text, label):
    prompt, same = before.replace("{text}", text), {"grammar": GRAMMAR, "temperature": 0, "max_tokens": 32, "n_predict": 32, "cache_prompt": True}
    begin = time.perf_counter()
    if o.raw:
        said = peer.call("/completion", {"prompt": prompt, **same})["content"]
    else:
        said = peer.call("/v1/chat/completions", {"messages": [{"role": "user", "content": prompt}], **same})["choices"][0]["message"]["content"]
    return (said.strip() == label, time.perf_counter() - begin)


def row(name, right, seconds, more=""):
    n, times = len(right), sorted(s * 1000 for s in seconds)
    p = sum(right) / n
    print(f"{name}: {n} lines, accuracy {p:.3f} +- {math.sqrt(p * (1 - p) / n):.3f}, {n / sum(seconds):.2f} requests/s, median {times[n // 2]:.0f} ms, 95 % {times[n * 95 // 100]:.0f} ms{more}", flush=True)


with Slmd(o.slmd, o.image, o.clients, arguments) as slmd:
    path, pid = slmd.path, slmd.process.pid
    more = {}
    if o.neutral is not None:
        got = classify(Client(path), o.neutral, top=len(labels))
        of = {x["label"].strip(): x["probability"] for x in got["labels"]}
        more["priors"] = [1 / max(of[label], 1e-6) for label in labels]
    classify(Client(path), lines[0][0], **more)  # what all prompts begin with is in the cache from here on
    if o.peer:
        ours, theirs, client = [], [], Client(path)
        with Peer(o.python, o.peer, o.threads) as peer:
            one_of_peer(peer, *lines[0])
            for line in lines:
                ours.append(one(client, *line, **more))
                theirs.append(one_of_peer(peer, *line))
        row(os.path.basename(o.image), [x[0] for x in ours], [x[2] for x in ours], f", {statistics.mean(x[3] for x in ours):.0f} prompt tokens")
        row("llama.cpp, " + os.path.basename(o.peer), [x[0] for x in theirs], [x[1] for x in theirs])
        median = [statistics.median(x) for x in ([x[2] for x in ours], [x[1] for x in theirs])]
        print(f"throughput {sum(x[1] for x in theirs) / sum(x[2] for x in ours):.2f} times the peer's, median {median[0] / median[1]:.2f} of its; "
              f"right here alone {sum(a[0] and not b[0] for a, b in zip(ours, theirs))}, there alone {sum(b[0] and not a[0] for a, b in zip(ours, theirs))}")
        sys.exit()
    results = [[] for _ in range(o.clients)]
    threads = [threading.Thread(target=run, args=(path, lines[i :: o.clients], results[i], more)) for i in range(o.clients)]
    begin, before_ms = time.perf_counter(), cpu_ms(pid)
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    seconds, cpu = time.perf_counter() - begin, cpu_ms(pid) - before_ms

all_of_them = [x for r in results for x in r]
n = len(all_of_them)
right = sum(x[0] for x in all_of_them) / n
bins = [[] for _ in range(10)]
for good, probability, _, _ in all_of_them:
    bins[min(9, int(probability * 10))].append((good, probability))
ece = sum(abs(sum(g for g, _ in b) - sum(p for _, p in b)) for b in bins) / n
times = sorted(x[2] * 1000 for x in all_of_them)
print(f"{os.path.basename(o.image)}: {n} lines, {len(labels[: o.first])} labels, {statistics.mean(x[3] for x in all_of_them):.0f} prompt tokens: "
      + ("" if o.first else f"accuracy {right:.3f} +- {math.sqrt(right * (1 - right) / n):.3f}, calibration error {ece:.3f}, ")
      + f"{n / seconds:.1f} requests/s, median {times[n // 2]:.0f} ms, 95 % {times[n * 95 // 100]:.0f} ms, CPU {cpu / n:.0f} ms")
