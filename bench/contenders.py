"""What bench/compare runs: slmd, and llama.cpp as a native build or as the package xllamacpp. Each contender has speed() -> {figure: value} and
start() -> {"first_token_ms", "rss_kib", "pss_kib"}, or only one of them."""
import http.client, json, os, shlex, socket, subprocess, sys, tempfile, time

import machine

PROMPT = "What is the capital of France, and on which river does it lie?"


def run(command):
    r = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    if r.returncode != 0:
        sys.exit(f"{command[0]} failed: {' '.join(r.stderr.strip().splitlines()[-3:])}")
    return json.loads(r.stdout[r.stdout.index("[" if r.stdout.lstrip().startswith("[") else "{"):])


class Started:
    """A program from exec to its first token, then its memory; it is ended when the block is left."""

    def __init__(self, command, **pipes):
        self.begin = time.perf_counter()
        self.process = subprocess.Popen([str(c) for c in command], stderr=subprocess.DEVNULL, **{"stdout": subprocess.DEVNULL, "stdin": subprocess.DEVNULL, **pipes})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def retry(self, ask):
        """Calls ask() until it returns something, every millisecond, while the program lives."""
        while self.process.poll() is None:
            try:
                if answer := ask():
                    return answer
            except (OSError, http.client.HTTPException):
                pass
            time.sleep(0.001)
        sys.exit(f"{self.process.args[0]} ended early: {' '.join(self.process.args)}")

    def measured(self):
        took = (time.perf_counter() - self.begin) * 1e3
        return {"first_token_ms": took, **machine.memory(self.process.pid)}


class Slmd:
    def __init__(self, o):
        self.o, self.name, self.files = o, "slmd", [o.image]

    def speed(self):
        o = self.o
        r = run([f"{o.build}/bench/bench_engine", o.image, "--threads", str(o.threads), "--repeat", str(o.repeat), "--prefill", ",".join(map(str, o.prefill)), "--depth",
                 ",".join(map(str, o.depth)), "--decode", str(o.decode)])
        self.details = {"level": r["level"], "compiler": r["compiler"]}
        return {**{f"prefill_{p['tokens']}": p["tps"] for p in r["prefill"]}, **{f"decode_{d['depth']}": d["tps"] for d in r["decode"]}, 
                "token_bytes": r["weight_bytes"], "file_bytes": os.path.getsize(o.image)}

    def start(self):
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/s"
            request = {"jsonrpc": "2.0", "id": 1, "method": "gen", "params": {"prompt": PROMPT, "raw": True, "max_tokens": 1, "stream": True}}

            def ask():  # the socket appears before the model is loaded; a request meanwhile is refused as busy
                with socket.socket(socket.AF_UNIX) as s:
                    s.connect(path)
                    s.sendall((json.dumps(request) + "\n").encode())
                    answer = s.makefile().readline()
                    return '"tok"' in answer or '"result"' in answer

            with Started([f"{self.o.build}/runtime/daemon/slmd", "--model", self.o.image, "--socket", path, "--threads", self.o.threads, "--context", self.o.context, "--slots", 1]) as slmd:
                slmd.retry(ask)
                return slmd.measured()


class Peer:
    """One of llama.cpp's programs with one file and one set of flags."""

    speed = start = None

    def __init__(self, o, program, gguf, flags=""):
        self.o, self.program, self.gguf, self.flags, self.files = o, program, gguf, shlex.split(flags), [gguf]
        self.name = " ".join([os.path.basename(gguf), os.path.basename(program), *self.flags])
        self.details = {}

    def sizes(self):
        """Of the first of the peer's files, which slmd's are set against; the others are there for speed."""
        return {"file_bytes": os.path.getsize(self.gguf), "token_bytes": os.path.getsize(self.gguf)} if self.gguf == self.o.peer_gguf[0] else {}


class Bench(Peer):
    """llama-bench."""

    def bench(self, *what):
        rows = run([self.program, "-m", self.gguf, "-t", str(self.o.threads), "-r", str(self.o.repeat), "-o", "json", *self.flags, *what])
        self.details = {"build": rows[0]["build_number"], "commit": rows[0]["build_commit"]}
        return rows

    def speed(self):
        o, commas = self.o, lambda v: ",".join(map(str, v))
        rows = self.bench("-p", commas(o.prefill), "-n", "0") + self.bench("-p", "0", "-n", str(o.decode), "-d", commas(o.depth))
        return {**{f"prefill_{r['n_prompt']}" if r["n_prompt"] else f"decode_{r['n_depth']}": r["avg_ts"] for r in rows}, **self.sizes()}


