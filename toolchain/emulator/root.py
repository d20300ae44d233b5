"""Kernel and root file system of an emulated board: made of Debian's arm64 packages, without running any of them, and cached.

Packages come through this machine's own apt configuration and are unpacked here, so neither root nor qemu-user is needed. For another suite than this machine's,
that configuration's entries are taken with the other name, and the lists are the cache's. What maintainer scripts would have done, and a guest needs, is done by hand
below. The cache is $SLMD_CACHE, else $XDG_CACHE_HOME/slmd, else ~/.cache/slmd, in the folder emulate/SUITE; a root is named after the versions of its packages and what
this folder adds. With a root in the cache, nothing is downloaded.
"""
import fcntl
import fnmatch
import glob
import hashlib
import io
import json
import lzma
import os
import re
import shutil
import stat
import subprocess
import tarfile
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))

# What the guest is made of beside what the package slmd depends on.
PACKAGES = ["base-files", "base-passwd", "bash", "coreutils", "dash", "debianutils", "diffutils", "dpkg", "findutils", "gpiod", "grep", "gzip", "init-system-helpers",
            "kmod", "libc-bin", "mount", "perl-base", "procps", "sed", "systemd", "systemd-sysv", "tar", "udev", "usr-is-merged", "util-linux"]
KERNEL = "linux-image-arm64"
SUITES = ("bookworm", "trixie")
# i6300esb: the watchdog of virt; the bcm28* ones: raspi3b. The rest of what boards need is built into Debian's kernel.
MODULES = ["leds-gpio", "ledtrig-timer", "ledtrig-pattern", "ledtrig-heartbeat", "gpio-keys", "i6300esb", "softdog", "bcm2835_thermal", "bcm2835_wdt", "ext4", "loop",
           "autofs4"]
# A root is read into memory at every start: leave out what no program of the guest reads.
UNWANTED = ["usr/share/doc/*", "usr/share/man/*", "usr/share/info/*", "usr/share/locale/*", "usr/share/i18n/*", "usr/share/lintian/*", "usr/share/bug/*",
            "usr/share/zoneinfo/*", "usr/share/perl5/Debconf/*", "usr/lib/*/gconv/*", "usr/lib/udev/hwdb.d/*", "usr/lib/udev/hwdb.bin", "usr/lib/systemd/catalog/*",
            "usr/share/bash-completion/*", "usr/share/zsh/*", "usr/lib/*/perl-base/unicore/*", "usr/share/common-licenses/*", "usr/lib/systemd/boot/*"]
# What takes long under emulation and matters to no test: mounts, gettys and first-boot work of a machine that people log in to.
MASKED = ["systemd-hwdb-update.service", "ldconfig.service", "systemd-journal-catalog-update.service", "systemd-firstboot.service", "systemd-update-done.service",
          "systemd-random-seed.service", "systemd-update-utmp.service", "systemd-update-utmp-runlevel.service", "systemd-pstore.service", "systemd-user-sessions.service",
          "systemd-journal-flush.service", "systemd-remount-fs.service", "systemd-sysctl.service", "systemd-modules-load.service", "systemd-machine-id-commit.service",
          "systemd-binfmt.service", "systemd-boot-system-token.service", "systemd-logind.service", "kmod-static-nodes.service", "modprobe@.service", "getty-static.service",
          "getty.target", "dev-hugepages.mount", "dev-mqueue.mount", "sys-kernel-debug.mount", "sys-kernel-tracing.mount", "sys-kernel-config.mount",
          "sys-fs-fuse-connections.mount", "proc-sys-fs-binfmt_misc.automount", "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer",
          "fstrim.timer", "systemd-tmpfiles-clean.timer"]


class Unavailable(Exception):
    """What a boot needs cannot be had on this machine; the text says what to do."""


def cache_folder():
    for name, below in (("SLMD_CACHE", ""), ("XDG_CACHE_HOME", "slmd"), ("HOME", ".cache/slmd")):
        if os.environ.get(name):
            return os.path.join(os.environ[name], below, "emulate")
    raise Unavailable("neither SLMD_CACHE, XDG_CACHE_HOME nor HOME is set")


