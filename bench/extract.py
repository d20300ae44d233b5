#!/usr/bin/env python3
"""Values from documents whose fields are known: slmd bound to a schema with "from": "source" and what a field looks like, beside llama.cpp free, the same prompt.

  extract.py IMAGE --peer GGUF --python PYTHON [--documents N] [--seed N] [--threads N] [--slmd PROGRAM] [-- ARGUMENTS of slmd]

The documents are those of tests/agent/documents.py (invoices in two languages, sensor logs, e-mails); asked are their fields that are no lists. Each is asked of both, one behind
the other; the peer's answer is greedy, and whatever JSON it holds counts. --python PYTHON: one that has the package xllamacpp.

A value is right when it is the field's but for what separates thousands, a unit behind it, and white space. Prints precision, recall and F1 over all fields, values that do not
stand in the text, answers that are no JSON, and milliseconds a document.
"""
import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import time

from peer import Peer
from wire import Client, Slmd

HERE = pathlib.Path(__file__).resolve().parent
ASKED = {
    "invoice": {"number": "the invoice's number", "supplier": "who sent it", "date": "the day of the invoice", "due": "the day until which it is to be paid", "iban": "the account",
                "currency": "three letters", "net": "the net amount", "tax": "the tax's amount", "total": "the total amount"},
    "sensor": {"station": "the station's name", "time": "the alarm's time", "temperature": "the alarm's temperature", "limit": "the limit that it is above"},
    "mail": {"sender": "who writes", "order": "the order's number", "ordered": "the day when it was ordered", "delivery": "the day when it is to be delivered", "ean": "the article's EAN",
             "quantity": "how many"},
}
DATE = "^([0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{1,2}[./][0-9]{1,2}[./][0-9]{4})$"
AMOUNT = "^[0-9]{1,3}([., ']?[0-9]{3})*[.,][0-9]{2}$"
CODE = "^[A-Za-z0-9./_-]*[0-9][A-Za-z0-9./_-]*$"
READING = "^-?[0-9]+([.,][0-9]+)?$"
PATTERNS = {"number": CODE, "date": DATE, "due": DATE, "iban": "^[A-Z]{2}[0-9]{2}( ?[0-9A-Z]){11,30}$", "currency": "^[A-Z]{3}$", "net": AMOUNT, "tax": AMOUNT, "total": AMOUNT,
            "time": "^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}$", "temperature": READING, "limit": READING, "order": CODE, "ordered": DATE, "delivery": DATE, "ean": "^[0-9]{13}$",
            "quantity": "^[0-9]+$"}


def source(key):
    if key in PATTERNS:
        return {"anyOf": [{"type": "string", "from": "source", "pattern": PATTERNS[key], "maxLength": 60}, {"const": ""}]}
    return {"type": "string", "from": "source", "minLength": 1, "maxLength": 60}


def asked_of(document):
    kind = document["kind"].split("_")[0]
    fields = {**document["fields"], **(document["fields"].get("alarm") or {})}
    return kind, {k: fields[k] for k in ASKED[kind] if k in fields}


def plain(value):
    text = re.sub(r"\s+", "", str(value)).rstrip(".")
    number = re.fullmatch(r"[^\d-]{0,3}(-?[\d.,]+)(?:°C|%|[A-Z]{3})?", text)
    if number is None:
        return text
    whole, point, rest = re.fullmatch(r"(.*?)(?:([.,])(\d{1,2}))?", number[1]).groups()
    return re.sub(r"[.,]", "", whole) + ("." + rest.rstrip("0") if point and rest.rstrip("0") else "")


def read(text):
    start = text.find("{")
    try:
        value = json.JSONDecoder().raw_decode(text[start:])[0] if start >= 0 else None
    except ValueError:
        value = None
    return value if isinstance(value, dict) else None


class Tally:
    def __init__(self, name):
        self.name, self.right, self.given, self.fields, self.outside, self.broken, self.ms = name, 0, 0, 0, 0, 0, []

    def add(self, document, value, seconds):
        _, truth = asked_of(document)
        self.ms.append(seconds * 1000)
        self.fields += len(truth)
        if value is None:
            self.broken += 1
            return
        for key, known in truth.items():
            said = value.get(key)
            if said in (None, ""):
                continue
            self.given += 1
            self.right += plain(said) == plain(known)
            self.outside += str(said) not in document["text"]

    def __str__(self):
        precision, recall = self.right / max(1, self.given), self.right / self.fields
        return (f"{self.name}: {len(self.ms)} documents, {self.fields} fields: precision {precision:.3f}, recall {recall:.3f}, F1 {2 * precision * recall / max(1e-9, precision + recall):.3f}; "
                f"{self.outside} values are not in the text, {self.broken} answers no JSON; median {statistics.median(self.ms):.0f} ms")


parser = argparse.ArgumentParser(usage=__doc__)
parser.add_argument("image")
parser.add_argument("--peer", required=True)
parser.add_argument("--python", default=sys.executable)
parser.add_argument("--documents", type=int, default=300)
parser.add_argument("--seed", type=int, default=1)
parser.add_argument("--threads", type=int, default=os.cpu_count())
parser.add_argument("--slmd", default=str(HERE / "../build/release/runtime/daemon/slmd"))
end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
o = parser.parse_args(sys.argv[1:end])

made = subprocess.run([sys.executable, HERE / "../tests/agent/documents.py", str(o.documents), str(o.seed)], check=True, capture_output=True, text=True).stdout
ours, theirs = Tally(os.path.basename(o.image)), Tally("llama.cpp free, " + os.path.basename(o.peer))
with Slmd(o.slmd, o.image, 1, ["--threads", str(o.threads), *sys.argv[end + 1 :]]) as slmd, Peer(o.python, o.peer, o.threads) as peer:
    client = Client(slmd.path)
    for line in made.splitlines():
        document = json.loads(line)
        kind, truth = asked_of(document)
        prompt = (f"{document['text']}\n\nReturn these values of the text above as a JSON object, each word for word as it stands there:\n"
                  + "".join(f"- {k}: {ASKED[kind][k]}\n" for k in truth))
        schema = {"type": "object", "properties": {k: source(k) for k in truth}, "required": list(truth), "additionalProperties": False}
        begin = time.perf_counter()
        r = client.call("gen", prompt=prompt, schema=schema, source=document["text"], temp=0, max=400)
        ours.add(document, read(r["text"]), time.perf_counter() - begin)
        begin = time.perf_counter()
        said = peer.call("/v1/chat/completions", {"messages": [{"role": "user", "content": prompt}], "temperature": 0, "max_tokens": 400})["choices"][0]["message"]["content"]
        theirs.add(document, read(said), time.perf_counter() - begin)
print(ours)
print(theirs)
