"""A real slmd for a benchmark, and one JSON-RPC connection to it."""
import json
import os
import socket
import subprocess
import tempfile


class Client:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.file = self.socket.makefile("rw", encoding="utf-8")

    def reply(self, method, **params):
        self.file.write(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}) + "\n")
        self.file.flush()
        return json.loads(self.file.readline())

    def call(self, method, **params):
        reply = self.reply(method, **params)
        if "error" in reply:
            raise SystemExit(f"{method}: {reply['error']}")
        return reply["result"]


class Slmd:
    """Runs while the block does; path is its socket. program: a path, or a list that begins with what runs it."""

    def __init__(self, program, image, slots, arguments):
        self.folder = tempfile.TemporaryDirectory()
        self.path = os.path.join(self.folder.name, "s")
        self.process = subprocess.Popen([*([program] if isinstance(program, str) else program), "--model", image, "--socket", self.path, "--slots", str(slots), *arguments], stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            if "ready:" in line:
                break
        else:
            raise SystemExit("slmd did not become ready")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.folder.cleanup()
