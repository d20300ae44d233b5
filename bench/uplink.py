#!/usr/bin/env python3
"""A board and a large model, end to end: a small model in slmd, slm-uplink, a network that delays and loses, TLS, and llama.cpp's OpenAI server.

  bench/uplink.py --build DIR --image SMALL.slm --large MODEL.gguf --python PYTHON (--snips FOLDER | --clinc150 data_oos_plus.json | --invoices) [--cases N]
                  [--calibrate N] [--delay MS] [--loss PERCENT] [--prices IN,OUT] [--out FILE.svg]

Needs root (network namespaces), ip, ping, openssl, stunnel4, and a Python that has the package xllamacpp. The agent is models/agents/intent.toml, with
--clinc150 models/adapters/clinc150 with its adapter, with --invoices models/agents/invoice.toml, allowed to leave. First one request with secrets in it, of which
every byte is shown; then the agent is calibrated on cases of SNIPS' training part (CLINC150: the parts val and oos_val; invoices: generated ones), and `slmctl
compare` asks both models for cases of the validation part (test and oos_test; other invoices) and prints how good they and their mixtures are. An invoice is
right when all seven fields are, word for word.
"""
import argparse
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import tempfile
import time

import intents

ROOT = pathlib.Path(__file__).resolve().parent.parent
SERVER = """
import sys, time, xllamacpp as x
p = x.CommonParams()
p.model.path, p.port, p.n_ctx, p.n_parallel, p.cpuparams.n_threads, p.api_keys = sys.argv[1], 18080, 4096, 1, 2, ["bench-key"]
s = x.Server(p)
print("listening", flush=True)
time.sleep(1e6)
"""
CONTACT = """description = "Whom a message is about"
prompt = 'Message: {text}\\n\\nReturn the e-mail address and the IBAN of the message, word for word, as {"email": ..., "iban": ...}.'
escalate = "unsure"
[remote]
policy = "redacted"
[input.text]
max = 2000
[output]
schema = '{"type":"object","required":["email","iban"],"additionalProperties":false,"properties":{"email":{"type":"string","from":"source","minLength":1,"maxLength":60},"iban":{"type":"string","from":"source","minLength":1,"maxLength":40}}}'
[[check]]
kind = "iban"
at = "/iban"
"""
SPACES = ("slm-up", "slm-srv", "slm-net")
MESSAGE = "Please tell anna.berg@example.org that the deposit goes to DE89 3704 0044 0532 0130 00 before Friday."


def sh(command, **more):
    return subprocess.run(command, shell=isinstance(command, str), check=True, capture_output=True, text=True, **more).stdout


def invoices(n, seed):
    """(text, its fields as they stand in it)"""
    rows = []
    # A third of the documents are no invoices.
    for line in sh([sys.executable, ROOT / "tests/agent/documents.py", str(3 * n), str(seed)]).splitlines():
        document = json.loads(line)
        text, fields = document["text"], document["fields"]
        if document["kind"].startswith("invoice"):
            answer = {k: fields[k] for k in ("number", "date", "due", "iban")}
            for k in ("net", "tax", "total"):
                digits = re.sub(r"[.,]", "", fields[k] if isinstance(fields[k], str) else f"{fields[k]:.2f}")
                answer[k] = next((t for t in re.findall(r"\d[\d.,]*\d", text) if re.sub(r"[.,]", "", t) == digits), None)
            if all(v and v in text for v in answer.values()):
                rows.append((text, answer))
    return rows