def run(*command, **options):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=600, **options)
    if done.returncode:
        raise Unavailable(f"{' '.join(command[:4])} ... failed: {(done.stderr or done.stdout).decode(errors='replace').strip()[-800:]}")
    return done.stdout


def own_suite():
    """The release of Debian that runs here, by name."""
    with open("/etc/os-release", encoding="utf-8") as f:
        return (re.search(r"^VERSION_CODENAME=(.*)$", f.read(), re.M) or ("", "none"))[1]


class Apt:
    """apt for a machine on which nothing is installed, of architecture arm64 and of the suite, with this machine's sources."""

    def __init__(self, folder, suite):
        self.suite, self.other, self.lists = suite, {}, "/var/lib/apt/lists"
        if suite != own_suite():
            self.sources, self.lists = os.path.join(folder, "sources"), os.path.join(folder, "lists")
            self.other = {"Dir::Etc::sourcelist": "-", "Dir::Etc::sourceparts": self.sources, "Dir::State::lists": self.lists}
        self.archives = os.path.join(folder, "debs")
        self.none = os.path.join(folder, "none")  # apt lists only what its archive does not hold
        for place in (self.archives, self.none):
            os.makedirs(os.path.join(place, "partial"), exist_ok=True)
        self.status = os.path.join(folder, "empty")
        open(self.status, "w").close()

    def update(self):
        """The lists of another suite, anew; this machine's own are its owner's affair."""
        if not self.other:
            return
        os.makedirs(self.sources, exist_ok=True)
        own = re.compile(rf"(?<=\s){own_suite()}(?=(-updates|-security)?(\s|$))")
        for path in ["/etc/apt/sources.list", *glob.glob("/etc/apt/sources.list.d/*.list"), *glob.glob("/etc/apt/sources.list.d/*.sources")]:
            if os.path.exists(path):
                with open(path, encoding="utf-8") as f:
                    entries = re.split(r"\n\s*\n" if path.endswith(".sources") else r"\n", f.read())
                with open(os.path.join(self.sources, os.path.basename(path)), "w", encoding="utf-8") as out:
                    out.write("\n\n".join(own.sub(self.suite, e) for e in entries if own.search(e)) + "\n")
        os.makedirs(os.path.join(self.lists, "partial"), exist_ok=True)
        self("apt-get", "update")

    def __call__(self, program, *arguments, archives=None, **where):
        options = {"APT::Architecture": "arm64", "APT::Architectures::": "arm64", "Dir::State::status": self.status, "Dir::Cache::archives": archives or self.none,
                   "Dir::Cache::pkgcache": "", "Dir::Cache::srcpkgcache": "", "Debug::NoLocking": "1", "APT::Sandbox::User": "root", "Acquire::Retries": "3",
                   **self.other}
        words = [w for name, value in options.items() for w in ("-o", f"{name}={value}")]
        return run(program, *words, "-qq", *arguments, **where).decode()

    def resolve(self, packages):
        """File names of the packages and all that they depend on, or of those alone that cannot run here (the kernel)."""
        kernel = re.search(r"linux-image-[0-9][^ ,]*-arm64", self("apt-cache", "depends", KERNEL))
        if not kernel:
            raise Unavailable(f"apt knows no {KERNEL} for arm64: run toolchain/install-dependencies --emulate")
        wanted = self("apt-get", "--no-install-recommends", "--print-uris", "install", *packages)
        names = [line.split()[1] for line in wanted.splitlines() if line.startswith("'")]
        image = self("apt-get", "--print-uris", "download", kernel[0]).split()[1]
        return names, kernel[0], image

    def fetch(self, packages, kernel):
        self("apt-get", "--no-install-recommends", "--download-only", "-y", "install", *packages, archives=self.archives)
        if not glob.glob(os.path.join(self.archives, kernel + "_*.deb")):
            with tempfile.TemporaryDirectory(dir=self.archives) as place:
                self("apt-get", "download", kernel, cwd=place)
                for name in os.listdir(place):
                    os.rename(os.path.join(place, name), os.path.join(self.archives, name))


