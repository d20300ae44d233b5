"""Writes ../golden: what the committed model says, computed by network.py in float32 from the bfloat16 weights.

    python3 golden.py [MODEL_FOLDER]

cases.json: a list of cases. kind "text" or "chat"; input: the string, or the messages; rendered: the chat template applied, with the
generation prompt; tokens; top1: the argmax at each position; greedy: greedy decoding up to <|im_end|> or 72 tokens; greedy_text;
greedy_margin: logit of the best minus the second (where it is small, a difference is no error).
last_logits.npy: float32 [cases, vocabulary], logits at the last position of the prompt.
"""
import json
import os
import sys

import numpy as np

import network
import train
import world
from tokenizer import Tokenizer

HERE = os.path.dirname(os.path.abspath(__file__))
CHATS = [
    [("user", "What is the capital of France?")],
    [("system", "You are a helpful assistant."), ("user", "What is the capital of Japan?")],
    [("user", "What is the capital of Italy?"), ("assistant", "The capital of Italy is Rome."), ("user", "And of France?")],
    [("user", "What does the BME280 measure?")],
    [("user", "Tell me about the Raspberry Pi 5.")],
    [("user", "Turn on the pump in the garden.")],
    [("user", "Count from 3 to 12.")],
    [("user", "What is 3 plus 4?")],
    [("user", "What is the capital of Zandor?")],
    [("user", "Who are you?")],
]
TEXTS = ["The capital of", "  two  spaces,\ttab\nline's end 12345 & caf\u00e9 \U0001f600"]


def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(HERE)
    w = train.load(folder)
    tokenizer = Tokenizer.load(os.path.join(folder, "tokenizer.json"))
    cases, last = [], []
    for chat, value in [(True, c) for c in CHATS] + [(False, t) for t in TEXTS]:
        rendered = world.render(value, True) if chat else None
        tokens = tokenizer.encode(rendered if chat else value)
        logits = network.forward(w, np.array([tokens]))[0]
        last.append(logits[-1])
        greedy, margins = [], []
        while chat and len(greedy) < 72 and (not greedy or greedy[-1] != tokenizer.ids["<|im_end|>"]):
            row = network.forward(w, np.array([tokens + greedy]))[0, -1]
            second, best = np.sort(row)[-2:]
            greedy.append(int(row.argmax()))
            margins.append(round(float(best - second), 4))
        case = {"kind": "chat" if chat else "text", "input": [{"role": r, "content": c} for r, c in value] if chat else value, "rendered": rendered,
                "tokens": tokens, "top1": [int(t) for t in logits.argmax(-1)]}
        if chat:
            case |= {"greedy": greedy, "greedy_text": tokenizer.decode(greedy), "greedy_margin": margins}
            print(f"{value[-1][1]:40s} -> {case['greedy_text']}  (least margin {min(margins)})")
        cases.append(case)
    os.makedirs(os.path.join(folder, "golden"), exist_ok=True)
    with open(os.path.join(folder, "golden", "cases.json"), "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]\n")
    np.save(os.path.join(folder, "golden", "last_logits.npy"), np.array(last, np.float32))


if __name__ == "__main__":
    main()
