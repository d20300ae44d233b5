#!/usr/bin/env python3
"""The built-in specialist through slmd, as a program on the board asks it: how many commands are understood to the letter, how long each takes, what memory it needs.

    bench/specialist.py [--image models/specialist/board.slm] [--build build/release] [--heldout 3000] [--failures SET]

Commands go as `run` of models/agents/board.toml over the Unix socket, to an slmd on a simulated board. An answer is right when its calls, in their order,
with all arguments and nothing else, are those that are expected, or when it is "not for me" where that is. What slmd then does on the board does not count here.
"""
import argparse, json, os, socket, statistics, subprocess, sys, tempfile, time, tomllib

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path += [os.path.join(ROOT, "bench"), os.path.join(ROOT, "models/specialist")]
import generate
import machine


class Board:
    """slmd on a simulated board with eight outputs."""

    def __init__(self, build, image, threads, arguments=()):
        self.folder = tempfile.TemporaryDirectory(prefix="slmd-specialist.")
        at = self.folder.name
        lines = ["red_light", "yellow_light", "green_light", "white_light", "valve_1", "pump_1", "fan", "heater"]
        with open(at + "/board.sim", "w") as f:
            f.write("board pi-zero-2\n0 thermal 41\n0 thermal.throttle 80\n" + "".join(f"0 gpio.{l} open\n" for l in lines))
        with open(at + "/slmd.toml", "w") as f:
            f.write(f'agents = ["{ROOT}/models/agents"]\n[engine]\nthreads = {threads}\n[socket]\ntrusted = true\n[board]\nhardware = "sim:{at}/board.sim"\n')
            f.write("".join(f'[[output]]\nname = "{l}"\nline = "{l}"\nmax_pulse_ms = 0\n' for l in lines))
        self.log = open(at + "/log", "w")
        start = time.monotonic()
        self.process = subprocess.Popen([os.path.join(build, "runtime/daemon/slmd"), "--config", at + "/slmd.toml", "--model", image, "--socket", at + "/socket", *arguments],
                                        stdout=self.log, stderr=self.log)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        while True:
            try:
                self.socket.connect(at + "/socket")
                break
            except OSError:
                if self.process.poll() is not None or time.monotonic() > start + 60:
                    sys.exit(open(at + "/log").read())
                time.sleep(0.005)
        self.file = self.socket.makefile("rb")
        self.number = 0
        while self.call("run", {"agent": "board", "input": "hello"}).get("error", {}).get("code") == 262:  # the model is being loaded
            time.sleep(0.002)
        self.ready_ms = (time.monotonic() - start) * 1000

    def call(self, method, params):
        self.number += 1
        self.socket.sendall((json.dumps({"jsonrpc": "2.0", "id": self.number, "method": method, "params": params}) + "\n").encode())
        while True:
            line = self.file.readline()
            if not line:
                sys.exit(open(self.folder.name + "/log").read())
            m = json.loads(line)
            if m.get("id") == self.number:
                return m

    def command(self, text):
        """Answer in the form of the sets, and the milliseconds from the request to its last byte."""
        start = time.perf_counter()
        m = self.call("run", {"agent": "board", "input": text})
        ms = (time.perf_counter() - start) * 1000
        if "error" in m:
            return m["error"], ms, m
        r = m["result"]
        if r.get("calls"):
            return {"calls": [{"name": c["name"], "arguments": c["arguments"]} for c in r["calls"]]}, ms, r
        return {"text": r.get("text", "")}, ms, r

    def memory(self):
        with open(f"/proc/{self.process.pid}/smaps_rollup") as f:
            pss = next(int(l.split()[1]) for l in f if l.startswith("Pss:"))
        with open(f"/proc/{self.process.pid}/status") as f:
            peak = next(int(l.split()[1]) for l in f if l.startswith("VmHWM:"))
        return pss, peak

    def end(self):
        self.process.terminate()
        self.process.wait()


def read(name):
    with open(os.path.join(ROOT, "models/specialist", name)) as f:
        return [json.loads(l) for l in f]


def ask(board, items, failures=None):
    """Right answers, and what each took."""
    right, times, results = [], [], []
    for item in items:
        got, ms, r = board.command(item["input"])
        right.append(got == json.loads(item["output"]))
        times.append(ms)
        results.append(r)
        if not right[-1] and failures is not None:
            failures.append((item["input"], json.loads(item["output"]), got))
    return right, times, results


