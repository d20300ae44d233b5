#!/usr/bin/env python3
"""What the manual pages, the completions and the default configuration say is what the programs take: both ways, nothing missing and nothing too much.

  documents.py BUILD          a build with slmd, slmctl, slm-uplink, slmpack and the target man
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
PACKAGING = os.path.join(HERE, "../../toolchain/packaging")
BUILD = sys.argv[1]
PAGES = os.path.join(BUILD, "toolchain/packaging/man")
PROGRAMS = {"slmd": "runtime/daemon/slmd", "slmctl": "runtime/client/slmctl", "slm-uplink": "runtime/uplink/slm-uplink", "slmpack": "slmpack"}
failures = []


def run(*command, **more):
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **more)


def expect(what, found, wanted):
    missing, extra = sorted(wanted - found), sorted(found - wanted)
    if missing:
        failures.append(f"{what} lacks {' '.join(missing)}")
    if extra:
        failures.append(f"{what} has {' '.join(extra)}, which the program has not")
    if not wanted:
        failures.append(f"{what}: nothing to compare with")


def options_in(text):
    return set(re.findall(r"(?<![\w-])(--[a-z][a-z0-9-]*|-[A-Za-z])(?![\w-])", text))


def options_of(name, command=None):
    """Of --help; and of --help and --version themselves, which a program need not list, but must have."""
    path = os.path.join(BUILD, PROGRAMS[name])
    shown = run(path, *([command] if command else []), "--help")
    if shown.returncode != 0:
        failures.append(f"{name} {command or ''} --help: exit status {shown.returncode}")
    # Of a subcommand's help only the part with options: its text may name another program's.
    text = re.sub(r"\bslm\w+ --[a-z-]+", "", shown.stdout)  # another program's
    if name == "slmpack":
        text = "\n".join(re.sub(r"  +.*", "", line.strip()) for line in text.split("Options:")[-1].split("\n\n")[0].splitlines() if re.match(r"  -", line))
    found = options_in(text)
    for extra in [] if name == "slmpack" else ["-h", "--help", "-V", "--version"]:
        if run(path, extra).returncode == 0:
            found.add(extra)
    return found


def plain(line):
    line = re.sub(r"\\f[A-Z]", "", line).replace("\\-", "-").replace('"', "")
    return re.sub(r"^\.[A-Z]+ ", "", line)


def tags(page, section=None):
    """What stands at the heads of a page's paragraphs (.TP), in one section or all."""
    found, here = [], section is None
    lines = open(os.path.join(PAGES, page), encoding="utf-8").read().splitlines()
    for i, line in enumerate(lines):
        if line.startswith((".SH ", ".SS ")) and section is not None:
            here = line[4:].strip() == section
        elif here and line == ".TP":
            found.append(plain(lines[i + 1]))
    return found


def bash_completion(name, words):
    script = f'source "{PACKAGING}/completion/{name}"; COMP_WORDS=({" ".join(words)}); COMP_CWORD={len(words) - 1}; _{name.replace("-", "_")}; printf "%s\\n" "${{COMPREPLY[@]}}"'
    return set(run("bash", "-c", script).stdout.split())


def zsh_options(name):
    text = open(f"{PACKAGING}/completion/_{name}", encoding="utf-8").read()
    found = set(re.findall(r"'\*?(--[a-z][a-z0-9-]*)\[", text))
    for group in re.findall(r"\{(-[^}]*)\}", text):
        found |= set(group.split(","))
    return found


