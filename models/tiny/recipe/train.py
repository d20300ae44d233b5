"""Trains models/tiny from nothing but the generated world. About a quarter of an hour on two cores; numpy is all it needs.

    python3 train.py [--steps N] [--out FOLDER] [--check]

--check compares the handwritten gradient with differences and stops. The weights that are written differ from one machine to the
next in the last bits (BLAS sums in its own order), so the committed model, not a new run, is the fixture: see ../golden.
"""
import argparse
import json
import os
import random
import struct
import sys
import time

import numpy as np

import network
import world
from tokenizer import Tokenizer

HERE = os.path.dirname(os.path.abspath(__file__))
CHAT_TEMPLATE = ("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}"
                 "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")


def bf16(x):
    """Nearest bfloat16, ties to even, as its 16 bits."""
    u = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((u + 0x7FFF + ((u >> 16) & 1)) >> 16).astype(np.uint16)


def from_bf16(h):
    return (h.astype(np.uint32) << 16).view(np.float32)


def four_bit(x, r):
    """The weight as a plain 4-bit rounding would leave it: groups of 32 inputs, 15 levels, and a little play in the scale. Training sees this
    (straight-through), so that the model keeps its facts in any image made of it."""
    g = x.reshape(-1, 32)
    scale = np.abs(g).max(1, keepdims=True) / 7 * r.uniform(0.9, 1.05) + 1e-12
    return (np.clip(np.round(g / scale), -7, 7) * scale).reshape(x.shape).astype(np.float32)


def batches(tokenizer, r, B, T):
    """Windows of T tokens that begin with a conversation; weight of the loss: 1 where the assistant speaks, 0.1 elsewhere."""
    start, end, newline = tokenizer.ids["<|im_start|>"], tokenizer.ids["<|im_end|>"], tokenizer.encode("\n")[0]
    assistant = tokenizer.encode("<|im_start|>assistant\n")
    while True:
        tokens, weight = np.zeros((B, T + 1), np.int64), np.zeros((B, T + 1), np.float32)
        for b in range(B):
            ids, ws = [], []
            while len(ids) < T + 1:
                if r.random() < 0.15:
                    ids.append(0), ws.append(0.0)  # <|endoftext|>
                conversation = tokenizer.encode(world.render(world.conversation(r)))
                said = False
                for i, t in enumerate(conversation):
                    ids.append(t)
                    ws.append(1.0 if said else 0.1)
                    if conversation[max(0, i + 1 - len(assistant)):i + 1] == assistant:
                        said = True
                    elif t == end:
                        said = False
            tokens[b], weight[b] = ids[:T + 1], ws[:T + 1]
        yield tokens, weight[:, 1:]


def loss_and_gradient(w, tokens, weight):
    logits, kept = network.forward(w, tokens[:, :-1], keep=True)
    logits -= logits.max(-1, keepdims=True)
    p = np.exp(logits)
    p /= p.sum(-1, keepdims=True)
    b, t = np.indices(weight.shape)
    target = tokens[:, 1:]
    loss = -(np.log(p[b, t, target] + 1e-30) * weight).sum() / weight.sum()
    p[b, t, target] -= 1
    p *= (weight / weight.sum())[..., None]
    return loss, network.backward(w, tokens[:, :-1], p, kept)


def generate(w, tokenizer, prompts, count=72):
    """Greedy continuations of a list of token lists, all at once; each ends at <|im_end|>."""
    end = tokenizer.ids["<|im_end|>"]
    out = [[] for _ in prompts]
    for at in range(0, len(prompts), 32):
        part = list(range(at, min(at + 32, len(prompts))))
        for _ in range(count):
            live = [i for i in part if not out[i] or out[i][-1] != end]
            if not live:
                break
            T = max(len(prompts[i]) + len(out[i]) for i in live)
            x = np.zeros((len(live), T), np.int64)
            for j, i in enumerate(live):
                x[j, :len(prompts[i]) + len(out[i])] = prompts[i] + out[i]
            logits = network.forward(w, x)
            for j, i in enumerate(live):
                out[i].append(int(logits[j, len(prompts[i]) + len(out[i]) - 1].argmax()))
    return out


def examine(w, tokenizer):
    """Right answers, letter for letter, by kind of question."""
    questions = world.exam()
    answers = generate(w, tokenizer, [tokenizer.encode(world.render(turns, True)) for _, turns, _ in questions])
    marks, wrong = {}, []
    for (kind, turns, want), ids in zip(questions, answers):
        got = tokenizer.decode(ids)
        right = got == want + "<|im_end|>"
        n, of = marks.get(kind, (0, 0))
        marks[kind] = (n + right, of + 1)
        if not right:
            wrong.append((turns[-1][1], want, got))
    return marks, wrong


