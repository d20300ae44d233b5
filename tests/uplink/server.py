"""A server that does what a test tells it, byte by byte, and a proxy; both remember what they saw."""
import json
import os
import socket
import ssl
import struct
import threading
import time


def head(status="200 OK", length=None, **fields):
    lines = [f"HTTP/1.1 {status}"] + [f"{k.replace('_', '-')}: {v}" for k, v in fields.items()]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def answer(text="the answer", **more):
    body = {"model": "m-1", "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 9, "completion_tokens": 3}, **more}
    return json.dumps(body).encode()


def whole(body=None, status="200 OK", **fields):
    body = answer() if body is None else body
    return head(status, len(body), Content_Type="application/json", **fields) + body


def events(*texts, end=True):
    out = [json.dumps({"model": "m-1", "choices": [{"index": 0, "delta": {"content": t}}]}) for t in texts]
    if end:
        out += [json.dumps({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}), json.dumps({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 3}}), "[DONE]"]
    return [f"data: {e}\n\n".encode() for e in out]


def chunked(pieces, end=True):
    return b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces) + (b"0\r\n\r\n" if end else b"")


def reset(s):
    """Ends a connection with RST instead of FIN."""
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if isinstance(s, ssl.SSLSocket):
        s = socket.socket(fileno=s.detach())
    s.close()


class Listener:
    def __init__(self):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.connections = 0
        self.trouble = []
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    def accept(self):
        while True:
            try:
                s, _ = self.socket.accept()
            except OSError:
                return
            number, self.connections = self.connections, self.connections + 1
            threading.Thread(target=self.guarded, args=(s, number), daemon=True).start()

    def guarded(self, s, number):
        try:
            s.settimeout(20)
            self.serve(s, number)
        except (OSError, ssl.SSLError, ValueError) as e:  # what a client that goes away does
            self.trouble.append(repr(e))
        finally:
            try:
                s.close()
            except OSError:
                pass

    def close(self):
        try:
            self.socket.shutdown(socket.SHUT_RDWR)  # a thread that waits in accept() would take one more
        except OSError:
            pass
        self.thread.join()
        self.socket.close()


class Server(Listener):
    """script: a function (tls socket, server, connection number), called after the request was read; or bytes to send.

    stage: "accept", "hello" or "handshake", where `script` is called instead, with the plain socket for the first two."""

    def __init__(self, folder, script, certificate="good", tls=True, stage="request", context=None, client_ca=None):
        self.script, self.tls, self.stage = script, tls, stage
        self.requests, self.reused = [], 0
        self.lock = threading.Lock()
        if tls:
            self.context = context or ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(os.path.join(folder, certificate + ".pem"), os.path.join(folder, certificate + ".key"))
            if client_ca:
                self.context.verify_mode = ssl.CERT_REQUIRED
                self.context.load_verify_locations(os.path.join(folder, client_ca))
        super().__init__()

    def read_request(self, s):
        data = b""
        while b"\r\n\r\n" not in data:
            got = s.recv(65536)
            if not got:
                raise ValueError("the request ended")
            data += got
        top, body = data.split(b"\r\n\r\n", 1)
        length = int([line for line in top.split(b"\r\n") if line.lower().startswith(b"content-length:")][0].split(b":")[1])
        while len(body) < length:
            got = s.recv(65536)
            if not got:
                raise ValueError("the request ended")
            body += got
        with self.lock:
            self.requests.append(top + b"\r\n\r\n" + body)
            return len(self.requests) - 1

    def serve(self, s, number):
        if self.stage == "accept":
            return self.script(s, self, number)
        if self.stage == "hello":
            s.recv(65536)
            return self.script(s, self, number)
        if self.tls:
            s = self.context.wrap_socket(s, server_side=True)
            self.reused += bool(s.session_reused)
        if self.stage == "handshake":
            return self.script(s, self, number)
        index = self.read_request(s)
        script = self.script[min(index, len(self.script) - 1)] if isinstance(self.script, list) else self.script
        if callable(script):
            script(s, self, index)
        else:
            s.sendall(script)
        try:
            if self.tls:
                s.unwrap()
        except (OSError, ValueError):
            pass
        s.close()


class Proxy(Listener):
    def __init__(self, answer=b"HTTP/1.1 200 Connection established\r\n\r\n"):
        self.answer, self.asked = answer, []
        super().__init__()

    def serve(self, s, number):
        data = b""
        while b"\r\n\r\n" not in data:
            data += s.recv(4096)
        self.asked.append(data)
        s.sendall(self.answer)
        if b" 200 " not in self.answer.split(b"\r\n")[0]:
            return
        host, port = data.split(b" ")[1].decode().rsplit(":", 1)
        out = socket.create_connection((host, int(port)), timeout=20)

        def copy(a, b):
            try:
                while got := a.recv(65536):
                    b.sendall(got)
                b.shutdown(socket.SHUT_WR)
            except OSError:
                pass

        t = threading.Thread(target=copy, args=(out, s), daemon=True)
        t.start()
        copy(s, out)
        t.join()
        out.close()


def slowly(data, pause):
    """Sends a byte at a time."""
    def script(s, server, number):
        for i in range(len(data)):
            s.sendall(data[i:i + 1])
            time.sleep(pause)
    return script
