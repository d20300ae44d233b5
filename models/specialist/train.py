"""Trains the specialist from nothing but generate.py's commands, on the CPU, and writes it as Hugging Face publishes models.

    python3 train.py --out FOLDER [--steps N]

FOLDER gets config.json, model.safetensors (float32), tokenizer.json, tokenizer_config.json, and checkpoint.pt: the same command goes on where an
interrupted run was. For most of the run it learns from the hardest third of the commands alone. requirements.txt has the versions. Another machine
sums in another order: a new run gives a model as good, not the same bits.
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


def batches(examples):
    """Batches of examples of alike lengths."""
    out, part = [], []
    for e in sorted(examples, key=lambda e: len(e[0])):
        if part and (len(part) + 1) * len(e[0]) > BATCH:
            out.append(part)
            part = []
        part.append(e)
    return out + [part]


@torch.no_grad()
def hardest(w, examples, keep):
    """The examples, as many as `keep`, whose answers the model finds least likely."""
    losses = []
    for part in batches(examples):
        ids, at, want = batch(part)
        of = F.cross_entropy(forward(w, ids, at), want, reduction="none")
        losses += zip(torch.zeros(len(part)).index_add_(0, at // ids.shape[1], of).tolist(), part)
    losses.sort(key=lambda l: -l[0])
    return [e for _, e in losses[:keep]]


class Stream:
    """Batches without an end. A seed of its own for every start, so that a run that goes on does not see again what it saw."""

    def __init__(self, w, vocabulary, seed):
        self.w, self.vocabulary, self.r, self.made = w, vocabulary, random.Random(seed), []

    def next(self, hard):
        if not self.made:
            keep, of = (3000, 9000) if hard else (6000, 6000)
            examples = self.vocabulary.examples([disturbed(self.r, generate.command(self.r)) for _ in range(of)])
            self.made = batches(hardest(self.w, examples, keep) if hard else examples)
            self.r.shuffle(self.made)
        return batch(self.made.pop())


def disturbed(r, command):
    """One command in twelve with a word that means nothing, so that words which the generator does not have are passed over."""
    text, answer = command
    if r.random() < 1 / 12:
        said = text.split(" ")
        at = r.randint(0, len(said))
        if not at or said[at - 1] not in ("the", "a", "an", "our", "my", "that"):  # there it would be the name of another device
            made_up = "".join(r.choice("bcdfghjklmnprstvwz") + r.choice("aeiou") + r.choice(("", "", "l", "n", "r", "s", "t")) for _ in range(r.randint(1, 3)))
            text = " ".join(said[:at] + [made_up] + said[at:])
    return text, answer


def gradient(w, ids, at, want):
    """Adds it to the weights' own; the loss."""
    loss = F.cross_entropy(forward(w, ids, at), want)
    loss.backward()
    return loss.item()


class Helper:
    """Another process that computes the gradient of a second batch meanwhile. Threads of one process wait for each other after every operation, which on
    cores that others use, too, is what they mostly do."""

    def __init__(self, w, stream):
        self.w, self.grad = w, {n: torch.zeros_like(x).share_memory_() for n, x in w.items()}
        self.ours, theirs = multiprocessing.get_context("fork").Pipe()
        multiprocessing.get_context("fork").Process(target=self.work, args=(theirs, stream), daemon=True).start()

    def work(self, pipe, stream):
        while True:
            loss = gradient(self.w, *stream.next(pipe.recv()))
            for n, x in self.w.items():
                self.grad[n].copy_(x.grad)
                x.grad = None
            pipe.send(loss)

    def ask(self, hard):
        self.ours.send(hard)

    def add(self):
        """The mean of both gradients; the loss."""
        loss = self.ours.recv()
        for n, x in self.w.items():
            x.grad.add_(self.grad[n]).mul_(0.5)
        return loss


