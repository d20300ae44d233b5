"""Saves a GGUF file as a Hugging Face folder, in bfloat16: what slmpack prune takes.

    python3 unpack.py MODEL.gguf FOLDER
"""
import pathlib
import sys

import tune


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    source, folder = sys.argv[1:]
    if pathlib.Path(folder).exists():
        sys.exit(f"unpack: {folder} is there already: name a new folder")
    import torch
    model, tokenizer = tune.load(source, torch.float32)
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    main()
