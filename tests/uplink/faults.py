#!/usr/bin/env python3
"""slm-uplink against servers that do everything wrong: the right error, the right number of requests, nothing sent twice unknowingly, no key shown.

  faults.py slm-uplink uplink_drive [--plain] [WRAPPER...]      --plain: no sanitizer is in them, so size and memory are looked at; WRAPPER: valgrind, say

Judged are counts, bytes and errors. Timeouts are short where one is to be met, and no time is measured.
"""
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import certificates
from server import Proxy, Server, answer, chunked, events, head, reset, slowly, whole

PROGRAM, DRIVE = sys.argv[1:3]
PLAIN = "--plain" in sys.argv
WRAPPER = [a for a in sys.argv[3:] if a != "--plain"]
KEY = "sk-very-secret-key-0123456789"
failures = []
runs = 0
if not shutil.which("openssl"):
    print("openssl, which makes the certificates, is missing: toolchain/install-dependencies")
    sys.exit(77)
folder = tempfile.mkdtemp(prefix="slm-uplink-")
pins = certificates.make(folder)
with open(os.path.join(folder, "key"), "w", encoding="utf-8") as f:
    os.chmod(f.name, 0o600)
    f.write(KEY + "\n")


def check(fine, what):
    if not fine:
        failures.append(what)
        print("FAILED:", what, flush=True)


def upstream(server, name="one", **more):
    """The table of an upstream at a server (or at a port where none is)."""
    port, tls = (server, True) if isinstance(server, int) else (server.port, server.tls)
    keys = {"name": name, "url": f"http{'s' if tls else ''}://{more.pop('host', 'localhost')}:{port}/v1", "model": "m", "key_file": os.path.join(folder, "key"), "backoff": 0.001}
    if tls:
        keys["ca"] = os.path.join(folder, "authority.pem")
    else:
        keys["plaintext"] = True
    keys |= more

    def toml(value):
        if isinstance(value, dict):
            return "{ " + ", ".join(f"{k} = {toml(v)}" for k, v in value.items()) + " }"
        return json.dumps(value)

    return "[[upstream]]\n" + "".join(f"{k} = {toml(v)}\n" for k, v in keys.items() if v is not None)


def write_config(*tables):
    path = os.path.join(folder, "c.toml")
    with open(path, "w", encoding="utf-8") as f:
        f.write("\n".join(tables))
    return path


def no_secret(what, *texts):
    for text in texts:
        check(KEY not in text and KEY[3:] not in text, f"{what}: the key is shown: {text}")


class Outcome:
    def __init__(self, done):
        global runs
        runs += 1
        self.status, self.out, self.err = done.returncode, done.stdout, done.stderr
        found = re.search(r"delivery ([a-z ]+), status (\d+), tries (\d+), bytes out (\d+), in (\d+)", self.err)
        self.delivery, self.http, self.tries = (found[1], int(found[2]), int(found[3])) if found else ("?", -1, -1)
        self.error = self.err.split("\n")[0]


def ask(*tables, arguments=(), question="a question", command="ask"):
    path = write_config(*tables)
    done = subprocess.run([*WRAPPER, PROGRAM, "--config", path, command, *arguments], input=question, capture_output=True, text=True, timeout=120, check=False, errors="replace")
    no_secret(command, done.stdout, done.stderr)
    return Outcome(done)


def expect(what, o, error=None, delivery="answered", tries=1, status=None, out=None):
    """error: a part of its text, or None for an answer."""
    check((o.status == 0) == (error is None), f"{what}: exit status {o.status}: {o.err}")
    if error is not None:
        check(error in o.error, f"{what}: \"{error}\" is not in: {o.err}")
        check(o.status == (75 if delivery == "unknown" else 1), f"{what}: exit status {o.status}, {delivery}")
        check("the answer" not in o.out or out is not None, f"{what}: it answers all the same: {o.out}")
    check(o.delivery == delivery, f"{what}: delivery {o.delivery}, not {delivery}: {o.err}")
    check(o.tries == tries, f"{what}: {o.tries} tries, not {tries}: {o.err}")
    if status is not None:
        check(o.http == status, f"{what}: status {o.http}, not {status}")
    if out is not None:
        check(o.out == out, f"{what}: {o.out!r}, not {out!r}")


def saw(what, server, requests):
    for _ in range(200):  # a server may still be at its last line when the client is done
        if len(server.requests) >= requests:
            break
        time.sleep(0.01)
    check(len(server.requests) == requests, f"{what}: the server saw {len(server.requests)} requests, not {requests}")
    server.close()


