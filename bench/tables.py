#!/usr/bin/env python3
"""Tables of runs of bench/compare. As a program: every run in Markdown, and one table of what was asked over all of them.

  bench/tables.py RUN.json...
"""
import json, sys

LESS = ("first_token_warm", "first_token_cold", "rss", "pss", "pss_of_rss", "file_bytes", "token_bytes")


def verdict(name, f):
    return f"{'at most' if name in LESS else 'at least'} {f['asked']}: {'met' if f['met'] else 'MISSED'}" if "asked" in f else ""


def rows(result):
    out = [["", "slmd", "llama.cpp", "ratio", "spread", "asked", "", "the peer's best"]]
    for name, f in result["figures"].items():
        out.append([name, f"{f['ours']:.1f}", f"{f['peer']:.1f}", f"{f['ratio']:.2f}", f"{f['low']:.2f} to {f['high']:.2f}", verdict(name, f), "noisy" if f.get("noisy") else "",
                    result["peers"][f["peer_is"] - 1]["name"]])
    return out


def text(table):
    widths = [max(len(r[i]) for r in table) for i in range(len(table[0]))]
    return "\n".join("  ".join(c.rjust(w) if 0 < i < 5 else c.ljust(w) for i, (c, w) in enumerate(zip(r, widths))).rstrip() for r in table)


def markdown(table):
    line = lambda r: "| " + " | ".join(r) + " |"
    return "\n".join([line(table[0]), line(["---"] * len(table[0]))] + [line(r) for r in table[1:]])


def asked(runs):
    """A row a figure that any run was asked for, a column a run: the ratio, what was asked, and whether it is met."""
    cell = lambda name, f: f"{f['ratio']:.2f} ({verdict(name, f)}{', noisy' if f.get('noisy') else ''})" if f and "asked" in f else ""
    names = dict.fromkeys(n for r in runs for n, f in r["figures"].items() if "asked" in f)
    return [["ratio"] + [r["title"] for r in runs]] + [[n] + [cell(n, r["figures"].get(n)) for r in runs] for n in names]


def where(run):
    peer = next(p for p in run["peers"] if "build" in p or "package" in p)
    return (f"{run['date']}, commit `{run['commit']}`, {run['cpu']}, {run['cores']} cores, {run['compiler']}, level {run['level']}, {run['threads']} thread{'s' if run['threads'] > 1 else ''}, "
            f"{run['rounds']} rounds, context {run['context']}. llama.cpp: " + (f"build {peer['build']} ({peer['commit']}), native" if "build" in peer else peer["package"]) + ".")


def main():
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    runs = [json.load(open(path)) for path in sys.argv[1:]]
    print(markdown(asked(runs)))
    for run in runs:
        print(f"\n### {run['title']}\n\n{where(run)}\n\n{markdown(rows(run))}")


if __name__ == "__main__":
    main()
