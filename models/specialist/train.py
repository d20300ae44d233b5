"""Trains the specialist from nothing but generate.py's commands, on the CPU, and writes it as Hugging Face publishes models.

    python3 train.py --out FOLDER [--steps N]

FOLDER gets config.json, model.safetensors (float32), tokenizer.json, tokenizer_config.json, and checkpoint.pt: the same command goes on where an
interrupted run was. In the second half the network sees every matrix rounded to 4 bits (straight-through), as the image will have it.
requirements.txt has the versions. Another machine sums in another order: a new run gives a model as good, not the same bits.
"""
import argparse
import ctypes
import json
import math
import multiprocessing
import os
import random
import time

import torch
import torch.nn.functional as F

import generate
import tokens

DIM, LAYERS, HEADS, KV, HEAD_DIM, HIDDEN, CONTEXT = 160, 4, 4, 2, 32, 480, 256
CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "attention_bias": False, "attention_dropout": 0.0, "mlp_bias": False, "hidden_act": "silu", "hidden_size": DIM,
          "intermediate_size": HIDDEN, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": KV, "head_dim": HEAD_DIM, "vocab_size": tokens.VOCAB,
          "max_position_embeddings": CONTEXT, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": True, "torch_dtype": "float32", "eos_token_id": 0}
TEMPLATE = ("{% for message in messages %}{% if message['role'] == 'user' %}{{ '<|user|>' + message['content'] }}{% elif message['role'] == 'assistant' %}"
            "{{ '<|answer|>' + message['content'] + '<|end|>' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|answer|>' }}{% endif %}")
BATCH = 2048  # tokens, about, of each of the two processes


def shapes():
    yield "model.embed_tokens.weight", (tokens.VOCAB, DIM)
    for i in range(LAYERS):
        at = f"model.layers.{i}."
        yield at + "input_layernorm.weight", (DIM,)
        yield at + "self_attn.q_proj.weight", (HEADS * HEAD_DIM, DIM)
        yield at + "self_attn.k_proj.weight", (KV * HEAD_DIM, DIM)
        yield at + "self_attn.v_proj.weight", (KV * HEAD_DIM, DIM)
        yield at + "self_attn.o_proj.weight", (DIM, HEADS * HEAD_DIM)
        yield at + "post_attention_layernorm.weight", (DIM,)
        yield at + "mlp.gate_proj.weight", (HIDDEN, DIM)
        yield at + "mlp.up_proj.weight", (HIDDEN, DIM)
        yield at + "mlp.down_proj.weight", (DIM, HIDDEN)
    yield "model.norm.weight", (DIM,)


def initial():
    """Weights that lie one behind the other in memory that processes share."""
    g = torch.Generator().manual_seed(1)
    flat = torch.zeros(sum(math.prod(shape) for _, shape in shapes())).share_memory_()
    w, at = {}, 0
    for name, shape in shapes():
        w[name] = flat[at:at + math.prod(shape)].view(shape)
        at += math.prod(shape)
        if len(shape) == 1:
            w[name].fill_(1)
        else:
            scale = 0.04 if "embed" in name else 1 / math.sqrt(shape[1])
            if "o_proj" in name or "down_proj" in name:
                scale /= math.sqrt(2 * LAYERS)
            w[name].copy_(torch.randn(shape, generator=g) * scale)
        w[name].requires_grad_(True)
    return w


def four_bit(x, play):
    """The matrix as a plain rounding to 4 bits leaves it: groups of 32 inputs, 15 levels; the gradient passes as if it were not there."""
    with torch.no_grad():
        g = x.reshape(-1, 32)
        scale = g.abs().amax(1, keepdim=True) / 7 * play + 1e-12
        rounded = ((g / scale).round().clamp(-7, 7) * scale).reshape(x.shape)
    return x + (rounded - x).detach()


def rope(T):
    a = torch.arange(T)[:, None] * 10000.0 ** (-torch.arange(0, HEAD_DIM, 2) / HEAD_DIM)[None]
    return torch.cos(a).repeat(1, 2), torch.sin(a).repeat(1, 2)


def rotate(x, cos, sin):
    h = HEAD_DIM // 2
    return x * cos + torch.cat((-x[..., h:], x[..., :h]), -1) * sin


def norm(x, weight):
    return F.rms_norm(x, (DIM,), weight, 1e-5)


