"""What a guest needs to run slmd: its package, a model, a configuration."""
import glob
import os
import tempfile

from . import root

PROJECT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MODEL = "/var/lib/slmd/models/default.slm"
UART = "/dev/ttyS0"  # the guest's end of guest.uart


def packages(suite):
    """The newest package of slmd for arm64 that toolchain/package has made, or for another suite tests/packaging, in a list; empty: there is none."""
    folder = os.path.join(PROJECT, "build", "packages", "" if suite == root.own_suite() else suite)
    return sorted(glob.glob(os.path.join(folder, "slmd_*_arm64.deb")), key=os.path.getmtime)[-1:]


def tiny_model():
    """The image of models/tiny, as bytes."""
    slmpack = os.path.join(PROJECT, "build", "release", "slmpack")
    if not os.path.exists(slmpack):
        raise root.Unavailable("build/release/slmpack is missing: build the preset release first")
    with tempfile.TemporaryDirectory() as folder:
        image = os.path.join(folder, "tiny.slm")
        root.run(slmpack, "import", os.path.join(PROJECT, "models", "tiny"), "-o", image)
        with open(image, "rb") as f:
            return f.read()


def configuration(more="", tty=""):
    """slmd.toml for a guest: the model, the socket where the package has it, the board's second serial port. more: further tables; tty: further keys of the port."""
    return (f'model = "{MODEL}"\n\n[socket]\npath = "/run/slmd/slmd.sock"\n\n[[tty]]\npath = "{UART}"\nbaud = 115200\n{tty}\n{more}').encode()


def files(model=None, config=None):
    """The files of a guest: model and configuration, each a path on this machine or bytes."""
    return {MODEL: model or tiny_model(), "/etc/slmd/slmd.toml": config or configuration()}
