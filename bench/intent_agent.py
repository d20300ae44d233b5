#!/usr/bin/env python3
"""An agent that classifies, as slmd runs it, with an adapter of its own or without: accuracy, how sure it is, what it knows not to be its business, and its rate.

  intent_agent.py BASE AGENT.toml LINES [--adapter IMAGE] [--calibrate N] [--with NAME] [--limit N] [--build FOLDER] [--keep FILE] [-- ARGUMENTS of slmd]

BASE: an image. --adapter IMAGE: goes by the agent's name. LINES: the folder of `intents.py ... --lines`. The agent is calibrated by slmctl with every so-manieth line of NAME.jsonl (calibrate; N in all, 1,100), and with the
same lines the threshold is chosen below which an answer counts as "none": the one with the largest sum of accuracy within scope and recall out of scope. Then test.jsonl is asked, or about N of
its lines. --keep FILE: a line for each of those, with its answer.
"""
import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from wire import Client, Slmd

parser = argparse.ArgumentParser(usage=__doc__)
for name in ("base", "agent", "lines"):
    parser.add_argument(name)
parser.add_argument("--adapter")
parser.add_argument("--calibrate", type=int, default=1100)
parser.add_argument("--with", dest="part", default="calibrate")
parser.add_argument("--limit", type=int, default=1 << 30)
parser.add_argument("--build", default=str(pathlib.Path(__file__).parent / "../build/release"))
parser.add_argument("--keep")
end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
o = parser.parse_args(sys.argv[1:end])
name = pathlib.Path(o.agent).stem


def lines_of(part, most):
    all_of_them = [json.loads(line) for line in (pathlib.Path(o.lines) / f"{part}.jsonl").open(encoding="utf-8")]
    return all_of_them[:: max(1, len(all_of_them) // most)]


def ask(client, lines):
    out = []
    for line in lines:
        begin = time.perf_counter()
        r = client.call("run", agent=name, input=line["input"])
        out.append({**line, "answer": r["label"], "confidence": r["confidence"], "calibrated": r["calibrated"], "ms": (time.perf_counter() - begin) * 1000, "tokens": r["prompt_tokens"]})
    return out


def scores(asked, threshold):
    """Accuracy within scope as the labels are and with the threshold, recall out of scope."""
    inside, outside = [a for a in asked if a["output"] != "none"], [a for a in asked if a["output"] == "none"]
    right = lambda a: a["answer"] == a["output"]
    return (
        sum(map(right, inside)) / len(inside),
        sum(right(a) and a["confidence"] >= threshold for a in inside) / len(inside),
        sum(a["answer"] == "none" or a["confidence"] < threshold for a in outside) / max(1, len(outside)),
    )


def ece(asked):
    bins = [[] for _ in range(10)]
    for a in asked:
        bins[min(9, int(a["confidence"] * 10))].append(a)
    return sum(abs(sum((a["answer"] == a["output"]) - a["confidence"] for a in b)) for b in bins) / len(asked)


def auroc(asked):
    """How well being sure tells what is in scope from what is not; "none" is sure of the latter."""
    told = sorted((0 if a["answer"] == "none" else a["confidence"], a["output"] != "none") for a in asked)
    inside, below, area, i = sum(x[1] for x in told), 0, 0.0, 0
    while i < len(told):
        j = i
        while j < len(told) and told[j][0] == told[i][0]:
            j += 1
        good = sum(x[1] for x in told[i:j])
        area += good * (below + (j - i - good) / 2)
        below += j - i - good
        i = j
    return area / max(1, inside * (len(told) - inside))


def say(what, asked):
    inside = [a for a in asked if a["output"] != "none"]
    print(f"{what}: {len(asked)} lines, accuracy within scope {scores(asked, 0)[0]:.4f}, out of scope called so {scores(asked, 0)[2]:.3f}, AUROC {auroc(asked):.4f}, "
          f"calibration error {ece(asked):.4f} (within scope {ece(inside):.4f})", flush=True)


with tempfile.TemporaryDirectory() as folder:
    shutil.copy(o.agent, folder)
    part = os.path.join(folder, "calibrate.jsonl")
    chosen = lines_of(o.part, o.calibrate)
    pathlib.Path(part).write_text("".join(json.dumps(c) + "\n" for c in chosen))
    arguments = [*(["--adapter", f"{name}={o.adapter}"] if o.adapter else []), "--agents", folder, *sys.argv[end + 1 :]]
    with Slmd(os.path.join(o.build, "runtime/daemon/slmd"), o.base, 1, arguments) as slmd:
        subprocess.run([os.path.join(o.build, "runtime/client/slmctl"), "--socket", slmd.path, "calibrate", name, part], check=True)
    with Slmd(os.path.join(o.build, "runtime/daemon/slmd"), o.base, 1, arguments) as slmd:
        client = Client(slmd.path)
        known = ask(client, chosen)
        if not all(a["calibrated"] for a in known):
            raise SystemExit("the calibration was not taken")
        threshold = max(sorted({a["confidence"] for a in known}), key=lambda t: sum(scores(known, t)[1:]))
        say("calibrated with", known)
        lines = lines_of("test", o.limit)
        begin = time.perf_counter()
        asked = ask(client, lines)
        seconds = time.perf_counter() - begin
    if o.keep:
        pathlib.Path(o.keep).write_text("".join(json.dumps(a) + "\n" for a in asked))
    say("test", asked)
    _, inside, outside = scores(asked, threshold)
    ms = sorted(a["ms"] for a in asked)
    print(f"threshold {threshold:.3f}: accuracy within scope {inside:.4f}, recall out of scope {outside:.3f}\n"
          f"{len(asked) / seconds:.1f} requests/s, median {ms[len(ms) // 2]:.0f} ms, 95 % {ms[len(ms) * 95 // 100]:.0f} ms, {statistics.mean(a['tokens'] for a in asked):.0f} prompt tokens")
