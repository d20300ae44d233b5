#!/usr/bin/env python3
"""Texts a second and distance of embeddings: slmd's images against PyTorch with the same weights, in turns on the same machine.

  bench/embeddings.py --model FOLDER --texts FILE [--rounds 3] [--threads 2] IMAGE.slm...

FOLDER is the Hugging Face folder that the images were made of; of FILE a line is a text. PyTorch runs BERT as transformers has it, in float32, texts sorted by
length in batches of 32 as sentence-transformers does it, when one of the two packages is installed (pip install sentence-transformers). The images are asked of
slmd, by JSON on its socket, as many texts a request as fit. Each round asks all of them, one after the other; the best of the rounds counts, and what others used
of the machine meanwhile is told. Prints a table in Markdown."""
import argparse
import os
import statistics
import time

import machine
from wire import Client, Slmd

HERE = os.path.dirname(os.path.abspath(__file__))


def by_pytorch(folder, threads):
    import numpy as np
    import torch
    from transformers import AutoModel, AutoTokenizer

    torch.set_num_threads(threads)
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder, dtype=torch.float32).eval()

    def embed(texts, longest=256, together=32):
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
        out = np.empty((len(texts), model.config.hidden_size), np.float32)
        with torch.inference_mode():
            for at in range(0, len(order), together):
                some = order[at : at + together]
                batch = tokenizer([texts[i] for i in some], padding=True, truncation=True, max_length=longest, return_tensors="pt")
                hidden = model(**batch).last_hidden_state
                mask = batch["attention_mask"].unsqueeze(-1)
                mean = (hidden * mask).sum(1) / mask.sum(1)
                out[some] = torch.nn.functional.normalize(mean, dim=1).numpy()
        return out

    return embed, f"transformers {__import__('transformers').__version__}, PyTorch {torch.__version__}"


def by_slmd(client):
    dim = client.call("emb", text="a")["dim"]
    together = min(64, 9216 // dim)

    def embed(texts):
        out = []
        for at in range(0, len(texts), together):
            out += [e["vector"] for e in client.call("emb", texts=texts[at : at + together])["embeddings"]]
        return out

    return embed


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--model", required=True, help="Hugging Face folder")
    a.add_argument("--texts", required=True)
    a.add_argument("--limit", type=int, default=512, help="texts, the first ones of the file")
    a.add_argument("--rounds", type=int, default=3)
    a.add_argument("--threads", type=int, default=os.cpu_count())
    a.add_argument("--build", default=os.path.join(HERE, "../build/release"))
    a.add_argument("images", nargs="+")
    o = a.parse_args()
    import numpy as np

    texts = [line.rstrip("\n") for line in open(o.texts, encoding="utf-8") if line.strip()][: o.limit]
    reference, name = by_pytorch(o.model, o.threads)
    slmds = [Slmd(os.path.join(o.build, "runtime/daemon/slmd"), image, 1, ["--threads", str(o.threads)]) for image in o.images]
    asked = [(name, reference), *((os.path.basename(image), by_slmd(Client(s.path))) for image, s in zip(o.images, slmds))]
    seconds, vectors, others = {n: [] for n, _ in asked}, {}, []
    for _ in range(o.rounds):
        for n, embed in asked:
            used = machine.busy()
            begin = time.perf_counter()
            vectors[n] = np.asarray(embed(texts), np.float32)
            wall = time.perf_counter() - begin
            seconds[n].append(wall)
            others.append((machine.busy()[0] - used[0]) / wall)
    gold = vectors[name]
    print(", ".join(f"{k} {v}" for k, v in machine.describe().items()))
    print(f"{len(texts)} texts, {sum(map(len, texts))} characters, {o.threads} threads, best of {o.rounds} rounds; cores in use meanwhile, all programs: {statistics.mean(others):.1f}\n")
    print("| | texts/s | to PyTorch | least cosine | mean cosine | memory, PSS | file |\n| --- | --- | --- | --- | --- | --- | --- |")
    base = len(texts) / min(seconds[name])
    print(f"| {name} | {base:.1f} | 1 | 1 | 1 | | {os.path.getsize(os.path.join(o.model, 'model.safetensors')) / 1e6:.1f} MB |")
    for (n, _), image, s in zip(asked[1:], o.images, slmds):
        cosine = (vectors[n] * gold).sum(1)
        rate = len(texts) / min(seconds[n])
        pss = next(int(l.split()[1]) for l in open(f"/proc/{s.process.pid}/smaps_rollup") if l.startswith("Pss:")) / 1024
        print(f"| {n} | {rate:.1f} | {rate / base:.2f} | {cosine.min():.5f} | {cosine.mean():.5f} | {pss:.1f} MiB | {os.path.getsize(image) / 1e6:.1f} MB |")
        s.__exit__()


if __name__ == "__main__":
    main()