def check_programs():
    for name, page in (("slmd", "slmd.8"), ("slmctl", "slmctl.1"), ("slm-uplink", "slm-uplink.8")):
        wanted = options_of(name)
        expect(page, options_in("\n".join(t for t in tags(page) if t.startswith("-"))), wanted)
        expect(f"bash completion of {name}", bash_completion(name, [name, "-"]), wanted)
        expect(f"zsh completion of {name}", zsh_options(name), wanted)

    usage = run(os.path.join(BUILD, PROGRAMS["slmctl"]), "--help").stdout
    commands = set(re.findall(r"^  ([a-z]+)\b", usage.split("options")[0], re.M))
    expect("slmctl.1", {t.split()[0] for t in tags("slmctl.1", "COMMANDS")}, commands)
    expect("bash completion of slmctl", bash_completion("slmctl", ["slmctl", '""']), commands)
    settings = {w for w in re.findall(r"a setting of the answer: ([a-z_, \n]+?)\n", usage)[0].replace(",", " ").split()}
    offered = {w.rstrip("=") for w in bash_completion("slmctl", ["slmctl", "--set", '""'])}
    expect("--set in bash", offered - {"max"}, settings)  # max has an option of its own

    usage = run(os.path.join(BUILD, PROGRAMS["slm-uplink"]), "--help").stdout
    commands = set(re.findall(r"^  ([a-z]+)\b", usage.split("options")[1].split("commands:")[1], re.M))
    expect("slm-uplink.8", {t.split()[0] for t in tags("slm-uplink.8", "COMMANDS")}, commands)
    expect("bash completion of slm-uplink", bash_completion("slm-uplink", ["slm-uplink", '""']), commands)

    usage = run(os.path.join(BUILD, PROGRAMS["slmpack"]), "--help").stdout
    commands = set(re.findall(r"^  ([a-z]+)\b", usage.split("Subcommands:")[1], re.M))
    page = open(os.path.join(PAGES, "slmpack.1"), encoding="utf-8").read()
    expect("slmpack.1", set(re.findall(r"^\.SS (\w+)$", page, re.M)), commands)
    offered = bash_completion("slmpack", ["slmpack", '""'])
    expect("bash completion of slmpack", {w for w in offered if not w.startswith("-")}, commands)
    wanted = options_of("slmpack")
    expect("slmpack.1", options_in(" ".join(tags("slmpack.1", "OPTIONS"))), wanted)
    everything = set(wanted)
    for command in sorted(commands):
        wanted = options_of("slmpack", command)
        everything |= wanted
        expect(f"slmpack.1, {command}", options_in(" ".join(tags("slmpack.1", command))) | {"-h", "--help"}, wanted)
        expect(f"bash completion of slmpack {command}", bash_completion("slmpack", ["slmpack", command, "-"]), wanted)
    expect("zsh completion of slmpack", zsh_options("slmpack"), everything)


def known_keys(program, folder, table, *arguments):
    """What can stand in a table ("" is the top): the program says so when something else does."""
    path = os.path.join(folder, "unknown.toml")
    with open(path, "w", encoding="utf-8") as f:
        f.write((table + "\n" if table else "") + "zzz_unknown = 1\n")
    said = run(program, "--config", path, *arguments)
    found = re.search(r"known: (.+)", said.stderr)
    if said.returncode != 78 or not found:
        failures.append(f"{os.path.basename(program)} took an unknown key in {table or 'the top'}: status {said.returncode}, {said.stderr.strip()}")
        return set()
    return set(re.split(r",? (?=\[)|, ", found.group(1).strip()))


def shipped_keys(name):
    """A configuration as it is shipped, the same with every example, and the keys of each of its tables."""
    text = open(os.path.join(PACKAGING, name), encoding="utf-8").read()
    whole = re.sub(r"^# (\[+[a-z_.]+\]+|[a-z_0-9]+ = )", r"\1", text, flags=re.M)
    shipped, table = {"": set()}, ""
    for line in whole.splitlines():
        if re.match(r"\[", line):
            table = line.strip()
            above, dot, _ = table.strip("[]").partition(".")
            shipped["[" + above + "]" if dot else ""].add(table)
            shipped[table] = set()
        elif re.match(r"[a-z_0-9]+ = ", line):
            shipped[table].add(line.split(" = ")[0])
    return text, whole, shipped


def check_uplink_configuration():
    program = os.path.join(BUILD, PROGRAMS["slm-uplink"])
    text, whole, shipped = shipped_keys("slm-uplink.toml")
    with tempfile.TemporaryDirectory() as folder:
        top = known_keys(program, folder, "", "check")
        expect("slm-uplink.toml", shipped[""], top)
        tables = [t for t in top if t.startswith("[")]
        expect("slm-uplink.toml.5, the top", set(tags("slm-uplink.toml.5", "KEYS AT THE TOP")), top - set(tables))
        for table in tables:  # those within tables come as they are found
            known = known_keys(program, folder, table, "check")
            tables += [t for t in known if t.startswith("[")]
            expect(f"slm-uplink.toml, {table}", shipped.get(table, set()), known)
            expect(f"slm-uplink.toml.5, {table}", set(tags("slm-uplink.toml.5", table)), known)
        # Of two ways to name a key there can be one.
        whole = re.sub(r"^key_file = .*\n", "", whole, flags=re.M).replace("plaintext = false", "")
        for name, content, wanted in (("as shipped", text, "no [[upstream]]"), ("with every example", whole, "key_cloud: No such file")):
            path = os.path.join(folder, "slm-uplink.toml")
            with open(path, "w", encoding="utf-8") as f:
                f.write(content)
            said = run(program, "--config", path, "check", env=os.environ | {"CREDENTIALS_DIRECTORY": folder})
            if said.returncode != 78 or wanted not in said.stderr:
                failures.append(f"slm-uplink.toml {name}: status {said.returncode}, {said.stderr.strip()}")


