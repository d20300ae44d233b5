#!/usr/bin/env python3
"""Grouped bars as an SVG, written by hand. As a program: the speed ratios of runs of bench/compare.

  bench/plot.py OUT.svg RUN.json...
"""
import json, sys
from html import escape

COLOURS = ("#2a6f97", "#61a5c2", "#e09f3e", "#9e2a2b", "#6a994e")
WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 860, 360, 48, 64, 44
STYLE = "text{font:12px sans-serif;fill:#333}.t{font-size:15px;font-weight:bold}.v{font-size:10px;text-anchor:middle}.g{text-anchor:middle}.y{text-anchor:end}line{stroke:#ddd}.r{stroke:#333;stroke-dasharray:4 3}"


def ticks(top):
    step = next(s for s in (0.1, 0.2, 0.25, 0.5, 1, 2, 5, 10, 20, 50, 100) if top / s <= 8)
    return [step * i for i in range(int(top / step) + 1)]


def bars(title, groups, series, values, reference=None, unit=""):
    """groups and series: names; values[group][series]: a number, or None where there is no bar. reference: a dashed line at this value."""
    top = 1.1 * max([v for row in values for v in row if v is not None] + [reference or 0])
    y = lambda v: HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * v / top
    group = (WIDTH - LEFT - 12) / len(groups)
    bar = 0.8 * group / len(series)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"><style>{STYLE}</style><rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
           f'<text class="t" x="{LEFT}" y="22">{escape(title)}</text>']
    for i, name in enumerate(series):
        x = LEFT + i * 150
        out.append(f'<rect x="{x}" y="34" width="11" height="11" fill="{COLOURS[i % len(COLOURS)]}"/><text x="{x + 16}" y="44">{escape(name)}</text>')
    for t in ticks(top):
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - 12}" y1="{y(t):.1f}" y2="{y(t):.1f}"/><text class="y" x="{LEFT - 6}" y="{y(t) + 4:.1f}">{t:g}{unit}</text>')
    for g, (name, row) in enumerate(zip(groups, values)):
        x = LEFT + g * group + 0.1 * group
        out.append(f'<text class="g" x="{x + 0.4 * group:.1f}" y="{HEIGHT - BOTTOM + 20}">{escape(name)}</text>')
        for i, v in enumerate(row):
            if v is not None:
                out.append(f'<rect x="{x + i * bar:.1f}" y="{y(v):.1f}" width="{bar * 0.92:.1f}" height="{y(0) - y(v):.1f}" fill="{COLOURS[i % len(COLOURS)]}"/>'
                           f'<text class="v" x="{x + (i + 0.46) * bar:.1f}" y="{y(v) - 4:.1f}">{v:.2f}</text>')
    if reference is not None:
        out.append(f'<line class="r" x1="{LEFT}" x2="{WIDTH - 12}" y1="{y(reference):.1f}" y2="{y(reference):.1f}"/>')
    return "\n".join(out + ["</svg>"]) + "\n"


def main():
    if len(sys.argv) < 3 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    runs = [json.load(open(path)) for path in sys.argv[2:]]
    figures = [f for f in runs[0]["figures"] if f.startswith(("prefill", "decode"))]
    values = [[r["figures"].get(f, {}).get("ratio") for f in figures] for r in runs]
    with open(sys.argv[1], "w") as f:
        f.write(bars(f"Speed, llama.cpp's best = 1 ({runs[0]['cpu']}, {runs[0]['threads']} threads)", [r["title"] for r in runs], [f.replace("_", " ") for f in figures], values, 1))


if __name__ == "__main__":
    main()
