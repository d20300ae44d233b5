#!/usr/bin/env python3
"""What must not leave does not: requests by the thousand, with processes killed at random, damaged files of agents and a cut privacy
switch, while the packets of the uplink's network are counted. slmd runs where there is no network at all.

  nothing_leaves.py BUILD [REQUESTS]       exit status 77: this machine gives no network namespaces
"""
import json
import os
import pwd
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.path.abspath(sys.argv[1])
REQUESTS = int(sys.argv[2]) if len(sys.argv) > 2 else 10000
SLMD, SLM_UPLINK = (os.path.join(BUILD, p) for p in ("runtime/daemon/slmd", "runtime/uplink/slm-uplink"))
SERVER = """
import http.server, json
class Answer(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps({"model": "m", "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "yes"}}],
                           "usage": {"prompt_tokens": 1, "completion_tokens": 1}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *a): pass
http.server.HTTPServer(("127.0.0.1", 8000), Answer).serve_forever()
"""
AGENT = """prompt = 'What is it about? {text}'
escalate = 'unsure'
input.text = { max = 2000 }
output = { text = 200 }
[remote]
policy = '%s'
wait = true
[[check]]
kind = 'regex'
pattern = 'about .*'
"""
random.seed(7)

if subprocess.run(["unshare", "-n", "true"], capture_output=True).returncode != 0 or os.geteuid() != 0:
    print("SKIPPED: nothing_leaves needs root and network namespaces; run it as root on a machine that has them")
    sys.exit(77)

work = tempfile.mkdtemp(prefix="slmd-test-")
for name in ("agents", "state", "box"):
    os.mkdir(f"{work}/{name}")
subprocess.run([os.path.join(BUILD, "slmpack"), "import", os.path.join(HERE, "../../models/tiny"), "-o", f"{work}/tiny.slm"], check=True, capture_output=True)
with open(f"{work}/board.sim", "w") as f:
    f.write("board pi-5\nmodel Raspberry Pi 5 Model B\n0 gpio.SWITCH open\n")
with open(f"{work}/uplink.toml", "w") as f:
    f.write(f"slmd = '{work}/up.sock'\nstate = '{work}/box'\n[[upstream]]\nname = 'stub'\nurl = 'http://127.0.0.1:8000/v1'\nplaintext = true\nmodel = 'm'\n")
children = []
net = subprocess.Popen(["unshare", "-n", "sh", "-c", f"ip link set lo up && exec {sys.executable} -c '{SERVER}'"])
children.append(net)


def packets(pid):
    """Of all interfaces of its network, both ways; and how many of them are up."""
    with open(f"/proc/{pid}/net/dev") as f:
        rows = [line.split(":") for line in f.readlines()[2:]]
    return {name.strip(): int(numbers.split()[1]) + int(numbers.split()[9]) for name, numbers in rows}


class Process:
    def __init__(self, command, log):
        self.command, self.log, self.process = command, log, None
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.command, stdout=open(self.log, "ab"), stderr=subprocess.STDOUT)
        children.append(self.process)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def slmd(privacy):
    config = f"{work}/slmd.toml"
    with open(config, "w") as f:
        f.write(f"[uplink]\nsocket = '{work}/up.sock'\nuser = '{pwd.getpwuid(0).pw_name}'\n[board]\nhardware = 'sim:{work}/board.sim'\n")
        f.write("[pins]\nprivacy = 'SWITCH'\n" if privacy else "")
    return Process(["unshare", "-n", SLMD, "--config", config, "--model", f"{work}/tiny.slm", "--socket", f"{work}/slmd.sock", "--state", f"{work}/state",
                    "--agents", f"{work}/agents"], f"{work}/slmd.log")


class Wire:
    def __init__(self):
        self.socket, self.file = None, None

    def call(self, method, **params):
        """None: it went away."""
        for _ in range(600):
            try:
                if self.socket is None:
                    self.socket = socket.socket(socket.AF_UNIX)
                    self.socket.settimeout(60)
                    self.socket.connect(f"{work}/slmd.sock")
                    self.file = self.socket.makefile("rw")
                self.file.write(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}) + "\n")
                self.file.flush()
                line = self.file.readline()
                if line:
                    reply = json.loads(line)
                    if reply.get("error", {}).get("data", {}).get("code") != 262 and "being loaded" not in line:
                        return reply
            except (OSError, ValueError):
                pass
            self.socket = None
            time.sleep(0.05)
        raise SystemExit("slmd did not come back: " + open(f"{work}/slmd.log").read()[-2000:])


def write_agents(kind):
    for name in os.listdir(f"{work}/agents"):
        os.unlink(f"{work}/agents/{name}")
    for i in range(8):
        text = AGENT % ("allowed" if kind == "cut" else "never")
        if kind == "damaged" and i > 0:  # bytes that are others, gone, or twice
            raw = bytearray(text.encode())
            for _ in range(random.randint(1, 4)):
                at = random.randrange(len(raw))
                raw[at:at + 1] = random.choice([bytes([random.randrange(256)]), b"", bytes([raw[at], raw[at]])])
            text = raw
        with open(f"{work}/agents/a{i}.toml", "wb") as f:
            f.write(text if isinstance(text, bytearray) else text.encode())


failures, counted = [], {}
try:
    time.sleep(0.5)
    uplink = Process(["nsenter", "-t", str(net.pid), "-n", SLM_UPLINK, "--config", f"{work}/uplink.toml"], f"{work}/uplink.log")
    for kind, share in (("never", 0.6), ("damaged", 0.2), ("cut", 0.2)):
        write_agents(kind)
        daemon = slmd(kind == "cut")
        wire = Wire()
        wishes = 0
        for i in range(int(REQUESTS * share)):
            if random.random() < 0.002:
                if random.random() < 0.5:
                    uplink.kill()
                    uplink.start()
                else:
                    daemon.kill()
                    if kind == "damaged":
                        write_agents(kind)
                    daemon.start()
            params = {"agent": f"a{random.randrange(8)}", "input": f"text {i} of anna@example.org"}
            if random.random() < 0.5:
                params["route"] = "remote"
            reply = wire.call("run", **params)
            route = reply.get("result", {}).get("route", "error")
            counted[(kind, route)] = counted.get((kind, route), 0) + 1
            if route not in ("keep", "error"):
                failures.append(f"{kind}: {reply}")
                break
        if kind == "damaged":
            continue_with = counted.get((kind, "error"), 0)
            if continue_with == 0:
                failures.append("no damaged agent was refused: nothing was tried")
        interfaces = packets(daemon.process.pid)
        if set(interfaces) != {"lo"} or interfaces["lo"] != 0:
            failures.append(f"slmd has a network: {interfaces}")
        seen = packets(net.pid)
        if any(seen.values()):
            failures.append(f"{kind}: packets in the uplink's network: {seen}")
        daemon.process.terminate()
        daemon.process.wait()
    # That packets would have been counted: one that may leave does.
    write_agents("cut")
    daemon = slmd(False)
    wire = Wire()
    for _ in range(200):
        reply = wire.call("run", agent="a0", input="x", route="remote")
        if reply.get("result", {}).get("route") == "escalate":
            break
        time.sleep(0.05)
    else:
        failures.append(f"what may leave did not: {reply}")
    if not any(packets(net.pid).values()):
        failures.append("packets are not counted")
finally:
    for child in children:
        if child.poll() is None:
            child.kill()
            child.wait()
print(counted)
for failure in failures:
    print("FAILED:", failure)
subprocess.run(["rm", "-rf", work], check=False)
sys.exit(1 if failures else 0)