def check_configuration():
    slmd = os.path.join(BUILD, PROGRAMS["slmd"])
    text, whole, shipped = shipped_keys("slmd.toml")
    with tempfile.TemporaryDirectory() as folder:
        top = known_keys(slmd, folder, "")
        expect("slmd.toml", shipped[""], top)
        for table in sorted({""} | {t for t in top if t.startswith("[")}):
            known = known_keys(slmd, folder, table)
            if table:
                expect(f"slmd.toml, {table}", shipped.get(table, set()), known)
            section = table or "KEYS AT THE TOP"
            expect(f"slmd.toml.5, {section}", set(tags("slmd.toml.5", section)), {k for k in known if not k.startswith("[")})
        key = os.path.join(folder, "factory")  # stands for the one that is named as an example
        if run(os.path.join(BUILD, PROGRAMS["slmpack"]), "keygen", "-o", key).returncode != 0:
            failures.append("slmpack keygen fails")
        whole = whole.replace("/etc/slmd/keys/factory", key)
        for name, content in (("as shipped", text), ("with every example", whole)):
            path = os.path.join(folder, "slmd.toml")
            with open(path, "w", encoding="utf-8") as f:
                f.write(content)
            said = run(slmd, "--config", path, "--plan")
            if said.returncode != 1 or "/var/lib/slmd/models" not in said.stderr:  # all that is wrong is that the model is not here
                failures.append(f"slmd.toml {name}: status {said.returncode}, {said.stderr.strip()}")


def check_pages():
    linters = []
    if shutil.which("mandoc"):
        linters.append(("mandoc", "-T", "lint", "-W", "warning"))
    if shutil.which("groff"):
        linters.append(("groff", "-ww", "-z", "-man", "-Tutf8"))
    if shutil.which("man"):
        linters.append(("man", "--warnings", "-P", "true", "-l"))
    if not linters:
        print("not looked at, no mandoc, groff or man here: the form of the manual pages")
    pages = sorted(os.listdir(PAGES))
    expect("the target man", set(pages), {"slmd.8", "slmctl.1", "slmpack.1", "slmd.toml.5", "slm-at.7", "slm-uplink.8", "slm-uplink.toml.5"})
    for page in pages:
        path = os.path.join(PAGES, page)
        for linter in linters:
            said = run(*linter, path)
            complaints = said.stderr + (said.stdout if linter[0] == "mandoc" else "")
            if complaints.strip():
                failures.append(f"{linter[0]} on {page}: {complaints.strip()}")
        for name in re.findall(r"^\.BR (slm[\w\\.-]*) \((\d)\)", open(path, encoding="utf-8").read(), re.M):
            other = f"{name[0]}.{name[1]}".replace("\\", "")
            if other not in pages:
                failures.append(f"{page} refers to {other}, which is not there")
    commands = {line.split()[0] for line in run(os.path.join(BUILD, PROGRAMS["slmctl"]), "help").stdout.splitlines()}
    expect("slm-at.7", {t.replace("\\&", "") for t in tags("slm-at.7", "COMMANDS")} - parameters(), commands)


def parameters():
    """Heads that stand one level deeper, after .RS."""
    lines = open(os.path.join(PAGES, "slm-at.7"), encoding="utf-8").read().splitlines()
    return {plain(lines[i + 2]) for i, line in enumerate(lines) if line == ".RS" and lines[i + 1] == ".TP"}


check_programs()
check_configuration()
check_uplink_configuration()
check_pages()
for f in failures:
    print("FAILED:", f)
print(f"{len(failures)} differences")
sys.exit(1 if failures else 0)
