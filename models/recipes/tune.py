"""Trains a model for one agent: an adapter (LoRA), or with --full all of its weights, to heal a model that was pruned.

    python3 tune.py --base MODEL --agent AGENT.toml --data TRAIN.jsonl --out FOLDER [--rank 16] [--epochs 1] [--full] [--teacher MODEL]

MODEL is a Hugging Face folder or a GGUF file. AGENT.toml is the agent that will run on the board: what is learned is the answer to exactly the prompt that slmd
will ask. A line of TRAIN.jsonl is one of
    {"input": "book a table", "output": "book restaurant"}                    as for slmctl calibrate; input may be an object of fields
    {"input": "book a table", "outputs": {"book restaurant": 0.9, "other": 0.1}}   a teacher's answers and how sure it was (teach.py)
    {"messages": [..., {"role": "assistant", "content": "book restaurant"}]}       slmctl ledger export --pairs
With --teacher the answer's tokens are learned from that model's probabilities, too (half of the loss): it has to have the same vocabulary.

FOLDER is what slmpack adapter takes, with --full what slmpack quantize and import take. README.md has the whole way.
"""
import argparse
import json
import math
import pathlib
import random
import re
import sys
import time
import tomllib


def fail(what):
    sys.exit(f"tune: {what}")


class Agent:
    """What slmd asks for an input: messages, and the answer as it writes it."""

    def __init__(self, path):
        try:
            self.table = tomllib.loads(pathlib.Path(path).read_text())
        except (OSError, tomllib.TOMLDecodeError) as e:
            fail(f"{path}: {e}")
        self.fields = list(self.table.get("input", {}))
        if not self.fields or "prompt" not in self.table:
            fail(f"{path}: an agent has a prompt and [input.NAME]")
        for key in ("system", "prompt"):
            if "{labels}" in self.table.get(key, ""):
                fail(f"{path}: {key} tells the labels, {{labels}}; a trained agent needs no such list, and its prompt is shorter without")
        choice = self.table.get("output", {}).get("choice")
        self.labels = choice and [c if isinstance(c, str) else c["label"] for c in choice] + ["none"] * bool(self.table["output"].get("none"))
        self.shots = [e for e in self.table.get("example", []) if e.get("show")]

    def prompt(self, value):
        values = value if isinstance(value, dict) else {self.fields[0]: value}
        if set(values) != set(self.fields):
            fail(f"the input {json.dumps(value)[:80]} has not the agent's fields {', '.join(self.fields)}")
        return re.sub(r"\{(\w+)\}", lambda m: str(values[m[1]]) if m[1] in values else m[0], self.table["prompt"])

    def answer(self, value):
        if self.labels is not None and value not in self.labels:
            fail(f"\"{value}\" is none of the agent's labels")
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))

    def messages(self, value):
        out = [{"role": "system", "content": self.table["system"]}] if self.table.get("system") else []
        for shot in self.shots:
            out += [{"role": "user", "content": self.prompt(shot["input"])}, {"role": "assistant", "content": self.answer(shot["output"])}]
        return out + [{"role": "user", "content": self.prompt(value)}]


def examples(agent, path, tokenizer):
    """(prompt tokens, answer tokens, weight) of each line."""
    out = []
    for number, line in enumerate(pathlib.Path(path).read_text().splitlines(), 1):
        if not line.strip():
            continue
        try:
            one = json.loads(line)
        except json.JSONDecodeError as e:
            fail(f"{path}:{number}: {e}")
        if "messages" in one:
            messages, answers = one["messages"][:-1], {one["messages"][-1]["content"]: 1.0}
        elif "input" in one and ("output" in one or one.get("outputs")):
            messages = agent.messages(one["input"])
            told = one["outputs"] if "outputs" in one else {agent.answer(one["output"]): 1.0}
            answers = {agent.answer(text): p / sum(told.values()) for text, p in told.items() if p / sum(told.values()) >= 0.01}
        else:
            fail(f"{path}:{number}: a line has input and output, input and outputs, or messages")
        before = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        prompt = tokenizer(before, add_special_tokens=False)["input_ids"]
        for text, weight in answers.items():
            whole = tokenizer.apply_chat_template(messages + [{"role": "assistant", "content": text}], tokenize=False)
            if not whole.startswith(before):
                fail("this chat template changes what came before when an answer follows")
            out.append((prompt, tokenizer(whole[len(before):].rstrip(), add_special_tokens=False)["input_ids"], weight))
    if not out:
        fail(f"{path} is empty")
    return out


def batches(data, size, rng):
    """Alike in length, in random order."""
    order = sorted(data, key=lambda e: len(e[0]) + len(e[1]) + rng.random())
    cut = [order[i:i + size] for i in range(0, len(order), size)]
    rng.shuffle(cut)
    return cut


def common(data):
    """The tokens that every prompt begins with, all but the last one at most: the agent's static prompt."""
    first, last = min(p for p, _, _ in data), max(p for p, _, _ in data)
    most = min(len(p) for p, _, _ in data) - 1
    return first[:next((i for i in range(most) if first[i] != last[i]), most)]