def main():
    p = argparse.ArgumentParser(usage=__doc__)
    for name in ("build", "image", "large", "python"):
        p.add_argument(f"--{name}", required=True)
    data = p.add_mutually_exclusive_group(required=True)
    data.add_argument("--snips")
    data.add_argument("--clinc150")
    data.add_argument("--invoices", action="store_true")
    p.add_argument("--cases", type=int, default=200)
    p.add_argument("--calibrate", type=int, default=200)
    p.add_argument("--delay", type=int, default=40)
    p.add_argument("--loss", type=float, default=1)
    p.add_argument("--prices", default="0.15,0.60")
    p.add_argument("--out")
    o = p.parse_args()
    build = pathlib.Path(o.build).resolve()
    slmctl = [str(build / "runtime/client/slmctl")]
    work = tempfile.mkdtemp(prefix="slmd-bench-")
    running = []

    def start(command, log):
        running.append(subprocess.Popen([str(c) for c in command], stdout=open(f"{work}/{log}", "w"), stderr=subprocess.STDOUT))
        return running[-1]

    def wait_for(log, text, seconds=120):
        for _ in range(seconds * 20):
            if text in open(f"{work}/{log}").read():
                return
            time.sleep(0.05)
        sys.exit(f"{log}: no {text!r}: {open(f'{work}/{log}').read()[-1500:]}")

    try:
        for name in ("agents", "state", "box"):
            os.mkdir(f"{work}/{name}")
        # A network of two ends, as far from one another as a board is from a data centre, and a wire between them that delays and loses.
        for ns in SPACES:
            sh(f"ip netns add {ns} && ip -n {ns} link set lo up")
        link = [sys.executable, str(ROOT / "bench/link.py")]
        for ns, dev, address in (("slm-up", "slmu", "10.77.0.1/24"), ("slm-srv", "slms", "10.77.0.2/24")):
            sh(f"ip link add {dev} netns {ns} type veth peer name {dev}-net netns slm-net")
            sh(f"ip -n {ns} addr add {address} dev {dev} && ip -n {ns} link set {dev} up && ip -n slm-net link set {dev}-net up")
            sh(["ip", "netns", "exec", ns, *link, "--plain", dev])
        wire = start(["ip", "netns", "exec", "slm-net", *link, "slmu-net", "slms-net", o.delay / 2, o.loss], "link.log")
        wait_for("link.log", "linked")
        print(sh("ip netns exec slm-up ping -c 50 -i 0.05 -q 10.77.0.2 || true").strip())
        sh(f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {work}/key.pem -out {work}/cert.pem -days 2 -subj /CN=10.77.0.2 "
           "-addext subjectAltName=IP:10.77.0.2 -addext basicConstraints=critical,CA:TRUE")
        open(f"{work}/stunnel.conf", "w").write(f"foreground = yes\npid =\n[llm]\naccept = 10.77.0.2:8443\nconnect = 127.0.0.1:18080\ncert = {work}/cert.pem\nkey = {work}/key.pem\n")
        os.chmod(f"{work}/key.pem", 0o600)
        open(f"{work}/api-key", "w").write("bench-key\n")
        os.chmod(f"{work}/api-key", 0o600)
        start(["ip", "netns", "exec", "slm-srv", o.python, "-c", SERVER, o.large], "server.log")
        start(["ip", "netns", "exec", "slm-srv", "stunnel4", f"{work}/stunnel.conf"], "stunnel.log")
        wait_for("server.log", "listening")

        price = o.prices.split(",")
        open(f"{work}/uplink.toml", "w").write(
            f"slmd = '{work}/up.sock'\nstate = '{work}/box'\n[budget]\nday = {{ money = 5.0 }}\n[[upstream]]\nname = 'llama.cpp'\n"
            f"url = 'https://10.77.0.2:8443/v1'\nmodel = 'large'\nca = '{work}/cert.pem'\nkey_file = '{work}/api-key'\nprice = {{ input = {price[0]}, output = {price[1]} }}\n")
        open(f"{work}/slmd.toml", "w").write(f"[uplink]\nsocket = '{work}/up.sock'\nuser = 'root'\n")
        adapter = ROOT / "models/adapters/clinc150"
        agent = (adapter / "clinc150.toml" if o.clinc150 else ROOT / "models/agents" / ("intent.toml" if o.snips else "invoice.toml")).read_text()
        open(f"{work}/agents/asked.toml", "w").write(agent.replace("[input.text]", "escalate = 'unsure'\n[remote]\npolicy = 'allowed'\n[input.text]", 1))
        open(f"{work}/agents/contact.toml", "w").write(CONTACT)
        slmd = start(["unshare", "-n", build / "runtime/daemon/slmd", "--config", f"{work}/slmd.toml", "--model", o.image, "--socket", f"{work}/slmd.sock", "--state", f"{work}/state",
               "--agents", f"{work}/agents", *(["--adapter", f"clinc150={adapter}/clinc150.slm"] if o.clinc150 else [])], "slmd.log")
        wait_for("slmd.log", "ready:")
        start(["ip", "netns", "exec", "slm-up", build / "runtime/uplink/slm-uplink", "--config", f"{work}/uplink.toml"], "uplink.log")
        wait_for("slmd.log", "slm-uplink is there")
        print(sh(["ip", "netns", "exec", "slm-up", build / "runtime/uplink/slm-uplink", "--config", f"{work}/uplink.toml", "check"]))
        ask = [*slmctl, "--socket", f"{work}/slmd.sock"]
        print("as it would leave:", sh([*ask, "route", "preview", MESSAGE]).strip())
        for route in ("local", "remote"):
            r = subprocess.run([*ask, "agent", "run", "contact", MESSAGE, "--route", route], capture_output=True, text=True)
            print(f"{route}: {r.stdout.strip()}\n  {r.stderr.strip()}")

        def cases(known, n):
            name = "known.jsonl" if known else "asked.jsonl"
            if o.invoices:
                rows = invoices(n, 1 if known else 2)
            elif o.snips:
                rows = list(intents.snips(o.snips, "train" if known else "validate"))
            else:
                rows = [row for part in (("val", "oos_val") if known else ("test", "oos_test")) for row in intents.clinc150(o.clinc150, part)]
            random.Random(7).shuffle(rows)
            with open(f"{work}/{name}", "w") as f:
                for text, answer in rows[:n]:
                    f.write(json.dumps({"input": text, "output": answer}) + "\n")
            return f"{work}/{name}"

        calibrated = subprocess.run([*ask, "calibrate", "asked", cases(True, o.calibrate)], capture_output=True, text=True)
        print("\n".join(calibrated.stdout.strip().splitlines()[-6:]), calibrated.stderr.strip())
        slmd.send_signal(signal.SIGHUP)  # it reads the calibration
        wait_for("slmd.log", "reload")
        command = [*ask, "compare", cases(False, o.cases), "--agents", "asked", "--ask-upstream", "--upstream-answers", f"{work}/large.jsonl", "--prices", o.prices]
        if o.out:
            command += ["--svg", o.out]
        r = subprocess.run(command, capture_output=True, text=True)
        print(r.stdout, r.stderr)
        print(sh([*ask, "route", "budget"]))
        print(sh([*ask, "ledger", "report", f"{work}/state/ledger", "--prices", o.prices]))
        with open(f"/proc/{running[-1].pid}/smaps_rollup") as f:
            print("slm-uplink:", " ".join(line.strip() for line in f if line.startswith(("Rss", "Pss:"))))
        wire.terminate()
        wire.wait()
        print("the wire:", open(f"{work}/link.log").read().splitlines()[-1])
    finally:
        for process in reversed(running):
            process.kill()
            process.wait()
        for ns in SPACES:
            subprocess.run(["ip", "netns", "del", ns], capture_output=True)
        subprocess.run(["rm", "-rf", work])


if __name__ == "__main__":
    main()