# Links into /usr: where build_tree makes them, as Debian 12's packages still hold files below them and no package holds the links, which Debian 13's base-files does.
LINKED = ("bin", "lib", "sbin")


class Tree:
    """A file system in memory: path -> (mode, uid, gid, data). Written as a cpio archive, which the kernel unpacks itself."""

    def __init__(self):
        self.entries = {}

    @staticmethod
    def merged(path):
        return "usr/" + path if path.split("/")[0] in LINKED else path

    def put(self, path, data=b"", mode=0o644, uid=0, gid=0, kind=stat.S_IFREG):
        path = self.merged(path.strip("/"))
        parent = os.path.dirname(path)
        if parent and parent not in self.entries:
            self.put(parent, kind=stat.S_IFDIR, mode=0o755)
        self.entries[path] = (kind | mode, uid, gid, data.encode() if isinstance(data, str) else data)

    def link(self, path, target):
        self.put(path, target, mode=0o777, kind=stat.S_IFLNK)

    def folder(self, path, mode=0o755):
        self.put(path, kind=stat.S_IFDIR, mode=mode)

    def unpack(self, deb, wanted=lambda path: True):
        """Takes in a package's files; returns their paths as dpkg lists them."""
        listed = ["/."]
        archive = tarfile.open(fileobj=io.BytesIO(run("dpkg-deb", "--fsys-tarfile", deb)), mode="r:")
        for member in archive:
            path = os.path.normpath(member.name).lstrip("/")
            if path == ".":
                continue
            listed.append("/" + path)
            place = self.merged(path)
            if path in LINKED or not wanted(place) or any(fnmatch.fnmatch(place, pattern) for pattern in UNWANTED):
                continue
            attributes = {"mode": member.mode, "uid": member.uid, "gid": member.gid}
            if member.isdir():
                self.put(place, kind=stat.S_IFDIR, **attributes)
            elif member.issym():
                self.link(place, member.linkname)
            elif member.islnk():
                self.entries[place] = self.entries[self.merged(os.path.normpath(member.linkname).lstrip("/"))]
            elif member.isreg():
                self.put(place, archive.extractfile(member).read(), **attributes)
        return listed

    def write(self, path):
        """cpio, format newc (kernel: Documentation/driver-api/early-userspace/buffer-format.rst)."""
        def entry(inode, name, mode, uid, gid, data):
            size = len(data)
            raw = name.encode() + b"\0"
            head = b"070701" + b"".join(b"%08X" % v for v in (inode, mode, uid, gid, 1, 0, size, 0, 0, 0, 0, len(raw), 0))
            return head + raw + b"\0" * (-(len(head) + len(raw)) % 4) + data + b"\0" * (-size % 4)

        with open(path, "wb") as out:
            for inode, name in enumerate(sorted(self.entries), 1):
                out.write(entry(inode, name, *self.entries[name]))
            end = entry(0, "TRAILER!!!", 0, 0, 0, b"")
            out.write(end + b"\0" * (-(out.tell() + len(end)) % 512))


def module_name(path):
    return re.sub(r"\.ko(\.xz)?$", "", os.path.basename(path)).replace("-", "_")


