"""Asks an agent of a running slmd, with a larger model, what it makes of inputs: what tune.py learns from.

    python3 teach.py SOCKET AGENT INPUTS.jsonl > TAUGHT.jsonl

A line of INPUTS.jsonl has "input"; what else it has is passed over. Of an agent that chooses, its likeliest labels are written with their probabilities; of
others the answer, when its verdict is "pass". What was refused or failed is counted on standard error.
"""
import json
import socket
import sys


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    path, agent, inputs = sys.argv[1:]
    s = socket.socket(socket.AF_UNIX)
    try:
        s.connect(path)
    except OSError as e:
        sys.exit(f"teach: {path}: {e.strerror}: is slmd running?")
    lines = s.makefile("rw", encoding="utf-8")
    passed = failed = 0
    for number, line in enumerate(open(inputs, encoding="utf-8"), 1):
        one = json.loads(line)
        print(json.dumps({"jsonrpc": "2.0", "id": number, "method": "run", "params": {"agent": agent, "input": one["input"]}}), file=lines, flush=True)
        reply = {}
        while reply.get("id") != number:
            reply = json.loads(lines.readline())
        result = reply.get("result")
        if result is None:
            print(f"{inputs}:{number}: {reply['error']['message']}", file=sys.stderr)
            failed += 1
            continue
        if result.get("labels"):
            taught = {"input": one["input"], "outputs": {l["label"]: l["probability"] for l in result["labels"]}}
        elif result["verdict"] == "pass":
            taught = {"input": one["input"], "output": result.get("value", result.get("text"))}
        else:
            failed += 1
            continue
        print(json.dumps(taught, ensure_ascii=False), flush=True)
        passed += 1
    print(f"{passed} answers, {failed} without", file=sys.stderr)


if __name__ == "__main__":
    main()