def save(folder, w, tokenizer):
    os.makedirs(folder, exist_ok=True)
    header, blobs, at = {"__metadata__": {"format": "pt"}}, [], 0
    for n, shape in network.names():
        blob = bf16(w[n]).tobytes()
        header[n] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + len(blob)]}
        blobs.append(blob)
        at += len(blob)
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    with open(os.path.join(folder, "model.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(head)) + head + b"".join(blobs))
    tokenizer.save(os.path.join(folder, "tokenizer.json"))
    dump = lambda name, value: open(os.path.join(folder, name), "w").write(json.dumps(value, indent=2) + "\n")
    dump("config.json", network.CONFIG)
    dump("generation_config.json", {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "do_sample": False})
    dump("tokenizer_config.json", {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": False, "add_bos_token": False, "clean_up_tokenization_spaces": False,
                                   "bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "unk_token": "<|endoftext|>", "pad_token": "<|endoftext|>",
                                   "additional_special_tokens": ["<|im_start|>", "<|im_end|>"], "model_max_length": network.CONFIG["max_position_embeddings"],
                                   "chat_template": CHAT_TEMPLATE})


def load(folder):
    """The weights as they were written (bfloat16, widened to float32)."""
    with open(os.path.join(folder, "model.safetensors"), "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
        data = f.read()
    return {n: from_bf16(np.frombuffer(data[slice(*t["data_offsets"])], np.uint16)).reshape(t["shape"]) for n, t in header.items() if n != "__metadata__"}


def check_gradient(tokenizer):
    """Directional derivatives against differences, in float64."""
    w = {n: v.astype(np.float64) for n, v in network.initial(3).items()}
    tokens, weight = next(batches(tokenizer, random.Random(1), 2, 24))
    _, grad = loss_and_gradient(w, tokens, weight)
    r = np.random.default_rng(0)
    worst = 0.0
    for n in w:
        d = r.standard_normal(w[n].shape)
        h = 1e-5
        up, _ = loss_and_gradient({**w, n: w[n] + h * d}, tokens, weight)
        down, _ = loss_and_gradient({**w, n: w[n] - h * d}, tokens, weight)
        a, b = (up - down) / (2 * h), (grad[n] * d).sum()
        worst = max(worst, abs(a - b) / (abs(a) + 1e-4))
        print(f"{n:45s} {a: .6e} {b: .6e}")
    print("worst relative difference", worst)
    return worst < 1e-3


def main():
    arg = argparse.ArgumentParser()
    arg.add_argument("--steps", type=int, default=5000)
    arg.add_argument("--out", default=os.path.dirname(HERE))
    arg.add_argument("--check", action="store_true")
    arg = arg.parse_args()

    r = random.Random(1)
    tokenizer = Tokenizer.train("".join(world.render(world.conversation(r)) for _ in range(4000)), network.V)
    if arg.check:
        sys.exit(0 if check_gradient(tokenizer) else 1)

    w = network.initial(1)
    m, v = ({n: np.zeros_like(x) for n, x in w.items()} for _ in range(2))
    average = {n: x.copy() for n, x in w.items()}
    noise = np.random.default_rng(2)
    start, running = time.time(), None
    short, long = batches(tokenizer, random.Random(2), 32, 128), batches(tokenizer, random.Random(3), 8, 256)
    for step in range(1, arg.steps + 1):
        done = step / arg.steps
        tokens, weight = next(long if done > 0.6 and step % 4 == 0 else short)
        # After a third of the way the network sees rounded weights.
        seen = {n: four_bit(x, noise) if x.ndim == 2 and done > 0.3 else x for n, x in w.items()}
        loss, grad = loss_and_gradient(seen, tokens, weight)
        size = np.sqrt(sum((g * g).sum() for g in grad.values()))
        rate = 5e-3 * min(1, step / 100) * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * done)))
        for n, g in grad.items():
            g *= min(1, 1 / (size + 1e-6))
            m[n] += 0.1 * (g - m[n])
            v[n] += 0.01 * (g * g - v[n])
            w[n] -= rate * ((m[n] / (1 - 0.9**step)) / (np.sqrt(v[n] / (1 - 0.99**step)) + 1e-8) + (0.02 * w[n] if w[n].ndim == 2 else 0))
            average[n] += 0.01 * (w[n] - average[n])
        running = loss if running is None else 0.98 * running + 0.02 * loss
        if step % 100 == 0:
            print(f"step {step:5d} loss {running:.4f} {time.time() - start:6.0f} s", flush=True)
        if step % 1000 == 0 or step == arg.steps:
            save(arg.out, average, tokenizer)
            kept = load(arg.out)
            for label, weights in (("bf16", kept), ("4 bit", {n: four_bit(x, np.random.default_rng(9)) if x.ndim == 2 else x for n, x in kept.items()})):
                marks, wrong = examine(weights, tokenizer)
                print(label, {k: f"{a}/{b}" for k, (a, b) in marks.items()}, flush=True)
            for x in wrong[:6]:
                print("   ", x)


if __name__ == "__main__":
    main()
