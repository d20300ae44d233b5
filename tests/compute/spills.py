#!/usr/bin/env python3
"""The inner loops of the matrix kernels keep their vectors in registers: disassembles the object files of the levels and fails where such a loop loads or
stores one on the stack.

  spills.py OBJDUMP OBJECT...

An inner loop is a backward branch with no other one inside; it is a kernel's when it has the instruction that multiplies on that level."""
import os, re, subprocess, sys

MULTIPLY = {  # by source file: of a level that is not here nothing is asked
    'neon': r'\bs(mull|mlal)2?\b', 'dotprod': r'\bsdot\b', 'i8mm': r'\bsmmla\b',
    'avx2': r'\bvpmadd(ubsw|wd)\b', 'avx512': r'\bvpdpbusds?\b'}
KERNELS = r'\b(matmul|blocks_times_\w+|panel_times_tile|tile)<'
FORMATS = 4
# (level, format and tokens or blocks): how many. i8's sixteen vectors a block leave plain NEON too few, as i6's twelve with its two tables do; AVX2 has half
# the registers for four tokens, and for one reads three constants from the stack, of i6 more; beside 16 sums and 8 weights AVX-512 reads one or two.
LEFT = {('neon', '2, 1'): 4, ('neon', '2, 4'): 3, ('neon', '3, 1'): 2, ('neon', '3, 4'): 2,
        ('avx2', '0, 1'): 3, ('avx2', '0, 4'): 24, ('avx2', '1, 4'): 25, ('avx2', '2, 4'): 21, ('avx2', '3, 1'): 9, ('avx2', '3, 4'): 29,
        ('avx512', '0, 16'): 1, ('avx512', '3, 16'): 2, ('avx512', '3, 4'): 1}
VECTOR_ON_STACK = re.compile(r'^(ld[rpu]\w*|st[rpu]\w*|ld1\w*|st1\w*)\s+[{]?[qdv]\d.*\[sp|%[xyz]mm\d+.*\(%r[sb]p|\(%r[sb]p[^)]*\).*%[xyz]mm')
BRANCH = re.compile(r'^(?:b\.\w+|b|cbn?z|tbn?z|j\w+)\s+(?:\w+, )?(?:#\d+, )?([0-9a-f]+) <')

def functions(objdump, path):
    out = subprocess.run([objdump, '-dC', '--no-show-raw-insn', path], capture_output=True, text=True, check=True).stdout
    for part in out.split('\n\n'):
        name = re.search(r'^[0-9a-f]+ <(.*)>:$', part, re.M)
        if name:
            yield name.group(1), [(int(a, 16), text) for a, text in re.findall(r'^\s*([0-9a-f]+):\s+(\S.*)$', part, re.M)]

def inner_loops(code):
    index = {address: i for i, (address, _) in enumerate(code)}
    loops = []
    for i, (_, text) in enumerate(code):
        to = BRANCH.match(text)
        start = index.get(int(to.group(1), 16)) if to else None
        if start is not None and start <= i:
            loops.append((start, i))
    for a, b in loops:
        if not any((c, d) != (a, b) and a <= c and d <= b for c, d in loops):
            yield [text for _, text in code[a:b + 1]]

def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    bad, seen = 0, 0
    for path in sys.argv[2:]:
        level = os.path.basename(path).split('.')[0]
        if level not in MULTIPLY:
            continue
        found = set()
        for name, code in functions(sys.argv[1], path):
            if not re.search(KERNELS, name):
                continue
            for body in inner_loops(code):
                if not any(re.search(MULTIPLY[level], text) for text in body):
                    continue
                found.add(name)
                spilled = [text for text in body if VECTOR_ON_STACK.search(text)]
                kind = re.search(r'Format\)(\d, \d+)', name)
                if len(spilled) > LEFT.get((level, kind.group(1) if kind else ''), 0):
                    bad += 1
                    print(f'{level}: {re.sub(r"slmd::compute::|.anonymous namespace.::", "", name)[:90]}: '
                          f'{len(spilled)} of {len(body)} instructions spill, such as "{spilled[0].strip()}"')
        print(f'{level}: {len(found)} functions with an inner loop that multiplies')
        seen += 1
        if len(found) < FORMATS:
            bad += 1
            print(f'{level}: too few; has the name of a kernel or of its instruction changed?')
    if seen == 0:
        sys.exit('no object file of a level among the arguments')
    sys.exit(1 if bad else 0)

if __name__ == '__main__':
    main()
