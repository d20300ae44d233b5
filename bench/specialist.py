#!/usr/bin/env python3
"""The built-in specialist through slmd, as a program on the board asks it: how many commands are understood to the letter, how long each takes, what memory it needs.

    bench/specialist.py [--image models/specialist/board.slm] [--build build/release] [--heldout 3000] [--out bench/results/specialist.md]

Commands go as `run` of models/agents/board.toml over the Unix socket, to an slmd on a simulated board. An answer is right when its calls, in their order,
with all arguments and nothing else, are those that are expected, or when it is "not for me" where that is. What slmd then does on the board does not count here.
"""
import argparse, json, os, resource, socket, statistics, subprocess, sys, tempfile, time

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
        self.call("status", {})
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
    arg.add_argument("--out")
    arg = arg.parse_args()
    board = Board(arg.build, arg.image, arg.threads)
    sets = {"heldout": [{"input": t, "output": a, "held": k} for k, t, a in generate.held_out(arg.seed, arg.heldout)], "hand": read("hand.jsonl"), "second": read("hand-second.jsonl")}
    rows, failures = {}, {n: [] for n in sets}
    with machine.Watch() as watch:
        for name, items in sets.items():
            rows[name] = ask(board, items, failures[name])
    for kind in ("text", "phrase", "pair"):
        part = [ok for ok, item in zip(rows["heldout"][0], sets["heldout"]) if item["held"] == kind]
        print(f"held-out {kind}: {sum(part)} of {len(part)}")
    for name, (right, times, _) in rows.items():
        print(f"{name}: {sum(right)} of {len(right)}, {100 * sum(right) / len(right):.1f} %, p50 {statistics.median(times):.2f} ms, p95 {sorted(times)[len(times) * 95 // 100]:.2f} ms")
    pss, peak = board.memory()
    board.end()
    print(f"ready after {board.ready_ms:.0f} ms, PSS {pss} KiB, peak {peak} KiB, others used {watch.others():.2f} cores")
    if arg.failures:
        for text, want, got in failures[arg.failures]:
            print(json.dumps(text), "\n   want", json.dumps(want), "\n   got ", json.dumps(got))


if __name__ == "__main__":
    main()