def add_modules(tree, deb):
    """Takes the kernel image out of its package, and into the tree those modules that are wanted, with what they need. Returns the kernel."""
    all_of_it = Tree()
    all_of_it.unpack(deb, lambda path: path.startswith(("boot/vmlinuz", "usr/lib/linux-image", "usr/lib/modules/")))
    files = all_of_it.entries
    modules = {module_name(p): p for p in files if re.search(r"\.ko(\.xz)?$", p)}

    def content(path):
        data = files[path][3]
        return lzma.decompress(data) if path.endswith(".xz") else data

    def needs(name):
        found = re.search(rb"\0depends=([^\0]*)\0", content(modules[name]))
        return [n.replace("-", "_") for n in found[1].decode().split(",") if n] if found else []

    todo, taken = [m.replace("-", "_") for m in MODULES], set()
    while todo:
        name = todo.pop()
        if name in taken or name not in modules:  # not there: built into the kernel
            continue
        taken.add(name)
        todo += needs(name)
    version = re.match(r"usr/lib/modules/([^/]+)/", next(iter(modules.values())))[1]
    base = f"usr/lib/modules/{version}/"
    with tempfile.TemporaryDirectory() as place:
        for path in [modules[n] for n in taken] + [p for p in files if p.startswith(base + "modules.")]:
            os.makedirs(os.path.dirname(os.path.join(place, path)), exist_ok=True)
            with open(os.path.join(place, path), "wb") as out:
                out.write(content(path))
        os.symlink("usr/lib", os.path.join(place, "lib"))
        depmod = shutil.which("depmod") or "/sbin/depmod"
        if not os.path.exists(depmod):
            raise Unavailable("depmod is missing: run toolchain/install-dependencies --emulate")
        run(depmod, "-b", place, version)
        for folder, _, names in os.walk(os.path.join(place, "usr/lib/modules")):
            for name in names:
                full = os.path.join(folder, name)
                with open(full, "rb") as f:
                    tree.put(os.path.relpath(full, place), f.read())
    kernel = [p for p in files if p.startswith("boot/vmlinuz")]
    trees = [p for p in files if p.endswith("bcm2837-rpi-3-b.dtb")]
    return files[kernel[0]][3], files[trees[0]][3]


def build_tree(debs):
    tree = Tree()
    for name in LINKED:
        tree.entries[name] = (stat.S_IFLNK | 0o777, 0, 0, b"usr/" + name.encode())
        tree.folder("usr/" + name)
    for path, mode in (("proc", 0o555), ("sys", 0o555), ("dev", 0o755), ("run", 0o755), ("tmp", 0o1777), ("root", 0o700), ("var/tmp", 0o1777), ("var/lib/dpkg/updates", 0o755)):
        tree.folder(path, mode)
    # dpkg's own records, so that it checks the dependencies of what is installed in the guest.
    status = []
    for deb in debs:
        listed = tree.unpack(deb)
        fields = run("dpkg-deb", "-f", deb).decode()
        name = re.search(r"^Package: (.*)$", fields, re.M)[1]
        if re.search(r"^Multi-Arch: same$", fields, re.M):
            name += ":arm64"
        tree.put(f"var/lib/dpkg/info/{name}.list", "".join(p + "\n" for p in listed))
        status.append(re.sub(r"^(Package: .*)$", r"\1\nStatus: install ok installed", fields.rstrip("\n"), count=1, flags=re.M) + "\n\n")
    tree.put("var/lib/dpkg/status", "".join(status))
    tree.put("var/lib/dpkg/info/format", "1\n")
    tree.put("var/lib/dpkg/available")
    # What maintainer scripts would have done.
    for file in ("passwd", "group"):
        tree.put(f"etc/{file}", tree.entries[f"usr/share/base-passwd/{file}.master"][3])
    tree.put("etc/shadow", "root:*:19700:0:99999:7:::\n", mode=0o640, gid=42)
    tree.put("etc/nsswitch.conf", "passwd: files systemd\ngroup: files systemd\nshadow: files\nhosts: files\n")
    tree.put("etc/machine-id", "")
    tree.put("etc/hostname", "board\n")
    tree.link("etc/mtab", "../proc/self/mounts")
    if "usr/bin/sh" not in tree.entries:
        tree.link("usr/bin/sh", "dash")
    if "usr/bin/awk" not in tree.entries:
        tree.link("usr/bin/awk", "mawk")
    if "usr/bin/which" not in tree.entries:
        tree.link("usr/bin/which", "which.debianutils")
    for unit in MASKED:
        tree.link(f"etc/systemd/system/{unit}", "/dev/null")
    # Of the devices that are there at boot, udev is told only of those that have rules or modules which matter here; the rest is two hundred consoles and memory blocks.
    matches = ["--subsystem-match=" + "  --subsystem-match=".join(("gpio", "leds", "pci", "watchdog", "thermal", "block", "platform", "amba")),
               "--subsystem-match=tty --sysname-match=ttyS* --sysname-match=ttyAMA*", "--subsystem-match=misc --sysname-match=watchdog*"]
    tree.put("etc/systemd/system/systemd-udev-trigger.service.d/few.conf", "[Service]\nExecStart=\n" + "".join(f"ExecStart=udevadm trigger --action=add {m}\n" for m in matches))
    for name in sorted(os.listdir(os.path.join(HERE, "guest"))):
        with open(os.path.join(HERE, "guest", name), "rb") as f:
            data = f.read()
        if name.endswith(".service"):
            tree.put(f"etc/systemd/system/{name}", data)
        elif name == "init":
            tree.put("init", data, mode=0o755)
        else:
            tree.put(f"usr/local/sbin/{name}", data, mode=0o755)
    return tree


