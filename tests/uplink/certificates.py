"""Certificates for the tests, made by openssl: an authority, and what it signed."""
import base64
import hashlib
import os
import subprocess


def openssl(folder, *arguments):
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def make(folder):
    """NAME.pem (with its key behind it) and NAME.key in folder, and authority.pem. Returns the pin of each."""
    with open(os.path.join(folder, "ca.conf"), "w", encoding="utf-8") as f:
        f.write("[ca]\ndefault_ca=d\n[d]\ndatabase=index\nserial=serial\nnew_certs_dir=.\ndefault_md=sha256\npolicy=p\nunique_subject=no\ncopy_extensions=copy\n"
                "[p]\ncommonName=supplied\n[req]\ndistinguished_name=n\n[n]\n")
    open(os.path.join(folder, "index"), "w", encoding="utf-8").close()
    with open(os.path.join(folder, "serial"), "w", encoding="utf-8") as f:
        f.write("1000\n")
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-config", "ca.conf")
    for name, subject in (("authority", "/CN=test authority"), ("stranger", "/CN=a stranger")):
        openssl(folder, "req", "-x509", *new_key, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", subject, "-days", "3650",
                "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign")
    now = ("20200101000000Z", "20991231000000Z")
    here = "DNS:localhost,IP:127.0.0.1"
    made = {"good": (here, now, "authority"), "other": ("DNS:other.example", now, "authority"), "other_address": ("IP:127.0.0.2", now, "authority"),
            "expired": (here, ("20200101000000Z", "20210101000000Z"), "authority"), "future": (here, ("20980101000000Z", "20991231000000Z"), "authority"),
            "strange": (here, now, "stranger"), "client": ("DNS:board", now, "authority")}
    pins = {}
    for name, (names, (start, end), signer) in made.items():
        openssl(folder, "req", *new_key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}", "-addext", f"subjectAltName={names}")
        openssl(folder, "ca", "-batch", "-notext", "-config", "ca.conf", "-cert", f"{signer}.pem", "-keyfile", f"{signer}.key", "-in", f"{name}.csr", "-out", f"{name}.pem",
                "-startdate", start, "-enddate", end)
    openssl(folder, "req", "-x509", *new_key, "-keyout", "self.key", "-out", "self.pem", "-subj", "/CN=localhost", "-days", "3650", "-addext", f"subjectAltName={here}")
    for name in [*made, "self", "authority"]:
        public = subprocess.run(["openssl", "x509", "-in", f"{name}.pem", "-noout", "-pubkey"], cwd=folder, check=True, capture_output=True, text=True).stdout
        der = base64.b64decode("".join(line for line in public.splitlines() if not line.startswith("---")))
        pins[name] = base64.b64encode(hashlib.sha256(der).digest()).decode()
    return pins