class Muon:
    """Momentum whose direction is the nearest orthogonal matrix, found by Newton-Schulz steps (Jordan et al., 2024; steps as large as AdamW's: Liu et al., 2025)."""

    def __init__(self, matrices, momentum=0.95, weight_decay=0.05):
        self.matrices, self.momentum, self.weight_decay = matrices, momentum, weight_decay
        self.mean = [torch.zeros_like(x) for x in matrices]

    @torch.no_grad()
    def step(self, rate):
        alike = {}
        for x, mean in zip(self.matrices, self.mean):
            mean.mul_(self.momentum).add_(x.grad)
            direction = x.grad + self.momentum * mean
            wide = direction if x.shape[0] <= x.shape[1] else direction.T
            alike.setdefault(wide.shape, []).append((x, wide))
        for shape, some in alike.items():
            u = torch.stack([wide for _, wide in some])
            u = u / (u.norm(dim=(1, 2), keepdim=True) + 1e-7)
            for _ in range(5):
                a = u @ u.mT
                u = 3.4445 * u + (-4.7750 * a + 2.0315 * a @ a) @ u
            for (x, _), direction in zip(some, u):
                x.mul_(1 - rate * self.weight_decay).add_(direction if x.shape == shape else direction.T, alpha=-rate * 0.2 * math.sqrt(max(shape)))


@torch.no_grad()
def examine(w, vocabulary, pairs):
    """How many of the answers the model draws letter for letter, greedily (what is forced is given)."""
    examples, right = vocabulary.examples(pairs), 0
    for i in range(0, len(examples), 64):
        ids, at, want = batch(examples[i:i + 64])
        hit = forward(w, ids, at).argmax(-1) == want
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
    arg.add_argument("--steps", type=int, default=4500)
    arg.add_argument("--rate", type=float, default=3e-3)
    arg.add_argument("--seed", type=int, default=1)
    arg = arg.parse_args()
    torch.set_num_threads(1)
    libc = ctypes.CDLL(None)  # what a step frees stays with the process: giving it back and asking again costs more than the arithmetic
    libc.mallopt(-3, 1 << 30), libc.mallopt(-1, 1 << 30)
    torch.manual_seed(1)
    os.makedirs(arg.out, exist_ok=True)
    tokens.train(os.path.join(arg.out, "tokenizer.json"))
    vocabulary = tokens.Tokens(os.path.join(arg.out, "tokenizer.json"))
    exam = {"text": [], "phrase": [], "pair": []}  # watched, not what is reported: that has a seed of its own
    for kind, text, answer in generate.held_out(7, 600):
        exam[kind].append((text, answer))

    w = initial()
    average = {n: x.detach().clone() for n, x in w.items()}
    matrices = [x for n, x in w.items() if x.ndim == 2 and "embed" not in n]
    muon = Muon(matrices)
    adam = torch.optim.AdamW([x for n, x in w.items() if x.ndim == 1 or "embed" in n], lr=arg.rate, betas=(0.9, 0.98), weight_decay=0.01)
    step, spent, checkpoint = 0, 0.0, os.path.join(arg.out, "checkpoint.pt")
    if os.path.exists(checkpoint):
        c = torch.load(checkpoint)
        for n in w:
            w[n].data.copy_(c["w"][n])
            average[n].copy_(c["average"][n])
        muon.mean = c["muon"]
        adam.load_state_dict(c["adam"])
        step, spent = c["step"], c["spent"]
    stream, helper = (Stream(w, vocabulary, f"{arg.seed} {which} {step}") for which in range(2))
    helper = Helper(w, helper)
    print(sum(x.numel() for x in w.values()), "parameters", flush=True)
    start, running = time.time() - spent, None
    while step < arg.steps:
        step += 1
        done = step / arg.steps
        rate = arg.rate * min(1, step / 100, 0.02 + (1 - done) / 0.6)  # rises, stays, falls to nothing over the last 60 %
        hard = 0.1 < done < 0.8
        helper.ask(hard)
        loss = gradient(w, *stream.next(hard))
        loss = (loss + helper.add()) / 2
        muon.step(rate)
        adam.param_groups[0]["lr"] = rate
        adam.step()
        with torch.no_grad():
            decay = min(0.995, step / (step + 100))
            for n, x in w.items():
                x.grad = None
                average[n].lerp_(x, 1 - decay)
        running = loss if running is None else 0.98 * running + 0.02 * loss
        if step % 50 == 0:
            print(f"step {step} loss {running:.4f} {time.time() - start:.0f} s", flush=True)
        if step % 500 == 0 or step == arg.steps:
            right = [examine(average, vocabulary, pairs) for pairs in exam.values()]
            print(f"step {step} right of 200 each: " + ", ".join(f"{k} {n}" for k, n in zip(exam, right)), flush=True)
            torch.save({"w": w, "average": average, "muon": muon.mean, "adam": adam.state_dict(), "step": step, "spent": time.time() - start}, checkpoint + ".new")
            os.replace(checkpoint + ".new", checkpoint)
            save(arg.out, average)


if __name__ == "__main__":
    main()