def one(what, script, *, requests=1, arguments=(), server=None, options=None, **wanted):
    """A server with a script, one question, what comes of it."""
    s = Server(folder, script, **(server or {}))
    expect(what, ask(upstream(s, **(options or {})), arguments=arguments), **wanted)
    saw(what, s, requests)


def check_answers():
    one("an answer", whole(), out="the answer\n", status=200)
    one("chunked", head("200 OK", Transfer_Encoding="chunked", Content_Type="application/json") + chunked([answer()[:20], answer()[20:]]), out="the answer\n")
    one("until the end", head("200 OK", Content_Type="application/json") + answer(), out="the answer\n")
    one("a byte at a time", slowly(whole(), 0), out="the answer\n")
    one("interim answers", head("100 Continue") + head("103 Early Hints") + whole(), out="the answer\n")
    stream = head("200 OK", Transfer_Encoding="chunked", Content_Type="text/event-stream") + chunked(events("the ", "answer"))
    one("a stream", stream, arguments=["--stream"], out="the answer\n")
    one("a stream a byte at a time", slowly(stream, 0), arguments=["--stream"], out="the answer\n")
    one("a stream until the end", head("200 OK", Content_Type="text/event-stream") + b"".join(events("the ", "answer")), arguments=["--stream"], out="the answer\n")
    one("a stream that is none", whole(), arguments=["--stream"], out="\n")
    one("without TLS", whole(), server={"tls": False}, out="the answer\n")


def check_preview():
    """Every byte that is sent is shown before, but for the key."""
    for arguments in ([], ["--stream", "--key", "k-7", "--seed", "5", "--temp", "0.5", "--schema", '{"type":"object"}']):
        s = Server(folder, whole())
        table = upstream(s, idempotency=True)
        shown = ask(table, arguments=["--show", *arguments], question='[{"role":"user","content":"caf\u00e9"}]')
        check(shown.status == 0 and s.connections == 0, f"--show connects: {shown.err}")
        ask(table, arguments=arguments, question='[{"role":"user","content":"caf\u00e9"}]')
        saw("preview", s, 1)
        check(s.requests[0].replace(KEY.encode(), b"****") == shown.out.replace("\n", "\r\n").encode() or s.requests[0].replace(KEY.encode(), b"****") == shown.out.encode(),
              f"sent: {s.requests[0]}\nshown: {shown.out.encode()}")
        check(s.requests[0].count(KEY.encode()) == 1, "the key is in the request once")


