#!/usr/bin/env python3
"""Accuracy and rate of the verb CLS on a labelled file (bench/intents.py makes them), asked of a real slmd over its socket.

  classify.py IMAGE TASK.tsv [--prompt FILE] [--raw] [--limit N] [--clients N] [--neutral TEXT] [--first N] [--slmd PROGRAM] [-- ARGUMENTS of slmd]

--prompt FILE: a text with {text}, and perhaps {label} at its end, as slmpack eval --task has it; what stands before {label} is the prompt. Without it: the list of labels, then the text.
--raw: no chat template; the labels then begin with the space that stood before {label}.
--limit N: every n-th line, so that about N are asked, all labels among them.
--clients N: connections that ask at once; slmd gets as many slots.
--neutral TEXT: contextual calibration (Zhao et al. 2021, arXiv 2102.09690): what each label gets for TEXT ("N/A") is divided out, as priors. At most 16 labels.
--first N: only the first N labels are scored, of the same prompts: what labels cost. There is no accuracy then.

Prints accuracy with its standard error, the expected calibration error (10 bins), requests a second, milliseconds of a request as the client sees them, and slmd's CPU
time a request.
"""
import argparse
import math
import os
import pathlib
import statistics
import sys
import threading
import time

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
parser.add_argument("--slmd", default=str(pathlib.Path(__file__).parent / "../build/release/runtime/daemon/slmd"))
end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
o = parser.parse_args(sys.argv[1:end])
arguments = sys.argv[end + 1 :]

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


def run(path, which, out, more):
    client = Client(path)
    for text, label in which:
        begin = time.perf_counter()
        r = classify(client, text, **more)
        out.append((r["label"] == label, r["probability"], time.perf_counter() - begin, r["prompt_tokens"]))


with Slmd(o.slmd, o.image, o.clients, arguments) as slmd:
    path, pid = slmd.path, slmd.process.pid
    more = {}
    if o.neutral is not None:
        got = classify(Client(path), o.neutral, top=len(labels))
        of = {x["label"].strip(): x["probability"] for x in got["labels"]}
        more["priors"] = [1 / max(of[label], 1e-6) for label in labels]
    classify(Client(path), lines[0][0], **more)  # what all prompts begin with is in the cache from here on
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
