#!/usr/bin/env python3
"""Holds the checks to documents whose fields are known: right fields pass all of them, planted errors fail one.

    evidence.py AGENT_EXAMINE [COUNT [SEED]]

At least 95 of 100 planted contradictions must be caught. Errors that contradict nothing are counted, and nothing is asked of them.
"""
import collections
import json
import pathlib
import subprocess
import sys

sys.dont_write_bytecode = True
import documents  # noqa: E402

program, count = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 400
cases = []  # (what, fields, text, kind, plausible); of right fields what is None
for d in documents.documents(count, int(sys.argv[3]) if len(sys.argv) > 3 else 1):
    cases.append((None, d["fields"], d["text"], d["kind"], False))
    cases += [(p["what"], p["fields"], p.get("text", d["text"]), d["kind"], p.get("plausible", False)) for p in d["planted"]]
lines = [json.dumps({"checks": kind + ".toml", "answer": json.dumps(fields, ensure_ascii=False), "source": text}) for _, fields, text, kind, _ in cases]
ran = subprocess.run([program, str(pathlib.Path(__file__).parent / "documents")], input="\n".join(lines) + "\n", capture_output=True, text=True, encoding="utf-8")
if ran.returncode != 0:
    sys.exit("agent_examine: " + ran.stderr)
results = [json.loads(line) for line in ran.stdout.splitlines()]
assert len(results) == len(cases)

wrong = 0
planted, caught, by = collections.Counter(), collections.Counter(), collections.Counter()
for (what, fields, text, kind, plausible), findings in zip(cases, results):
    if what is None:
        bad = [f for f in findings if f[1] != "pass"]
        if bad:
            wrong += 1
            print("right, but refused:", kind, bad, json.dumps(fields, ensure_ascii=False), text, sep="\n  ")
        continue
    failed = [f[0] for f in findings if f[1] == "fail"]
    key = (plausible, kind, what)
    planted[key] += 1
    caught[key] += bool(failed)
    if len(failed) == 1:
        by[failed[0].split()[0]] += 1

for plausible in (False, True):
    print("plausible errors" if plausible else "contradictions")
    for key in sorted(k for k in planted if k[0] == plausible):
        print("  %4d of %4d  %s: %s" % (caught[key], planted[key], key[1], key[2]))
total = {p: sum(n for k, n in planted.items() if k[0] == p) for p in (False, True)}
found = {p: sum(n for k, n in caught.items() if k[0] == p) for p in (False, True)}
print("caught by one check only:", ", ".join("%s %d" % x for x in by.most_common()))
print("%d documents, %d of them refused though right" % (count, wrong))
print("contradictions: %d of %d caught, %.1f %%" % (found[False], total[False], 100 * found[False] / total[False]))
print("plausible errors: %d of %d caught" % (found[True], total[True]))
sys.exit(0 if wrong == 0 and total[False] >= count and found[False] >= 0.95 * total[False] else 1)