def check_connections():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        expect("refused", ask(upstream(unused.getsockname()[1])), "Connection refused", "not sent", 3)
    expect("no such name", ask(upstream(443, host="nothing.invalid", timeouts={"dns": 2}, tries=1)), "looking up nothing.invalid", "not sent", 1)
    cut = lambda s, server, n: reset(s)
    one("reset when connected", cut, server={"stage": "accept"}, error="connect", delivery="not sent", tries=3, requests=0)
    one("reset in the handshake", cut, server={"stage": "hello"}, error="the connection broke", delivery="not sent", tries=3, requests=0)
    one("reset before the request is read", cut, server={"stage": "handshake"}, error="the connection broke", delivery="unknown", requests=0)
    one("reset after the request", cut, error="the connection broke", delivery="unknown")
    one("end after the request", b"", error="the connection ended before the answer", delivery="unknown")

    def part(data):
        def script(s, server, n):
            s.sendall(data)
            time.sleep(0.05)  # so that it arrives before what ends it
            reset(s)
        return script

    one("reset in the head", part(whole()[:30]), error="the connection broke", delivery="unknown")
    one("reset in the body", part(whole()[:-5]), error="the connection broke", delivery="unknown")

    def unsaid(s, server, n):
        s.sendall(head("200 OK", Content_Type="application/json") + answer())
        socket.socket(fileno=s.detach()).close()

    one("an end that is not said", unsaid, error="the connection broke", delivery="unknown")
    one("garbage for TLS", lambda s, server, n: s.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"), server={"stage": "hello"}, error="TLS with localhost", delivery="not sent", tries=3, requests=0)
    hang = lambda s, server, n: time.sleep(4)
    one("no handshake", hang, server={"stage": "hello"}, options={"timeouts": {"handshake": 0.3}, "tries": 1}, error="nothing happened in time", delivery="not sent", requests=0)
    one("no answer", hang, options={"timeouts": {"first_byte": 0.3}}, error="nothing happened in time", delivery="unknown")
    one("slow-loris, idle", slowly(whole(), 1), options={"timeouts": {"idle": 0.3}}, error="nothing happened in time", delivery="unknown")
    one("slow-loris, total", slowly(whole(), 0.05), options={"timeouts": {"total": 1}}, error="nothing happened in time", delivery="unknown")


def check_http():
    half = head("200 OK", Transfer_Encoding="chunked", Content_Type="application/json")
    one("half a chunk", half + b"100\r\n" + answer()[:50], error="in the middle of the answer", delivery="unknown")
    one("no last chunk", half + chunked([answer()], end=False), error="in the middle of the answer", delivery="unknown")
    one("shorter than its length", head("200 OK", len(answer()) + 9) + answer(), error="in the middle of the answer", delivery="unknown")
    one("longer than its length", head("200 OK", len(answer()) - 9) + answer(), error="something follows the answer", delivery="unknown")
    one("two lengths", head("200 OK", 5, content_length=6) + answer(), error="two Content-Length", delivery="unknown")
    one("a length and chunks", head("200 OK", 5, Transfer_Encoding="chunked") + chunked([answer()]), error="both", delivery="unknown")
    one("a head without an end", b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 4000, error="longer than 16384", delivery="unknown")
    one("a line without an end", b"HTTP/1.1 200 OK\r\nA: " + b"b" * 9000, error="longer than 4096", delivery="unknown")
    one("a body without an end", head("200 OK") + b" " * (300 << 10), error="longer than 262144", delivery="unknown")
    one("a length of a terabyte", head("200 OK", 1 << 40) + answer(), error="too long", delivery="unknown")
    one("compressed", whole(Content_Encoding="gzip"), error="compressed", delivery="unknown")
    one("another protocol", head("101 Switching Protocols"), error="another protocol", delivery="unknown")
    one("not HTTP", b"220 mail.example ESMTP\r\n", error="no status line", delivery="unknown")
    one("HTTP/2", b"\x00\x00\x12\x04\x00\x00\x00\x00\x00", error="control character", delivery="unknown")


def check_bodies():
    one("not UTF-8", whole(answer("X").replace(b"X", b"\xff\xfe")), error="UTF-8")
    one("not JSON", whole(b"{\"choices\":"), error="cannot be read")
    one("JSON of something else", whole(b"{\"object\":\"list\"}"), error="no choices")
    one("nested without an end", whole(b"[" * 100000), error="nested too deeply")
    one("a web page", head("200 OK", 6, Content_Type="text/html") + b"<html>", error="text/html, not JSON", delivery="unknown")
    sse = {"Content_Type": "text/event-stream"}
    for name, body, error, delivery, out in (
            ("cut off", b"".join(events("the ", "answer", end=False)), "in the middle of the answer", "unknown", "the answer\n"),
            ("an error in it", events("the ")[0] + b"data: {\"error\":{\"message\":\"boom\"}}\n\n", "boom", "unknown", "the \n"),
            ("not UTF-8", b"data: {\"choices\":[{\"delta\":{\"content\":\"\xff\"}}]}\n\n", "UTF-8", "unknown", "\n"),
            ("an endless line", b"data: " + b"x" * (300 << 10), "longer than 262144", "unknown", "\n")):
        one(f"a stream, {name}", head("200 OK", **sse) + body, arguments=["--stream"], error=error, delivery=delivery, out=out, options={"idempotency": "cut" in name})


def refused(status, message="no", **fields):
    return whole(json.dumps({"error": {"message": message}}).encode(), status, **fields)


def check_statuses():
    for status, error in (("401 Unauthorized", "does not take the key"), ("403 Forbidden", "may not do this"), ("404 Not Found", "look at url and model"), ("400 Bad Request", "does not take the request"),
                          ("413 Content Too Large", "too large"), ("301 Moved", "is not followed")):
        one(status, refused(status, Location="https://evil.example/"), error=error, status=int(status[:3]))
    for status in ("408 Request Timeout", "429 Too Many Requests", "500 Internal Server Error", "503 Service Unavailable"):
        one(f"{status} for ever", refused(status), error=f"status {status[:3]}", tries=3, requests=3, status=int(status[:3]))
        one(f"{status} twice", [refused(status), refused(status), whole()], out="the answer\n", tries=3, requests=3)
    one("429, come back at once", [refused("429 Slow", Retry_After="0"), whole()], out="the answer\n", tries=2, requests=2)
    for status in ("502 Bad Gateway", "504 Gateway Timeout"):
        one(status, refused(status), error="a gateway lost", delivery="unknown")
        one(f"{status} with idempotency", [refused(status), whole()], options={"idempotency": True}, out="the answer\n", tries=2, requests=2)
    one("a message that steers terminals", refused("400 Bad", "\x1b]0;x\x07\nsecond line"), error=" ]0;x  second line")
    for status in ("400 Bad Request", "401 Unauthorized", "500 Oops"):
        one(f"{status} that repeats the key", refused(status, f"wrong key {KEY}!"), error=f"status {status[:3]}", tries=3 if status[0] == "5" else 1, requests=3 if status[0] == "5" else 1)
    one("an answer that is an error with the key", whole(json.dumps({"error": {"message": f"wrong key {KEY}!"}}).encode()), error="repeats the key")


def check_twice():
    """What may have arrived is sent again only where the server keeps it from being done twice, and to no other server."""
    lost = lambda s, server, n: reset(s)
    a, b = Server(folder, [lost, whole()]), Server(folder, whole())
    expect("lost, two upstreams", ask(upstream(a, "a"), upstream(b, "b")), "the connection broke", "unknown", 1)
    saw("lost, first", a, 1)
    saw("lost, second", b, 0)
    a, b = Server(folder, [lost, whole()]), Server(folder, whole())
    expect("lost, idempotent", ask(upstream(a, "a", idempotency=True), upstream(b, "b"), arguments=["--key", "k-1"]), None, "answered", 2, out="the answer\n")
    keys = {re.search(rb"Idempotency-Key: (\S+)", r)[1] for r in a.requests}
    check(keys == {b"k-1"}, f"idempotency keys: {keys}")
    saw("lost, idempotent, first", a, 2)
    saw("lost, idempotent, second", b, 0)
    a, b = Server(folder, lost), Server(folder, whole())
    expect("lost for ever, idempotent", ask(upstream(a, "a", idempotency=True), upstream(b, "b")), "the connection broke", "unknown", 3)
    saw("lost for ever, first", a, 3)
    saw("lost for ever, second", b, 0)
    # A refusal after a loss does not undo the loss.
    a, b = Server(folder, [lost, refused("503 Busy")]), Server(folder, whole())
    expect("lost, then refused", ask(upstream(a, "a", idempotency=True), upstream(b, "b")), "status 503", "unknown", 3)
    saw("lost, then refused, second", b, 0)
    # Once the reader has seen a part, another answer would not fit to it.
    begun = head("200 OK", Content_Type="text/event-stream") + events("the ")[0]
    a = Server(folder, begun)
    expect("a stream that breaks, idempotent", ask(upstream(a, idempotency=True), arguments=["--stream"]), "in the middle", "unknown", 1, out="the \n")
    saw("a stream that breaks", a, 1)

    for status in ("401 Unauthorized", "404 Not Found", "503 Busy", "429 Slow"):
        a, b = Server(folder, refused(status)), Server(folder, whole())
        expect(f"{status}, then another", ask(upstream(a, "a", tries=1), upstream(b, "b")), None, "answered", 2, out="the answer\n")
        saw(f"{status}, first", a, 1)
        saw(f"{status}, second", b, 1)
    a, b = Server(folder, refused("400 Bad")), Server(folder, whole())
    expect("400, then no other", ask(upstream(a, "a"), upstream(b, "b")), "status 400", "answered", 1)
    saw("400, second", b, 0)
    a, b = Server(folder, whole(), certificate="other"), Server(folder, whole())
    expect("wrong name, then another", ask(upstream(a, "a"), upstream(b, "b")), None, "answered", 2, out="the answer\n")
    saw("wrong name, first", a, 0)
    a, b = Server(folder, refused("429 Slow", Retry_After="3600")), Server(folder, whole())
    o = ask(upstream(a, "a", timeouts={"total": 1}), upstream(b, "b"), arguments=["--upstream", "b"])
    expect("only one", o, None, "answered", 1, out="the answer\n")
    saw("only one, first", a, 0)


def check_tls():
    for certificate, error in (("expired", "its certificate expired on 2021-01-01 00:00, and this board's date is "), ("future", "not valid before 2098-01-01 00:00, and this board's date is "),
                               ("other", "is for another name"), ("strange", "nobody in "), ("self", "nobody in ")):
        one(f"certificate {certificate}", whole(), server={"certificate": certificate}, error=error, delivery="not sent", requests=0)
    one("an address", whole(), options={"host": "127.0.0.1"}, out="the answer\n")
    one("another address", whole(), server={"certificate": "other_address"}, options={"host": "127.0.0.1"}, error="is for another name", delivery="not sent", requests=0)
    for what, certificate, options, error in (
            ("pin and chain", "good", {"pin": [pins["other"], pins["good"]]}, None),
            ("pin of the authority", "good", {"pin": [pins["authority"]]}, None),
            ("wrong pin", "good", {"pin": [pins["other"]]}, f"it is {pins['good']}"),
            ("pin without its chain", "self", {"pin": [pins["self"]]}, "nobody in "),
            ("pin alone", "self", {"pin": [pins["self"]], "ca": ""}, None),
            ("pin alone, expired, another name", "expired", {"pin": [pins["expired"]], "ca": ""}, None),
            ("wrong pin alone", "self", {"pin": [pins["good"]], "ca": ""}, "is not one of pin"),
            ("pin alone of the authority", "good", {"pin": [pins["authority"]], "ca": ""}, "is not one of pin")):
        one(what, whole(), server={"certificate": certificate}, options=options, error=error, delivery="not sent" if error else "answered", requests=0 if error else 1, out=None if error else "the answer\n")

    # A ServerHello of TLS 1.1, as one on the way would send it, and a server that has nothing newer.
    hello = bytes.fromhex("0302") + bytes(32) + b"\0" + bytes.fromhex("c02f00")
    hello = b"\x02" + len(hello).to_bytes(3, "big") + hello
    one("downgrade to TLS 1.1", lambda s, server, n: s.sendall(b"\x16\x03\x02" + len(hello).to_bytes(2, "big") + hello), server={"stage": "hello"}, error="older than 1.2", delivery="not sent", requests=0)
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    old.set_ciphers("ALL:@SECLEVEL=0")
    with __import__("warnings").catch_warnings():
        __import__("warnings").simplefilter("ignore")
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    one("a server of TLS 1.1", whole(), server={"context": old}, error="the server refuses (TLS alert)", delivery="not sent", requests=0, tries=3)
    weak = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    weak.maximum_version = ssl.TLSVersion.TLSv1_2
    weak.set_ciphers("ECDHE-ECDSA-AES128-SHA:ECDHE-ECDSA-AES128-SHA256:@SECLEVEL=0")
    one("a server with CBC alone", whole(), server={"context": weak}, error="the server refuses (TLS alert)", delivery="not sent", requests=0, tries=3)
    h2 = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    h2.set_alpn_protocols(["h2", "http/1.1"])
    one("ALPN", whole(), server={"context": h2}, out="the answer\n")

    client = {"client_cert": os.path.join(folder, "client.pem"), "client_key": os.path.join(folder, "client.key")}
    one("a client certificate", whole(), server={"client_ca": "authority.pem"}, options=client, out="the answer\n")
    s = Server(folder, whole(), client_ca="authority.pem")
    o = ask(upstream(s, tries=1))
    check(o.status != 0 and o.delivery in ("not sent", "unknown"), f"no client certificate: {o.err}")  # in TLS 1.3 the server says so after the handshake
    saw("no client certificate", s, 0)
    o = ask(upstream(443, **(client | {"client_key": os.path.join(folder, "good.key")})))
    check(o.status == 78 and "is not the key of client_cert" in o.error, f"another's key: {o.err}")
    for key, value, error in (("ca", "/nonexistent.pem", "cannot be read"), ("ca", os.path.join(folder, "key"), "not PEM"), ("ca", os.path.join(folder, "good.key"), "not PEM"), ("key_file", "/nonexistent", "No such file")):
        o = ask(upstream(443, **{key: value}))
        check(o.status == 78 and error in o.error, f"{key} {value}: {o.err}")


def check_hello():
    """What is offered: no old version, no CBC, no static key, no compression, and the name."""
    heard = []

    class Listening(Server):
        def serve(self, s, number):
            heard.append(s.recv(65536))

    s = Listening(folder, None)
    ask(upstream(s, tries=1))
    record = heard[0]
    hello = record[9:]
    check(record[0] == 22 and record[5] == 1 and hello[:2] == b"\x03\x03", f"no ClientHello of TLS 1.2: {record[:12].hex()}")
    at = 34 + 1 + hello[34]

    def vector(size):
        nonlocal at
        n = int.from_bytes(hello[at:at + size], "big")
        at += size + n
        return hello[at - n:at]

    def pairs(data):
        return {int.from_bytes(data[i:i + 2], "big") for i in range(0, len(data), 2)}

    suites = pairs(vector(2))
    allowed = {0x1301, 0x1302, 0x1303, 0xC02B, 0xC02C, 0xC02F, 0xC030, 0xCCA8, 0xCCA9, 0x00FF}  # 00FF: TLS_EMPTY_RENEGOTIATION_INFO_SCSV
    check(suites <= allowed and {0xC02B, 0xC02F, 0xCCA8, 0xCCA9} <= suites, f"cipher suites {sorted(map(hex, suites))}")
    check(vector(1) == b"\0", "compression is offered")
    extensions, more = {}, vector(2)
    while more:
        n = int.from_bytes(more[2:4], "big")
        extensions[int.from_bytes(more[:2], "big")] = more[4:4 + n]
        more = more[4 + n:]
    check(extensions[0][5:] == b"localhost", f"server_name {extensions.get(0)}")
    check(extensions[16][3:] == b"http/1.1", f"ALPN {extensions.get(16)}")
    groups = pairs(extensions[10][2:])
    check(groups <= {29, 23, 24, 25} and {29, 23} <= groups, f"groups {groups}")
    versions = pairs(extensions.get(43, b"\x02\x03\x03")[1:])
    check(versions <= {0x0303, 0x0304} and versions, f"versions {versions}")
    check(all(h >= 4 or h == 8 for h in {x >> 8 for x in pairs(extensions[13][2:])}), f"signatures by {extensions[13].hex()}")
    s.close()
    # An address is no server_name.
    heard.clear()
    s = Listening(folder, None)
    ask(upstream(s, tries=1, host="127.0.0.1"))
    check(b"127.0.0.1" not in heard[0], "an address is sent as a name")
    s.close()


def check_renegotiation():
    """openssl's own server asks for it ("R") when the request is there: nothing is sent again, and nothing answered."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    s = subprocess.Popen(["openssl", "s_server", "-tls1_2", "-accept", str(port), "-cert", "good.pem", "-key", "good.key"], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    seen = bytearray()

    def watch():
        asked = False
        while got := os.read(s.stdout.fileno(), 65536):
            seen.extend(got)
            if not asked and b"a question" in seen:
                asked = True
                s.stdin.write(b"R\n")
                s.stdin.flush()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    for _ in range(500):
        if b"ACCEPT" in seen:
            break
        time.sleep(0.01)
    o = ask(upstream(port, timeouts={"first_byte": 2}))
    s.kill()
    s.wait()
    watcher.join()
    expect("renegotiation", o, "", "unknown", 1)
    check(seen.count(b"POST /v1/chat/completions") == 1, f"renegotiation: {seen.count(b'POST')} requests")
    check(b"ClientHello" not in seen.split(b"a question")[-1], "renegotiation: the client said hello again")


def check_proxy():
    s, p = Server(folder, whole()), Proxy()
    expect("by proxy", ask(upstream(s, proxy=f"http://localhost:{p.port}")), None, "answered", 1, out="the answer\n")
    saw("by proxy", s, 1)
    check(p.asked == [f"CONNECT localhost:{s.port} HTTP/1.1\r\nHost: localhost:{s.port}\r\n\r\n".encode()], f"the proxy was asked {p.asked}")
    for reply, error, tries in ((b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n", "asks for a password", 1), (b"HTTP/1.1 403 Forbidden\r\n\r\n", "refuses to connect", 3),
                                (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "refuses to connect", 3), (b"SOCKS\r\n", "no status line", 1), (b"", "ended the connection", 3),
                                (b"HTTP/1.1 200 OK\r\n\r\n\x16\x03\x01", "speaks before the server", 3)):
        s, p = Server(folder, whole()), Proxy(reply)
        expect(f"proxy says {reply!r}", ask(upstream(s, proxy=f"http://localhost:{p.port}")), error, "not sent", tries)
        check(len(p.asked) == tries, f"{reply!r}: asked {len(p.asked)} times")
        saw("proxy that refuses", s, 0)
    s, p = Server(folder, whole(), certificate="strange"), Proxy()
    expect("a proxy with a certificate of its own", ask(upstream(s, proxy=f"http://localhost:{p.port}")), "nobody in", "not sent", 1)
    saw("a proxy with a certificate of its own", s, 0)


class Driven:
    """uplink_drive: several requests in one process."""

    def __init__(self, *tables):
        # What the allocator keeps at hand for later counts as used: without it the heap's size is what is in use.
        environment = os.environ | {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"}
        self.process = subprocess.Popen([*WRAPPER, DRIVE, write_config(*tables)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)

    def __call__(self, line=""):
        global runs
        runs += 1
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        said = self.process.stdout.readline()
        no_secret("drive", said)
        return json.loads(said)

    def close(self):
        self.process.stdin.close()
        check(self.process.wait() == 0, f"uplink_drive ends with {self.process.returncode}")


def check_process():
    s = Server(folder, whole())
    d = Driven(upstream(s))
    for _ in range(5):
        check(d()["ok"], "an answer")
    check(s.reused == 4, f"{s.reused} of 4 sessions were resumed")
    s.close()
    r = d()
    check((r["delivery"], r["bytes_out"], r["bytes_in"], r["tries"]) == ("not sent", 0, 0, 3), f"nobody there: {r}")
    d.close()

    # A server that changes its key is not believed for the old session's sake.
    s = Server(folder, whole())
    d = Driven(upstream(s, pin=[pins["good"]], tries=1))
    check(d()["ok"] and d()["ok"] and s.reused == 1, "an answer with a pin")
    s.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    s.context.load_cert_chain(os.path.join(folder, "client.pem"), os.path.join(folder, "client.key"))
    r = d()
    check(not r["ok"] and r["delivery"] == "not sent" and "is for another name" in r["error"], f"another key: {r}")
    saw("another key", s, 2)
    d.close()

    # The breaker: five failures, and it is not asked any more; another is.
    a, b = Server(folder, refused("500 Oops")), Server(folder, whole())
    d = Driven(upstream(a, "a"), upstream(b, "b"))
    first, second, third = d(), d(), d()
    check((first["tries"], second["tries"], third["tries"]) == (4, 3, 1), f"tries: {first['tries']}, {second['tries']}, {third['tries']}")
    check(all(r["ok"] and r["upstream"] == "b" for r in (first, second, third)), "the second upstream answers")
    check(len(a.requests) == 5 and len(b.requests) == 3, f"requests: {len(a.requests)}, {len(b.requests)}")
    alone = d("only=a")
    check(not alone["ok"] and alone["tries"] == 0 and alone["delivery"] == "not sent" and alone["retry_after"] > 0 and "not asked for another" in alone["error"], f"an open breaker: {alone}")
    check("no upstream" in d("only=c")["error"], "an upstream that there is not")
    d.close()

    # Retry-After beyond the deadline: it is not waited for, but told; and it holds for the next request, too.
    a = Server(folder, refused("429 Slow", Retry_After="100"))
    d = Driven(upstream(a))
    first, second = d("deadline=3000"), d("deadline=3000")
    check(first["tries"] == 1 and first["status"] == 429 and first["retry_after"] == 100 * 10**9, f"Retry-After: {first}")
    check(second["tries"] == 0 and 0 < second["retry_after"] <= 100 * 10**9, f"Retry-After, again: {second}")
    check(len(a.requests) == 1, "Retry-After: one request")
    d.close()
    a = Server(folder, refused("503 Busy", Date="Wed, 21 Oct 2015 07:28:00 GMT", Retry_After="Wed, 21 Oct 2015 07:30:00 GMT"))
    d = Driven(upstream(a))
    first = d("deadline=3000")
    check(first["tries"] == 1 and first["retry_after"] == 120 * 10**9, f"Retry-After as a date: {first}")
    d.close()

    # A name server that does not answer is waited for as long as is said, and no longer than the switch allows.
    d = Driven(upstream(443, host="silent.invalid", tries=1, timeouts={"dns": 0.3}))
    r = d()
    check(r["code"] == 264 and r["delivery"] == "not sent" and r["tries"] == 1 and "looking up silent.invalid" in r["error"], f"a silent name server: {r}")
    d.close()
    d = Driven(upstream(443, host="silent.invalid"))
    r = d("cut=300")
    check(r["code"] == 52 and r["delivery"] == "not sent" and r["tries"] == 1, f"cut while a name is looked up: {r}")
    d.close()

    # The privacy switch ends everything, at every wait, and after it nothing is sent.
    hang = lambda s, server, n: time.sleep(30)
    for what, server, options, delivery in (("the handshake", {"stage": "hello"}, {}, "not sent"), ("the answer", {}, {}, "unknown")):
        s = Server(folder, hang, **server)
        d = Driven(upstream(s, **options))
        r = d("cut=300")
        check(r["code"] == 52 and r["delivery"] == delivery and r["tries"] == 1, f"cut in {what}: {r}")
        d.close()
        s.close()
    s = Server(folder, refused("503 Busy"))
    d = Driven(upstream(s, backoff=60))
    r = d("cut=500")
    check(r["code"] == 52 and r["tries"] == 1 and len(s.requests) == 1, f"cut between two tries: {r}")
    r = d("cut=0")
    check(r["code"] == 52 and r["tries"] == 0 and len(s.requests) == 1, f"cut before: {r}")
    d.close()
    # A stream tells its pieces as they come.
    s = Server(folder, head("200 OK", Content_Type="text/event-stream") + b"".join(events("the ", "answer")))
    d = Driven(upstream(s))
    r = d("stream")
    check(r["ok"] and r["told"] == r["text"] == "the answer", f"told: {r}")
    d.close()


def check_memory():
    """The same faults over and over in one process: the heap does not grow."""
    def cut(s, server, n):
        s.sendall(whole()[:60])
        time.sleep(0.02)
        reset(s)

    stream = head("200 OK", Content_Type="text/event-stream") + b"".join(events("the ", "answer"))
    cycle = [whole(), cut, stream, whole(b"{"), refused("400 No"), whole(), head("200 OK", 3) + b"too long", refused("502 Lost"), stream[:-200], whole()]
    s = Server(folder, lambda sock, server, n: cycle[n % len(cycle)](sock, server, n) if callable(cycle[n % len(cycle)]) else sock.sendall(cycle[n % len(cycle)]))
    d = Driven(upstream(s))
    rounds = 6 if WRAPPER else 20
    heaps = []
    for i in range(rounds * len(cycle)):
        r = d("stream" if cycle[i % len(cycle)] is stream else "")
        if i % len(cycle) == len(cycle) - 1:
            heaps.append(r["heap"])
    d.close()
    check(len(s.requests) == rounds * len(cycle), f"memory: {len(s.requests)} requests")
    if PLAIN:
        quarter = rounds // 4  # names and buffers of the test's own grow at first
        check(min(heaps[-quarter:]) <= max(heaps[quarter:2 * quarter]), f"the heap grows: {heaps}")
        print(f"heap after each round of {len(cycle)} requests: {heaps[1]} to {heaps[-1]} bytes")


def check_size():
    bundle = "/etc/ssl/certs/ca-certificates.crt"
    both = os.path.join(folder, "both.pem")
    with open(both, "wb") as out:
        for path in (bundle, os.path.join(folder, "authority.pem")):
            if os.path.exists(path):
                with open(path, "rb") as f:
                    out.write(f.read())
    peak = []

    def look(s, server, n):
        with open(f"/proc/{process.pid}/status", encoding="utf-8") as f:
            peak.append(int(re.search(r"VmHWM:\s+(\d+) kB", f.read())[1]))
        with open(f"/proc/{process.pid}/limits", encoding="utf-8") as f:
            limits = f.read()
        check(re.search(r"Max core file size\s+0\s+0\s", limits) and re.search(r"Max data size\s+33554432\s+33554432\s", limits), f"limits: {limits}")
        s.sendall(whole())

    s = Server(folder, look)
    process = subprocess.Popen([PROGRAM, "--config", write_config(upstream(s, ca=both)), "ask"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.communicate("a question", timeout=60)
    check(process.returncode == 0 and peak, "the memory of a request cannot be read")
    check(peak and peak[0] * 1024 <= 6_000_000, f"slm-uplink has {peak} KiB resident; 6 MB at most")
    # Beyond its limit it says so.
    with open(both, "rb") as f:
        once = f.read()
    with open(os.path.join(folder, "huge.pem"), "wb") as f:
        f.write(once * (1 + (40 << 20) // len(once)))
    o = ask(upstream(443, ca=f.name), command="check")
    check(o.status == 78 and "not enough memory" in o.error, f"a bundle that does not fit: {o.err}")
    stripped = os.path.join(folder, "stripped")
    subprocess.run(["strip", "-o", stripped, PROGRAM], check=True)
    size = os.path.getsize(stripped)
    check(size <= 600_000, f"slm-uplink is {size} bytes stripped; 600000 at most")
    with open(both, "rb") as f:
        print(f"resident: {peak[0] if peak else '?'} KiB with {f.read().count(b'BEGIN CERT')} certificates; stripped: {size} bytes")


def check_command():
    s = Server(folder, lambda sock, server, n: None, stage="handshake")
    o = ask(upstream(s), command="check")
    check(o.status == 0 and f"its key is pin {pins['good']}" in o.out and "ECDHE" in o.out + "ECDHE" and "until 2099-12-31" in o.out, f"check: {o.out} {o.err}")
    saw("check", s, 0)
    s = Server(folder, whole(), certificate="expired")
    o = ask(upstream(s), command="check")
    check(o.status == 1 and "expired on 2021-01-01" in o.out, f"check, expired: {o.out} {o.err}")
    saw("check, expired", s, 0)
    o = ask("colour = 1\n", command="check")
    check(o.status == 78 and "c.toml:1: unknown key" in o.error, f"check, configuration: {o.err}")
    o = ask(upstream(443), command="frobnicate")
    check(o.status == 64, f"an unknown command: {o.err}")
    o = ask(upstream(443), question="")
    check(o.status == 1 and "no question" in o.error, f"no question: {o.err}")
    o = ask(upstream(443), question='[{"role":')
    check(o.status == 1 and o.tries <= 0 and "messages: JSON" in o.error, f"half a question: {o.err}")


try:
    for test in (check_answers, check_preview, check_connections, check_http, check_bodies, check_statuses, check_twice, check_tls, check_hello, check_renegotiation, check_proxy, check_process, check_memory, check_command):
        test()
    if PLAIN and not WRAPPER:
        check_size()
finally:
    shutil.rmtree(folder)
print(f"{runs} requests, {len(failures)} failures")
sys.exit(1 if failures else 0)
