#!/usr/bin/env python3
"""Labelled files for slmpack eval --task, from the intent data sets of SNIPS and CLINC150 as they are published.

  intents.py snips FOLDER > snips.tsv           the folders of the intents, with validate_INTENT.json in each: 700 lines, 7 labels
  intents.py clinc150 data_full.json > clinc150.tsv    its part "test": 4500 lines, 150 labels
  intents.py snips FOLDER --lines FOLDER         for slmctl: calibrate.jsonl (the first 100 lines of each label's training part), test.jsonl (the 700 lines)
  intents.py clinc150 data_full.json --agent > clinc150.toml    an agent that is told the labels, and that there may be none
  intents.py snips FOLDER --prompt N > prompt.txt      for --prompt @prompt.txt: N examples of each label from train_INTENT.json, then the text
  intents.py clinc150 data_oos_plus.json --lines FOLDER    for models/recipes and slmctl: train.jsonl (15,000 lines, and twice the 250 out of scope), calibrate.jsonl
                                                       (the parts val and oos_val, 3,100 lines), test.jsonl (5,500 lines, 1,000 of them out of scope); out of scope is "none".
                                                       For an agent that was not trained: mixed.jsonl (1,575 lines of val, oos_val and oos_train: as many of them out of
                                                       scope as in test.jsonl), to calibrate with

A line is a text, a tab and its label, in words: "search screening event", "pto request". White space within a text becomes one space.
"""
import json
import pathlib
import re
import sys


def snips(folder, part="validate", most=None):
    for path in sorted(pathlib.Path(folder).glob(f"*/{part}_*[a-z].json")):
        if path.stem.endswith("_full"):
            continue
        for intent, examples in json.loads(path.read_text(encoding="utf-8")).items():
            for example in examples[:most]:
                yield "".join(part["text"] for part in example["data"]), re.sub("(?<!^)(?=[A-Z])", " ", intent).lower()


def clinc150(path, part="test"):
    for text, intent in json.loads(pathlib.Path(path).read_text(encoding="utf-8"))[part]:
        yield text, "none" if intent == "oos" else intent.replace("_", " ")


def main():
    sys.stdout.reconfigure(encoding="utf-8")
    if len(sys.argv) == 5 and sys.argv[1] == "snips" and sys.argv[3] == "--prompt":
        examples, count = list(snips(sys.argv[2], "train", int(sys.argv[4]))), int(sys.argv[4])
        # One of each label, then the next of each: a model leans to what it read last.
        for text, label in [e for i in range(count) for e in examples[i::count]]:
            print(f"Text: {' '.join(text.split())}\nIntent: {label}\n")
        print("Text: {text}\nIntent: {label}")
        return
    if len(sys.argv) == 5 and sys.argv[1] in ("snips", "clinc150") and sys.argv[3] == "--lines":
        if sys.argv[1] == "snips":
            files = {"calibrate": snips(sys.argv[2], "train", 100), "test": snips(sys.argv[2])}
        else:
            parts_of = {"train": ["train", "oos_train", "oos_train"], "calibrate": ["val", "oos_val"], "test": ["test", "oos_test"]}
            files = {name: [e for part in parts for e in clinc150(sys.argv[2], part)] for name, parts in parts_of.items()}
            within, outside = list(clinc150(sys.argv[2], "val")), [e for part in ("oos_val", "oos_train") for e in clinc150(sys.argv[2], part)]
            count = len(outside) * 9 // 2
            files["mixed"] = [within[i * len(within) // count] for i in range(count)] + outside
        for name, examples in files.items():
            with open(pathlib.Path(sys.argv[4]) / f"{name}.jsonl", "w", encoding="utf-8") as out:
                for text, label in examples:
                    print(json.dumps({"input": " ".join(text.split()), "output": label}, ensure_ascii=False), file=out)
        return
    if len(sys.argv) == 4 and sys.argv[1] == "clinc150" and sys.argv[3] == "--agent":
        labels = sorted({label for _, label in clinc150(sys.argv[2])})
        print(f'''description = "The 150 intents of CLINC150, told in the prompt, or none of them"
system = "Intents: {{labels}}"
prompt = """Text: {{text}}

Which intent has the text? Answer with the intent alone."""

[input.text]
max = 500

[output]
choice = {json.dumps(labels)}
none = true''')
        return
    if len(sys.argv) != 3 or sys.argv[1] not in ("snips", "clinc150"):
        sys.exit(__doc__)
    for text, label in {"snips": snips, "clinc150": clinc150}[sys.argv[1]](sys.argv[2]):
        print(" ".join(text.split()), label, sep="\t")


if __name__ == "__main__":
    main()
