#!/usr/bin/env python3
"""What is in the packages: owners, modes, the architecture of programs, that they are stripped and hardened, the list of sizes, and the SBOM.

  contents.py FOLDER          with packages for one architecture or two
"""
import glob
import io
import json
import os
import re
import stat
import struct
import subprocess
import sys
import tarfile
import tempfile

FOLDER = sys.argv[1]
MACHINES = {"amd64": 62, "arm64": 183}
failures = []


def check(fine, what):
    if not fine:
        failures.append(what)


def run(*command, data=None):
    return subprocess.run(command, check=True, capture_output=True, input=data).stdout


def needed(program):
    with tempfile.NamedTemporaryFile() as f:
        f.write(program)
        f.flush()
        return re.findall(r"NEEDED\s+(\S+)", run("objdump", "-p", f.name).decode())


lists = {}
for deb in sorted(glob.glob(os.path.join(FOLDER, "*.deb"))):
    name = os.path.basename(deb)
    if "-dbgsym_" in name:
        continue
    package, version, arch = name[:-4].split("_")
    files = {}
    with tarfile.open(fileobj=io.BytesIO(run("dpkg-deb", "--fsys-tarfile", deb))) as tar:
        for m in tar:
            path = m.name.lstrip(".")
            check((m.uid, m.gid, m.uname, m.gname) == (0, 0, "root", "root"), f"{name}: {path} belongs to {m.uid}:{m.gid}")
            check(not m.mode & (stat.S_ISUID | stat.S_ISGID | stat.S_IWGRP | stat.S_IWOTH), f"{name}: {path} has mode {m.mode:o}")
            if m.isfile():
                files[path] = (m.size, tar.extractfile(m).read(), m.mode)
    lists.setdefault(package, {})[arch] = set(files)

    programs = {p: f for p, (_, f, _) in files.items() if f[:4] == b"\x7fELF"}
    wanted = {"slmd": {"/usr/sbin/slmd", "/usr/bin/slmctl"}, "slm-uplink": {"/usr/sbin/slm-uplink"}, "slm-tools": {"/usr/bin/slmpack"}}[package]
    check(set(programs) == wanted, f"{name}: programs are {sorted(programs)}")
    libraries = set()
    for path, elf in programs.items():
        machine = struct.unpack_from("<H", elf, 18)[0]
        check(machine == MACHINES[arch], f"{name}: {path} is for machine {machine}")
        check(struct.unpack_from("<H", elf, 16)[0] == 3, f"{name}: {path} is not position-independent")
        check(b".debug_info" not in elf and b".symtab" not in elf, f"{name}: {path} is not stripped")
        check(files[path][2] & 0o111, f"{name}: {path} cannot be executed")
        libraries |= set(needed(elf))

    with open(deb[:-4] + ".sizes", encoding="utf-8") as f:
        sizes = {path: int(size) for size, path in re.findall(r"^ *(\d+)  (/\S+)$", f.read(), re.M)}
    check(sizes == {p: s for p, (s, _, _) in files.items()}, f"{name}: the list of sizes is not that of its files")

    sbom = json.loads(files[f"/usr/share/doc/{package}/{package}.spdx.json"][1])
    for key in ("spdxVersion", "dataLicense", "SPDXID", "name", "documentNamespace", "creationInfo", "packages", "relationships"):
        check(key in sbom, f"{name}: the SBOM has no {key}")
    check(sbom["spdxVersion"] == "SPDX-2.3" and sbom["dataLicense"] == "CC0-1.0", f"{name}: SBOM of {sbom['spdxVersion']}, {sbom['dataLicense']}")
    ids = [p["SPDXID"] for p in sbom["packages"]]
    check(len(ids) == len(set(ids)) and all(re.fullmatch(r"SPDXRef-[A-Za-z0-9.-]+", i) for i in ids), f"{name}: identifiers in the SBOM: {ids}")
    check({r["relatedSpdxElement"] for r in sbom["relationships"]} == set(ids), f"{name}: a package of the SBOM has no relationship")
    by_name = {p["name"]: p for p in sbom["packages"]}
    check(by_name[package]["versionInfo"] == version, f"{name}: the SBOM is of {by_name[package]['versionInfo']}")
    for p in sbom["packages"]:
        check(p["licenseDeclared"] != "NOASSERTION" or not os.path.isdir(f"/usr/share/doc/{p['name']}"), f"{name}: no licence for {p['name']} in the SBOM")
        if p["name"] != package:
            installed = run("dpkg-query", "-W", "-f", "${Version}\n", p["name"]).decode().split()
            check(p["versionInfo"] in installed, f"{name}: the SBOM has {p['name']} {p['versionInfo']}; installed: {installed}")
    # Every library that the loader will look for is a package of the SBOM, and of the dependencies.
    depends = run("dpkg-deb", "-f", deb, "Depends").decode()
    check(libraries, f"{name}: no library is needed")
    for library in libraries:
        stem = "libc" if library.startswith(("ld-linux", "libm.so", "libc.so")) else re.match(r"lib[a-z_+-]*", library).group(0).replace("_", "-")
        check(any(n.startswith(stem) for n in by_name if n != package), f"{name}: {library} is not in the SBOM ({sorted(by_name)})")
        check(stem in depends, f"{name}: {library} is not in its dependencies ({depends})")

for package, arches in lists.items():
    sets = list(arches.values())
    check(all(s == sets[0] for s in sets), f"{package}: the architectures differ in {sorted(set.union(*sets) - set.intersection(*sets))}")
check("slmd" in lists and "slm-uplink" in lists, "no package slmd, or no slm-uplink")
for f in failures:
    print("FAILED:", f)
print(f"{sum(len(a) for a in lists.values())} packages looked at, {len(failures)} failures")
sys.exit(1 if failures else 0)