def load(path, dtype):
    from transformers import AutoModelForCausalLM, AutoTokenizer
    p = pathlib.Path(path)
    where = dict(pretrained_model_name_or_path=str(p.parent), gguf_file=p.name) if p.suffix == ".gguf" else dict(pretrained_model_name_or_path=path)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(**where, dtype=dtype), AutoTokenizer.from_pretrained(**where)
    if p.suffix == ".gguf":  # it is no quantized model any more, and can be saved
        model.hf_quantizer = None
        del model.config.quantization_config
    return model, tokenizer


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--base", "--agent", "--data", "--out"):
        parser.add_argument(name, required=True)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--epochs", type=float, default=1)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, help="default: 1e-3, with --full 1e-4")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--teacher")
    parser.add_argument("--seed", type=int, default=1)
    o = parser.parse_args()
    if pathlib.Path(o.out).exists():
        fail(f"{o.out} is there already: name a new folder")

    import torch
    import torch.nn.functional as F
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(o.seed)
    rng = random.Random(o.seed)
    model, tokenizer = load(o.base, torch.float32)
    data = examples(Agent(o.agent), o.data, tokenizer)
    teacher = load(o.teacher, torch.float32)[0].to(device).eval() if o.teacher else None
    if teacher is not None and teacher.config.vocab_size != model.config.vocab_size:
        fail("the teacher has another vocabulary: let it answer with teach.py, and train on that")
    if not o.full:
        from peft import LoraConfig, get_peft_model
        model = get_peft_model(model, LoraConfig(r=o.rank, lora_alpha=2 * o.rank, target_modules="all-linear", task_type="CAUSAL_LM"))
    model.to(device).train()
    trained = [p for p in model.parameters() if p.requires_grad]
    lr = o.lr or (1e-4 if o.full else 1e-3)
    optimizer = torch.optim.AdamW(trained, lr=lr, weight_decay=0.01)
    steps = max(1, math.ceil(o.epochs * math.ceil(len(data) / o.batch)))
    # a slice of rows is multiplied by the output matrix row by row, in several times the time of one product
    model.get_output_embeddings().register_forward_pre_hook(lambda _, given: (given[0].contiguous(),))
    static = common(data)
    data = [(p[len(static):], a, w) for p, a, w in data]

    def answers_of(model, ids, mask, first):
        """Log-probabilities [batch, positions from first, vocab]. The static prompt is computed once for the batch; its keys and values stand before each row's own."""
        before = {}
        if static:
            cache = model(input_ids=torch.tensor([static], device=device), use_cache=True, logits_to_keep=1).past_key_values
            cache.batch_repeat_interleave(len(ids))
            before = dict(past_key_values=cache, use_cache=True)
        seen = torch.cat([torch.ones(len(ids), len(static), dtype=torch.long, device=device), mask], 1)
        return model(input_ids=ids, attention_mask=seen, logits_to_keep=ids.shape[1] - first, **before).logits[:, :-1].log_softmax(-1)

    print(f"{len(data)} answers, {sum(p.numel() for p in trained)} weights to train, {steps} steps on {device}", flush=True)

    step, begun, seen = 0, time.time(), []
    while step < steps:
        for batch in batches(data, o.batch, rng):
            if step == steps:
                break
            longest = max(len(p) + len(a) for p, a, _ in batch)
            ids = torch.zeros(len(batch), longest, dtype=torch.long)
            mask, weight = torch.zeros_like(ids), torch.zeros(len(batch), longest)
            for row, (prompt, answer, w) in enumerate(batch):
                n = len(prompt) + len(answer)
                ids[row, :n] = torch.tensor(prompt + answer)
                mask[row, :n] = 1
                weight[row, len(prompt):n] = w
            ids, mask, weight = ids.to(device), mask.to(device), weight.to(device)
            for group in optimizer.param_groups:
                group["lr"] = lr * min(1, (step + 1) / (0.05 * steps + 1)) * 0.5 * (1 + math.cos(math.pi * step / steps))
            # of the output only what answers is needed
            first = min(len(p) for p, _, _ in batch) - 1
            logits = answers_of(model, ids, mask, first)
            target, w = ids[:, first + 1:], weight[:, first + 1:]
            loss = -(logits.gather(-1, target[..., None])[..., 0] * w).sum() / w.sum()
            if teacher is not None:
                with torch.no_grad():
                    told = answers_of(teacher, ids, mask, first)
                loss = (loss + (F.kl_div(logits, told, log_target=True, reduction="none").sum(-1) * w).sum() / w.sum()) / 2
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            step += 1
            seen.append(loss.item())
            if step % 10 == 0 or step == steps:
                left = (time.time() - begun) / step * (steps - step)
                print(f"step {step} of {steps}: loss {sum(seen) / len(seen):.4f}, {left / 60:.0f} min left", flush=True)
                seen = []
    if o.full:
        model.to(torch.bfloat16)
    model.save_pretrained(o.out)
    if o.full:
        tokenizer.save_pretrained(o.out)


if __name__ == "__main__":
    main()
