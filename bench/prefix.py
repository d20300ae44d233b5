#!/usr/bin/env python3
"""The first call of an agent after a start: its prompt computed, and its prompt as it was kept in the state folder.

  prefix.py IMAGE [--tokens N] [--times N] [--slmd PROGRAM] [-- ARGUMENTS of slmd]

An agent with about N tokens (1000) of rules is asked the same once after each start, in turn with an empty and with a filled state folder. Prints the medians of the
request's milliseconds, as the client sees them, their ratio, and the size of what was kept; the answers must be the same, bit by bit.
"""
import argparse
import os
import pathlib
import statistics
import tempfile
import time

from wire import Client, Slmd

RULE = "Rule {}: when a valve of unit {} reports a pressure above {} bar, the message goes to the shift that is on duty there. "


def agent(folder, rules):
    text = "".join(RULE.format(i, i * 7 % 41, 3 + i * 5 % 17) for i in range(rules))
    (folder / "rules.toml").write_text(
        f"system = '{text}'\nprompt = 'Message: {{message}} Is somebody to be told, yes or no?'\ninput.message.max = 200\noutput.choice = ['yes', 'no']\n")


def ask(program, image, arguments, agents, state):
    with Slmd(program, image, 1, ["--agents", str(agents), "--state", str(state), *arguments]) as slmd:
        client = Client(slmd.path)
        begin = time.perf_counter()
        result = client.call("run", agent="rules", input="Unit 12 says 14 bar.")
        ms = (time.perf_counter() - begin) * 1e3
        client.socket.close()
        for _ in range(200):  # it is kept when nothing else is to be done
            if list(state.glob("*.kv")):
                break
            time.sleep(0.05)
    return ms, result["labels"], result["prompt_tokens"]


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("image")
    parser.add_argument("--tokens", type=int, default=1000)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--slmd", default="build/release/runtime/daemon/slmd")
    parser.add_argument("arguments", nargs="*")
    a = parser.parse_args()
    fresh, kept = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "agents").mkdir()
        rules = max(2, a.tokens // 34)
        agent(folder / "agents", rules)
        answers, size = [], 0
        for i in range(a.times):
            state = folder / f"state{i}"
            state.mkdir()
            (state / "threads").write_text("")
            ms, labels, tokens = ask(a.slmd, a.image, a.arguments, folder / "agents", state)
            fresh.append(ms)
            answers.append(labels)
            size = sum(os.path.getsize(f) for f in state.glob("*.kv"))
            ms, labels, tokens = ask(a.slmd, a.image, a.arguments, folder / "agents", state)
            kept.append(ms)
            answers.append(labels)
    if any(x != answers[0] for x in answers):
        raise SystemExit("the answers are not the same")
    computed, read = statistics.median(fresh), statistics.median(kept)
    print(f"{tokens} tokens: computed {computed:.0f} ms, kept {read:.0f} ms: {read / computed:.3f} of the time; {size / 1e6:.2f} MB kept; {len(answers)} answers, all the same")


if __name__ == "__main__":
    main()