class Root:
    def __init__(self, folder, key):
        self.kernel = os.path.join(folder, f"vmlinuz-{key}")
        self.archive = os.path.join(folder, f"root-{key}.cpio")
        self.raspi3b_dtb = os.path.join(folder, f"bcm2837-rpi-3-b-{key}.dtb")

    def complete(self):
        return all(os.path.exists(p) for p in (self.kernel, self.archive, self.raspi3b_dtb))


def prepare(extra, suite, say=print):
    """The root that holds PACKAGES and the packages named in extra, from the cache or made."""
    folder = os.path.join(cache_folder(), suite)
    os.makedirs(folder, exist_ok=True)
    apt = Apt(folder, suite)
    packages = sorted(set(PACKAGES) | set(extra))
    recipe = hashlib.sha256()
    for path in [os.path.join(HERE, "root.py")] + sorted(glob.glob(os.path.join(HERE, "guest", "*"))):
        with open(path, "rb") as f:
            recipe.update(os.path.basename(path).encode() + b"\0" + f.read() + b"\0")

    def question():
        lists = [(p, os.stat(p).st_size, os.stat(p).st_mtime) for p in sorted(glob.glob(os.path.join(apt.lists, "*Packages*")))]
        return hashlib.sha256(json.dumps([packages, lists, recipe.hexdigest()]).encode()).hexdigest()[:16]

    memo = os.path.join(folder, "last.json")
    with open(os.path.join(folder, ".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            with open(memo) as f:
                last = json.load(f)
        except (OSError, ValueError):
            last = {}
        if last.get("question") == question() and Root(folder, last["key"]).complete():
            return Root(folder, last["key"])
        apt.update()
        names, kernel, image = apt.resolve(packages)
        key = hashlib.sha256("\n".join(sorted(names) + [image, recipe.hexdigest()]).encode()).hexdigest()[:16]
        root = Root(folder, key)
        if not root.complete():
            have = set(os.listdir(apt.archives))
            missing = [n for n in names + [image] if n not in have]
            if missing:
                say(f"downloading {len(missing)} packages of Debian {suite} for arm64")
                apt.fetch(packages, kernel)
            say("unpacking them into a root file system")
            tree = build_tree([os.path.join(apt.archives, n) for n in names])
            vmlinuz, dtb = add_modules(tree, os.path.join(apt.archives, image))
            for old in glob.glob(os.path.join(folder, "*-????????????????.*")) + glob.glob(os.path.join(folder, "vmlinuz-*")):
                os.unlink(old)
            for path, data in ((root.kernel, vmlinuz), (root.raspi3b_dtb, dtb)):
                with open(path, "wb") as f:
                    f.write(data)
            tree.write(root.archive + ".new")
            os.rename(root.archive + ".new", root.archive)
            for name in have - set(names) - {image, "partial", "lock"}:
                os.unlink(os.path.join(apt.archives, name))
        with open(memo, "w") as f:
            json.dump({"question": question(), "key": key}, f)
        return root
