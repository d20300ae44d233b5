#!/usr/bin/env python3
"""Questions to documents: what is found by words, by meaning and by both; which answers are right, and cited rightly; what is refused.

  bench/ask.py --text wiki.test.raw --image MODEL.slm --encoder ENCODER.slm [--hold 3] [--count 100] [--slmd ...] [--slmctl ...]

The text is WikiText-2's test part. Its articles become Markdown files, which slmctl docs add gives to a slmd of its own, three of four; the questions are made by
rule (ask_questions.py), `count` that the documents answer and `count` that they do not: half of these about articles that are held out, half of the same
questions asked as if they were of an article that is there. Prints tables in Markdown."""
import argparse
import collections
import os
import re
import statistics
import subprocess
import tempfile
import time

import ask_questions
import machine
from wire import Client, Slmd

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.path.join(HERE, "..", "build", "release", "runtime")
a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
a.add_argument("--text", required=True)
a.add_argument("--image", required=True)
a.add_argument("--encoder", required=True)
a.add_argument("--hold", type=int, default=3, help="which article of four is held out, 0 to 3")
a.add_argument("--count", type=int, default=100)
a.add_argument("--slmd", default=os.path.join(BUILD, "daemon", "slmd"))
a.add_argument("--slmctl", default=os.path.join(BUILD, "client", "slmctl"))
o = a.parse_args()

kept, answerable, unanswerable = ask_questions.sets(open(o.text, encoding="utf-8").read(), o.count, o.hold)


def is_of(question, text):
    """The sentence that it was made of, or the part of it that is there, with the answer."""
    whole = re.sub(r"\s+", " ", text)
    sentence = re.sub(r"\s+", " ", question["sentence"])
    return question["answer"] in whole and (sentence in whole or sentence[:40] in whole or whole[:40] in sentence)


def percent(n, of):
    return f"{100 * n / of:.0f} %" if of else "-"


with tempfile.TemporaryDirectory() as folder:
    state, files = os.path.join(folder, "state"), []
    os.mkdir(state)
    for i, (title, body) in enumerate(kept):
        files.append(os.path.join(folder, f"{i:03}.md"))
        with open(files[-1], "w", encoding="utf-8") as f:
            f.write(ask_questions.markdown(title, body))
    config = os.path.join(folder, "slmd.toml")
    with open(config, "w", encoding="utf-8") as f:
        f.write(f'state = "{state}"\n[embed]\nmodel = "{os.path.abspath(o.encoder)}"\n[limits]\npassages = 20000\n[socket]\ntrusted = true\n')
    with Slmd(o.slmd, o.image, 2, ["--config", config]) as slmd:
        begin = time.perf_counter()
        subprocess.run([o.slmctl, "-s", slmd.path, "docs", "add", *files], check=True, stdout=subprocess.DEVNULL)
        added = time.perf_counter() - begin
        client = Client(slmd.path)

        def documents():
            found, after = [], ""
            while more := client.call("docs", after=after)["documents"]:
                found += more
                after = more[-1]["name"]
            return found

        passages = sum(d["passages"] for d in documents())
        while sum(d["embedded"] for d in documents()) < passages:
            time.sleep(1)
        embedded = time.perf_counter() - begin
        size = sum(os.path.getsize(os.path.join(state, f)) for f in os.listdir(state) if f.startswith("documents.db"))
        print(f"{os.path.basename(o.image)}, {os.path.basename(o.encoder)}, article {o.hold} of four held out: {len(kept)} documents, {passages} passages, "
              f"{len(answerable)} + {len(unanswerable)} questions; added in {added:.1f} s, embedded after {embedded:.0f} s, {size / 1e6:.1f} MB\n")

        kinds = sorted({q["kind"] for q in answerable})
        print("| recall@5 | " + " | ".join(f"{k} ({sum(q['kind'] == k for q in answerable)})" for k in kinds) + " | all | median ms |\n|" + " --- |" * (len(kinds) + 3))
        for by in ("words", "meaning", "both"):
            right, times = collections.Counter(), []
            for q in answerable:
                begin = time.perf_counter()
                hits = client.call("docs.search", query=q["question"], top=5, by=by)["passages"]
                times.append((time.perf_counter() - begin) * 1000)
                right[q["kind"]] += any(is_of(q, h["text"]) for h in hits)
            n = [sum(q["kind"] == k for q in answerable) for k in kinds]
            print(f"| {by} | " + " | ".join(percent(right[k], m) for k, m in zip(kinds, n)) + f" | {percent(sum(right.values()), sum(n))} | {statistics.median(times):.1f} |")

        told, times, coverages, uncited = collections.defaultdict(collections.Counter), [], collections.defaultdict(list), 0
        for q in answerable + unanswerable:
            begin = time.perf_counter()
            r = client.call("ask", question=q["question"])
            times.append((time.perf_counter() - begin) * 1000)
            t = told[q["kind"]]
            t["asked"] += 1
            t["answered"] += r["answered"]
            coverages["yes" if q in answerable else "no"].append(r["coverage"])
            if r["answered"]:
                quote = r["citations"][0]["quote"] if r["citations"] else ""
                # Without believing slmd: the cited bytes of the file are the quote, and the answer is in it.
                with open(r["citations"][0]["document"], "rb") as f:
                    raw = f.read()[r["citations"][0]["begin"] : r["citations"][0]["end"]].decode()
                uncited += not quote or raw != quote or r["answer"] not in quote
                t["cited"] += is_of(q, quote)
                t["right"] += q["answer"] in r["answer"] or (r["answer"] in q["answer"] and len(r["answer"]) > 3)
        print("\n| questions | asked | answered | refused | cited rightly, of answered | answer right, of answered |\n| --- | --- | --- | --- | --- | --- |")
        for k, t in sorted(told.items()):
            far = "," in k
            print(f"| {k} | {t['asked']} | {t['answered']} | {percent(t['asked'] - t['answered'], t['asked'])} | "
                  + ("-" if far else percent(t["cited"], t["answered"])) + " | " + ("-" if far else percent(t["right"], t["answered"])) + " |")
        for name, some in (("answerable", [told[k] for k in kinds]), ("unanswerable", [t for k, t in told.items() if k not in kinds])):
            asked, answered = sum(t["asked"] for t in some), sum(t["answered"] for t in some)
            good = name == "answerable"
            print(f"| **{name}** | {asked} | {answered} | {percent(asked - answered, asked)} | "
                  + (percent(sum(t["cited"] for t in some), answered) if good else "-") + " | " + (percent(sum(t["right"] for t in some), answered) if good else "-") + " |")
        print(f"\nanswers whose citation is not the document's bytes, or does not hold the answer: {uncited}; a question: median {statistics.median(times):.0f} ms\n")
        print("| evidence covers at least | of answerable | of unanswerable |\n| --- | --- | --- |")
        for least in (0.4, 0.5, 0.6, 0.7, 0.8):
            print(f"| {least} | " + " | ".join(percent(sum(c >= least for c in coverages[k]), len(coverages[k])) for k in ("yes", "no")) + " |")
        d = machine.describe()
        print(f"\n{d['cpu']}, {d['cores']} cores, commit {d['commit']}, {d['date']}; plan "
              f"{sum(i['bytes'] for i in client.call('plan')['items']) / 1048576:.1f} MiB, PSS {machine.memory(slmd.process.pid)['pss_kib'] / 1024:.1f} MiB")