def main():
    arg = argparse.ArgumentParser()
    arg.add_argument("--image", default=os.path.join(ROOT, "models/specialist/board.slm"))
    arg.add_argument("--build", default=os.path.join(ROOT, "build/release"))
    arg.add_argument("--heldout", type=int, default=3000)
    arg.add_argument("--seed", type=int, default=2026)
    arg.add_argument("--threads", type=int, default=1)
    arg.add_argument("--failures", choices=["heldout", "hand", "second"], help="print what went wrong in this set")
    arg.add_argument("--out", help="write the tables there, too")
    arg = arg.parse_args()
    sets = {"heldout": [{"input": t, "output": a, "held": k} for k, t, a in generate.held_out(arg.seed, arg.heldout)], "hand": read("hand.jsonl"), "second": read("hand-second.jsonl")}
    board = Board(arg.build, arg.image, arg.threads)
    rows, failures = {}, {n: [] for n in sets}
    with machine.Watch() as watch:
        for name, items in sets.items():
            rows[name] = ask(board, items, failures[name])
    pss, peak = board.memory()
    board.end()
    plan = subprocess.run([os.path.join(arg.build, "runtime/client/slmctl"), "plan", arg.image], capture_output=True, text=True, check=True).stdout
    planned = int(next(l for l in plan.splitlines() if " total " in l).split()[0])

    by_kind = {k: [ok for ok, item in zip(rows["heldout"][0], sets["heldout"]) if item["held"] == k] for k in ("text", "phrase", "pair")}
    named = {"hand": ("written by hand before the generator", rows["hand"][0]), "second": ("the second set by hand, as old", rows["second"][0]), "heldout": ("held out, all", rows["heldout"][0]),
             "text": ("held out: texts that training has not", by_kind["text"]), "pair": ("held out: pairs of phrase and device that training has not", by_kind["pair"]),
             "phrase": ("held out: phrases and words that training has not", by_kind["phrase"])}
    out = ["| commands | number | right to the letter |", "| --- | --- | --- |"]
    out += [f"| {what} | {len(ok)} | {sum(ok)}, {100 * sum(ok) / len(ok):.1f} % |" for what, ok in named.values()]
    threshold = tomllib.load(open(os.path.join(ROOT, "models/agents/board.toml"), "rb")).get("confidence", {}).get("threshold", 0)
    out += ["", f"| commands that call something | wrong | of them not sure enough (below {threshold:g}) | right | of them not sure enough |", "| --- | --- | --- | --- | --- |"]
    for name, what in {"hand": "written by hand", "second": "the second set by hand", "heldout": "held out"}.items():
        sure = {good: [r["confidence"] >= threshold for ok, r in zip(rows[name][0], rows[name][2]) if r.get("calls") and ok == good] for good in (False, True)}
        out.append(f"| {what} | {len(sure[False])} | {sure[False].count(False)} | {len(sure[True])} | {sure[True].count(False)} |")
    times = sorted(t for r in rows.values() for t in r[1])
    tokens = [r["tokens"] for row in rows.values() for r in row[2] if "tokens" in r]
    prompts = [r["prompt_tokens"] for row in rows.values() for r in row[2] if "prompt_tokens" in r]
    out += ["", "| | |", "| --- | --- |", f"| a command, request to reply on the socket, p50 | {statistics.median(times):.2f} ms |", f"| p95 | {times[len(times) * 95 // 100]:.2f} ms |",
            f"| tokens of the prompt, mean | {statistics.mean(prompts):.1f} |", f"| tokens of the answer, mean, those that are forced included | {statistics.mean(tokens):.1f} |",
            f"| image | {os.path.getsize(arg.image):,} bytes |", f"| memory, planned (`slmctl plan`) | {planned / 1048576:.1f} MiB |", f"| memory after all of it (PSS) | {pss / 1024:.1f} MiB |",
            f"| peak (VmHWM, pages of shared libraries counted whole) | {peak / 1024:.1f} MiB |", f"| from exec to the first reply | {board.ready_ms:.0f} ms |"]
    m = machine.describe()
    out += ["", f"{m['cpu']}, {m['cores']} cores, {arg.threads} thread(s), {m['date']}, commit {m['commit']}; others used {watch.others():.2f} cores meanwhile, so times are upper bounds. `{' '.join(['bench/specialist.py', *sys.argv[1:]])}`"]
    print("\n".join(out))
    if arg.out:
        with open(arg.out, "w") as f:
            f.write("\n".join(out) + "\n")
    if arg.failures:
        for text, want, got in failures[arg.failures]:
            print(json.dumps(text), "\n   want", json.dumps(want), "\n   got ", json.dumps(got))


if __name__ == "__main__":
    main()
