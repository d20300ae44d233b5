"""What a benchmark has to know about the machine: what it is, who else uses it, what a process holds, and how a file leaves the page cache."""
import datetime, os, platform, resource, subprocess, time

HERTZ = os.sysconf("SC_CLK_TCK")


def first_line(path, start):
    with open(path) as f:
        return next((l.split(":", 1)[1].strip() for l in f if l.startswith(start)), "?")


def describe():
    git = lambda *a: subprocess.run(["git", "-C", os.path.dirname(os.path.abspath(__file__)), *a], capture_output=True, text=True).stdout.strip()
    return {"date": str(datetime.date.today()), "commit": git("rev-parse", "--short", "HEAD") + ("+changes" if git("status", "--porcelain", "-uno") else ""),
            "cpu": first_line("/proc/cpuinfo", "model name"), "arch": platform.machine(), "cores": os.cpu_count(),
            "memory_mib": int(first_line("/proc/meminfo", "MemTotal").split()[0]) // 1024}


def busy():
    """Core seconds since boot that somebody computed, and that the hypervisor took."""
    with open("/proc/stat") as f:
        user, nice, system, _, _, irq, softirq, steal = (int(v) for v in f.readline().split()[1:9])
    return (user + nice + system + irq + softirq) / HERTZ, steal / HERTZ


def own():
    """Core seconds of this process and of the children that it has waited for."""
    return sum(u.ru_utime + u.ru_stime for u in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)))


class Watch:
    """Cores that others used while it ran: `foreign` processes, and `steal` by the hypervisor."""

    def __enter__(self):
        self.start = time.monotonic(), *busy(), own()
        return self

    def __exit__(self, *_):
        wall, used, stolen, mine = (now - then for now, then in zip((time.monotonic(), *busy(), own()), self.start))
        self.foreign, self.steal = max(0.0, (used - mine) / wall), stolen / wall
        self.load = os.getloadavg()[0]

    def others(self):
        return self.foreign + self.steal

    def record(self):
        return {"foreign_cores": round(self.foreign, 2), "steal_cores": round(self.steal, 2), "loadavg": round(self.load, 2)}


def wait_for_quiet(limit, patience):
    """Until others use fewer than `limit` cores for a second, `patience` seconds at most."""
    end = time.monotonic() + patience
    while True:
        with Watch() as w:
            time.sleep(1)
        if w.others() < limit or time.monotonic() > end:
            return


def at_rest(o, ask):
    """What ask() says, and who else used the machine meanwhile: the quietest of o.tries, no more of them than it takes. Waits before each."""
    tries = []
    while len(tries) < o.tries and not (tries and tries[-1][1]["quiet"]):
        wait_for_quiet(o.quiet, o.patience)
        with Watch() as w:
            answer = ask()
        tries.append((answer, {**w.record(), "quiet": w.others() < o.quiet}))
    return min(tries, key=lambda t: t[1]["foreign_cores"] + t[1]["steal_cores"])


def options(a):
    a.add_argument("--quiet", type=float, default=0.1, help="cores that others may use during a measurement")
    a.add_argument("--patience", type=int, default=60, help="seconds to wait for that before each measurement")
    a.add_argument("--tries", type=int, default=3, help="of a measurement that others disturbed")


def memory(pid):
    """KiB that a process holds: RSS, and PSS (what it shares, divided by those that share it)."""
    with open(f"/proc/{pid}/smaps_rollup") as f:
        lines = {l.split(":")[0]: l.split()[1] for l in f if ":" in l and l.startswith(("Rss", "Pss:"))}
    return {"rss_kib": int(lines["Rss"]), "pss_kib": int(lines["Pss"])}


def forget(*paths):
    """The page cache drops these files; programs and their libraries stay."""
    for path in paths:
        fd = os.open(path, os.O_RDONLY)
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


def warm(*paths):
    for path in paths:
        with open(path, "rb") as f:
            while f.read(1 << 22):
                pass