def forward(w, ids, at):
    """Logits at the positions `at` (flat) of ids [batch, length]."""
    B, T = ids.shape
    cos, sin = rope(T)
    mask = torch.full((T, T), -1e9).triu(1)
    x = F.embedding(ids, w["model.embed_tokens.weight"])
    for i in range(LAYERS):
        p = f"model.layers.{i}."
        h = norm(x, w[p + "input_layernorm.weight"])
        q = F.linear(h, w[p + "self_attn.q_proj.weight"]).view(B, T, HEADS, HEAD_DIM).transpose(1, 2)
        k = F.linear(h, w[p + "self_attn.k_proj.weight"]).view(B, T, KV, HEAD_DIM).transpose(1, 2)
        v = F.linear(h, w[p + "self_attn.v_proj.weight"]).view(B, T, KV, HEAD_DIM).transpose(1, 2)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        k, v = k.repeat_interleave(HEADS // KV, 1), v.repeat_interleave(HEADS // KV, 1)
        a = torch.softmax(q @ k.transpose(2, 3) / math.sqrt(HEAD_DIM) + mask, -1) @ v
        x = x + F.linear(a.transpose(1, 2).reshape(B, T, HEADS * HEAD_DIM), w[p + "self_attn.o_proj.weight"])
        h = norm(x, w[p + "post_attention_layernorm.weight"])
        x = x + F.linear(F.silu(F.linear(h, w[p + "mlp.gate_proj.weight"])) * F.linear(h, w[p + "mlp.up_proj.weight"]), w[p + "mlp.down_proj.weight"])
    x = norm(x.reshape(B * T, DIM)[at], w["model.norm.weight"])
    return F.linear(x, w["model.embed_tokens.weight"])


def batch(examples):
    """ids, flat positions before what the model draws, and what it draws."""
    T = max(len(e) for e, _ in examples)
    ids = torch.zeros((len(examples), T), dtype=torch.long)
    at, want = [], []
    for b, (e, drawn) in enumerate(examples):
        ids[b, :len(e)] = torch.tensor(e)
        for i, d in enumerate(drawn):
            if d:
                at.append(b * T + i - 1)
                want.append(e[i])
    return ids, torch.tensor(at), torch.tensor(want)


def batches(vocabulary, block):
    """Batches of alike lengths, of the block's own seed."""
    r = random.Random(1000 + block)
    examples = vocabulary.examples([generate.command(r) for _ in range(6000)])
    examples.sort(key=lambda e: len(e[0]))
    out, part = [], []
    for e in examples:
        if part and (len(part) + 1) * len(e[0]) > BATCH:
            out.append(part)
            part = []
        part.append(e)
    out.append(part)
    r.shuffle(out)
    return [batch(p) for p in out]


def gradient(w, ids, at, want, play):
    """Adds it to the weights' own; the loss. play: 0: as they are; else rounded to 4 bits with this in the scale."""
    seen = {n: four_bit(x, play) if x.ndim == 2 and play else x for n, x in w.items()}
    loss = F.cross_entropy(forward(seen, ids, at), want)
    loss.backward()
    return loss.item()


class Helper:
    """Another process that computes the gradient of a second batch meanwhile. Threads of one process wait for each other after every operation, which on
    cores that others use, too, is what they mostly do."""

    def __init__(self, w, vocabulary):
        self.w, self.grad = w, {n: torch.zeros_like(x).share_memory_() for n, x in w.items()}
        self.ours, theirs = multiprocessing.get_context("fork").Pipe()
        multiprocessing.get_context("fork").Process(target=self.work, args=(theirs, vocabulary), daemon=True).start()

    def work(self, pipe, vocabulary):
        block, made = None, []
        while True:
            wanted, i, play = pipe.recv()
            if wanted != block:
                block, made = wanted, batches(vocabulary, wanted)
            loss = gradient(self.w, *made[i], play)
            for n, x in self.w.items():
                self.grad[n].copy_(x.grad)
                x.grad = None
            pipe.send(loss)

    def ask(self, block, i, play):
        self.ours.send((block, i, play))

    def add(self):
        """The mean of both gradients; the loss."""
        loss = self.ours.recv()
        for n, x in self.w.items():
            x.grad.add_(self.grad[n]).mul_(0.5)
        return loss


@torch.no_grad()
def examine(w, vocabulary, pairs):
    """How many of the answers the model draws letter for letter, greedily (what is forced is given)."""
    seen = {n: four_bit(x, 1.0) if x.ndim == 2 else x for n, x in w.items()}
    examples, right = vocabulary.examples(pairs), 0
    for i in range(0, len(examples), 64):
        ids, at, want = batch(examples[i:i + 64])
        hit = forward(seen, ids, at).argmax(-1) == want
        wrong = set((at[~hit] // ids.shape[1]).tolist())
        right += len(examples[i:i + 64]) - len(wrong)
    return right


def save(folder, w):
    from safetensors.torch import save_file

    save_file({n: x.detach().contiguous() for n, x in w.items()}, os.path.join(folder, "model.safetensors"), {"format": "pt"})
    dump = lambda name, value: open(os.path.join(folder, name), "w").write(json.dumps(value, indent=2) + "\n")
    dump("config.json", CONFIG)
    dump("tokenizer_config.json", {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": False, "add_bos_token": False, "clean_up_tokenization_spaces": False, "eos_token": "<|end|>",
                                   "model_max_length": CONTEXT, "chat_template": TEMPLATE})


def main():
    arg = argparse.ArgumentParser()
    arg.add_argument("--out", required=True)
    arg.add_argument("--steps", type=int, default=5000)
    arg.add_argument("--rate", type=float, default=3e-3)
    arg = arg.parse_args()
    torch.set_num_threads(1)
    torch.set_float32_matmul_precision("medium")  # bfloat16 within the products, where the CPU can
    libc = ctypes.CDLL(None)  # what a step frees stays with the process: giving it back and asking again costs more than the arithmetic
    libc.mallopt(-3, 1 << 30), libc.mallopt(-1, 1 << 30)
    torch.manual_seed(1)
    os.makedirs(arg.out, exist_ok=True)
    tokens.train(os.path.join(arg.out, "tokenizer.json"))
    vocabulary = tokens.Tokens(os.path.join(arg.out, "tokenizer.json"))
    exam = [(text, answer) for _, text, answer in generate.held_out(7, 600)]  # watched, not what is reported: that has a seed of its own

    w = initial()
    helper = Helper(w, vocabulary)
    print(sum(x.numel() for x in w.values()), "parameters", flush=True)
    groups = [{"params": [x for x in w.values() if x.ndim == 2], "weight_decay": 0.05}, {"params": [x for x in w.values() if x.ndim == 1], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=arg.rate, betas=(0.9, 0.98), fused=True)
    average = {n: x.detach().clone() for n, x in w.items()}
    step, block, spent, checkpoint = 0, 0, 0.0, os.path.join(arg.out, "checkpoint.pt")
    if os.path.exists(checkpoint):
        c = torch.load(checkpoint)
        for n in w:
            w[n].data.copy_(c["w"][n])
            average[n].copy_(c["average"][n])
        optimizer.load_state_dict(c["optimizer"])
        step, block, spent = c["step"], c["block"], c["spent"]
    start, running = time.time() - spent, None
    while step < arg.steps:
        made = batches(vocabulary, block)
        for i in range(0, len(made) - 1, 2):
            step += 1
            done = step / arg.steps
            for g in optimizer.param_groups:
                g["lr"] = arg.rate * min(1, step / 200) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1, done))))
            play = random.Random(step).uniform(0.9, 1.05) if done > 0.5 else 0
            optimizer.zero_grad()
            helper.ask(block, i + 1, play)
            loss = (gradient(w, *made[i], play) + helper.add()) / 2
            torch.nn.utils.clip_grad_norm_(list(w.values()), 1.0)
            optimizer.step()
            with torch.no_grad():
                decay = min(0.995, step / (step + 100))
                for n in w:
                    average[n].lerp_(w[n].detach(), 1 - decay)
            running = loss if running is None else 0.98 * running + 0.02 * loss
            if step % 50 == 0:
                print(f"step {step} loss {running:.4f} {time.time() - start:.0f} s", flush=True)
            if step % 500 == 0 or step == arg.steps:
                print(f"step {step} right {examine(average, vocabulary, exam)} of {len(exam)} (rounded to 4 bits)", flush=True)
            if step >= arg.steps:
                break
        block += 1
        if block % 2 == 0 or step >= arg.steps:
            torch.save({"w": w, "average": average, "optimizer": optimizer.state_dict(), "step": step, "block": block, "spent": time.time() - start}, checkpoint + ".new")
            os.replace(checkpoint + ".new", checkpoint)
            save(arg.out, average)
    save(arg.out, average)


if __name__ == "__main__":
    main()
