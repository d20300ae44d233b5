#!/usr/bin/env python3
"""Instructions that a request to an agent takes on an ARM core: slmd under QEMU, counted exactly, on one thread. No board is needed.

  instructions.py IMAGE AGENT.toml LINES [--requests N] [--cpu CPU] [--build build/arm64] [--plugin insncount.c] [-- ARGUMENTS of slmd]

LINES: JSON lines with "input"; N of them (8), evenly spread, are asked. The count is the difference of two runs, one of which asks two of them and the other the N behind those
as well, so that the start and what is computed once cancel out. Needs the build arm64 of slmd (cmake --preset arm64; cmake --build --preset arm64 --target slmd), what its tests
need, and the Debian packages gcc and qemu-user (not qemu-user-static: it takes no plugins).
"""
import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from wire import Client, Slmd

ROOT = pathlib.Path(__file__).resolve().parent.parent
parser = argparse.ArgumentParser(usage=__doc__)
for name in ("image", "agent", "lines"):
    parser.add_argument(name)
parser.add_argument("--requests", type=int, default=8)
parser.add_argument("--cpu", default="cortex-a53")
parser.add_argument("--build", default=str(ROOT / "build/arm64"))
parser.add_argument("--plugin", default=str(ROOT / "../shared/tools/insncount/insncount.c"))
end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
o = parser.parse_args(sys.argv[1:end])


def count(folder, inputs):
    """Instructions of a run, and the replies."""
    out, agents = os.path.join(folder, "count"), os.path.join(folder, "agents")
    arguments = ["--threads", "1", "--agents", agents, *sys.argv[end + 1 :]]
    program = ["qemu-aarch64", "-cpu", o.cpu, "-plugin", f"{folder}/insncount.so,out={out}", os.path.join(o.build, "runtime/daemon/slmd")]
    with Slmd(program, o.image, 1, arguments) as slmd:
        client = Client(slmd.path)
        replies = [client.call("run", agent=pathlib.Path(o.agent).stem, input=text) for text in inputs]
    return int(pathlib.Path(out).read_text().split()[1]), replies


with tempfile.TemporaryDirectory() as folder:
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", f"{folder}/insncount.so", o.plugin], check=True)
    os.mkdir(os.path.join(folder, "agents"))
    shutil.copy(o.agent, os.path.join(folder, "agents"))
    lines = [json.loads(line)["input"] for line in open(o.lines, encoding="utf-8")]
    chosen = lines[:: max(1, len(lines) // (o.requests + 2))][: o.requests + 2]
    less, _ = count(folder, chosen[:2])
    more, replies = count(folder, chosen)
    tokens = sum(r["prompt_tokens"] for r in replies[2:]) / o.requests
    print(f"{o.cpu}: {(more - less) / o.requests / 1e6:.1f} million instructions a request, {o.requests} requests, {tokens:.1f} tokens of prompt each; "
          f"{less / 1e6:.0f} million in all for the start and the first two")