class Launched(Peer):
    def command(self, *more):
        return [self.program, "-m", self.gguf, "-t", self.o.threads, "-c", self.o.context, "--no-warmup", *self.flags, *more]


class Completion(Launched):
    """llama-completion: to the first byte that it writes. 64 tokens, so that it still runs when its memory is read."""

    def start(self):
        with Started(self.command("-p", PROMPT, "-n", 64, "--temp", 0, "--ignore-eos", "-no-cnv", "--no-display-prompt"), stdout=subprocess.PIPE) as peer:
            if not peer.process.stdout.read(1):
                sys.exit(f"{self.program} wrote nothing")
            return peer.measured()


class Server(Launched):
    """llama-server: to the answer of one token."""

    def start(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        request = json.dumps({"prompt": PROMPT, "n_predict": 1, "temperature": 0})

        def ask():
            connection = http.client.HTTPConnection("127.0.0.1", port)
            connection.request("POST", "/completion", request, {"Content-Type": "application/json"})
            return connection.getresponse().status == 200

        with Started(self.command("-np", 1, "--host", "127.0.0.1", "--port", port)) as peer:
            peer.retry(ask)
            return peer.measured()


WHEEL = r"""
import json, sys, time
import xllamacpp as x
a = json.loads(sys.argv[1])
p = x.CommonParams()
p.model.path, p.n_ctx, p.n_parallel, p.warmup = a["gguf"], a["context"], 1, False
p.cpuparams.n_threads = p.cpuparams_batch.n_threads = a["threads"]
start = time.perf_counter()
server = x.Server(p)
request = lambda prompt, n: server.handle_completions({"prompt": prompt, "n_predict": n, "temperature": 0, "ignore_eos": True, "cache_prompt": False})
if a["what"] == "start":
    request(a["prompt"], 1)
    took = (time.perf_counter() - start) * 1e3
    kib = {l.split(":")[0]: int(l.split()[1]) for l in open("/proc/self/smaps_rollup") if l.startswith(("Rss", "Pss:"))}
    print(json.dumps({"first_token_ms": took, "rss_kib": kib["Rss"], "pss_kib": kib["Pss"]}))
else:
    tokens = lambda n: [1000 + 7 * i for i in range(n)]
    request(tokens(8), 4)
    out = {f"prefill_{n}": request(tokens(n), 1)["timings"]["prompt_per_second"] for n in a["prefill"]}
    out |= {f"decode_{d}": request(tokens(max(d, 1)), a["decode"])["timings"]["predicted_per_second"] for d in a["depth"]}
    print(json.dumps(out))
"""


class Wheel(Peer):
    """xllamacpp in a Python interpreter. Its start counts from the creation of its server object, so that Python's own start is left out."""

    def __init__(self, *what):
        super().__init__(*what)
        self.name, self.details = f"{os.path.basename(self.gguf)} xllamacpp", {"package": "xllamacpp"}

    def ask(self, what):
        o = self.o
        return run([self.program, "-c", WHEEL, json.dumps({"what": what, "gguf": self.gguf, "threads": o.threads, "prompt": PROMPT, "context": o.context, "prefill": o.prefill,
                                                           "depth": o.depth, "decode": o.decode})])

    def speed(self):
        return {**self.ask("speed"), **self.sizes()}

    def start(self):
        return self.ask("start")


def peers(o):
    """Every program that was given, with every file and every set of its flags."""
    for gguf in o.peer_gguf:
        if o.peer_bench:
            yield from (Bench(o, o.peer_bench, gguf, flags) for flags in o.peer_flags or ["-fa 1"])
        for kind, program in ((Completion, o.peer_completion), (Server, o.peer_server)):
            if program:
                yield from (kind(o, program, gguf, flags) for flags in o.peer_start_flags or ["-fa on", "-fa on --no-repack"])
        if o.peer_python:
            yield Wheel(o, o.peer_python, gguf)
