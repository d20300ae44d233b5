"""llama.cpp's server for a benchmark, by the package xllamacpp, in a process of its own."""
import http.client
import json
import socket
import subprocess
import time

PROGRAM = """
import sys, time, xllamacpp as x
p = x.CommonParams()
p.model.path, p.port, p.n_ctx, p.n_parallel, p.cpuparams.n_threads, p.use_jinja = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), 1, int(sys.argv[4]), True
s = x.Server(p)
print("listening", flush=True)
time.sleep(1e6)
"""


class Peer:
    """Runs while the block does. python: one that has the package."""

    def __init__(self, python, model, threads, context=4096):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.process = subprocess.Popen([python, "-c", PROGRAM, model, str(self.port), str(context), str(threads)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        if "listening" not in self.process.stdout.readline():
            raise SystemExit(f"{python}: llama.cpp's server did not start; has it the package xllamacpp?")
        while self.ask("/health", None)[0] != 200:
            time.sleep(0.1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def ask(self, path, body):
        """(status, answer). body: an object to post; None: GET."""
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        c.request("GET" if body is None else "POST", path, None if body is None else json.dumps(body), {"Content-Type": "application/json"})
        r = c.getresponse()
        return r.status, json.loads(r.read() or b"null")

    def call(self, path, body):
        status, answer = self.ask(path, body)
        if status != 200:
            raise SystemExit(f"{path}: {status} {answer}")
        return answer
