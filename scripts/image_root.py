#!/usr/bin/env python3
"""Put the gateway image's root together: ENVIRONMENT SBOM ROOT. Runs in the image's build, as root, on Debian.

In it: the interpreter with its standard library, the virtual environment, every shared library that these load, the TPM's transports, the
certificate authorities, two users, and the lists of what is in it. Not in it: a shell, a package manager, a compiler, Debian's tools.
Bytecode is compiled here, since nothing can write it later. No times: two builds of the same things are to be the same.
"""

from __future__ import annotations

import compileall
import os
import py_compile
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

LOADED_BY_NAME = (
    "libtss2-tcti-device.so.0",
    "libtss2-tcti-swtpm.so.0",
    "libnss_dns.so.2",
    "libnss_files.so.2",
    "libgcc_s.so.1",
)
UNUSED = (
    "ensurepip",
    "idlelib",
    "lib2to3",
    "test",
    "tkinter",
    "turtledemo",
    "dist-packages",
    "site-packages",
    "__pycache__",
    "config-3*",
    "venv",
)
DATA = ("/etc/ssl/certs/ca-certificates.crt", "/etc/nsswitch.conf", "/usr/share/zoneinfo/UTC")
USERS = "root:x:0:0::/:/none\nrlu-attestor:x:10001:10001::/:/none\nrlu-gateway:x:10003:10001::/:/none\n"
GROUPS = "root:x:0:\nrlu:x:10001:\n"
MOUNT_POINTS = ("etc/rlu", "proc", "sys", "dev", "run/rlu", "tmp", "var/lib/rlu", "models")


def copy(source: Path, root: Path) -> None:
    """A file at its own path; links become links, and what they lead to comes too."""
    target = root / os.path.realpath(source.parent).lstrip("/") / source.name
    if os.path.lexists(target):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_symlink():
        target.symlink_to(os.readlink(source))
        copy(source.parent / os.readlink(source), root)
    else:
        shutil.copyfile(source, target)
        target.chmod(0o755 if os.access(source, os.X_OK) else 0o644)


def elf_files(directory: Path) -> Iterable[Path]:
    for path in sorted(directory.rglob("*")):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                if file.read(4) == b"\x7fELF":
                    yield path


def libraries(file: Path) -> set[Path]:
    """What the loader finds for a file, the loader itself included."""
    listed = subprocess.run(["ldd", str(file)], capture_output=True, text=True, check=False).stdout
    words = [word for line in listed.splitlines() for word in line.split()]
    return {Path(word) for word in words if word.startswith("/") and not word.startswith("/opt/rlu/")}


def by_name(name: str) -> Path:
    for line in subprocess.run(
        ["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=True
    ).stdout.splitlines():
        if line.split()[:1] == [name]:
            return Path(line.split()[-1])
    raise SystemExit(f"{name} is not installed")


def packages(files: Iterable[Path]) -> str:
    """The Debian packages that files come from, with their versions."""
    owners = set()
    for file in files:
        for path in {str(file), os.path.realpath(file), str(file).removeprefix("/usr")}:
            found = subprocess.run(["dpkg", "-S", path], capture_output=True, text=True, check=False).stdout
            owners |= {line.split(": ")[0] for line in found.splitlines()}
    if not owners:
        return ""
    form = "${Package}\t${Version}\t${Architecture}\n"
    listed = subprocess.run(
        ["dpkg-query", "-W", "-f", form, *sorted(owners)], capture_output=True, text=True, check=True
    ).stdout
    return "".join(sorted(listed.splitlines(keepends=True)))


def main(environment: Path, sbom: Path, root: Path) -> None:
    for old, new in (("bin", "usr/bin"), ("lib", "usr/lib"), ("lib64", "usr/lib64")):
        (root / new).mkdir(parents=True, exist_ok=True)
        if old != "bin":
            (root / old).symlink_to(new)
    interpreter = Path(sys.executable).resolve()
    standard = Path(sysconfig.get_path("stdlib"))
    shutil.copytree(
        standard, root / str(standard).lstrip("/"), ignore=shutil.ignore_patterns(*UNUSED), symlinks=True
    )
    shutil.copytree(
        environment,
        root / str(environment).lstrip("/"),
        ignore=shutil.ignore_patterns("__pycache__"),
        symlinks=True,
    )
    programs = {interpreter, environment / "bin" / "python"}
    link = environment / "bin" / "python"
    while link.is_symlink():
        link = link.parent / os.readlink(link)
        copy(link, root)
        programs.add(link)
    copy(interpreter, root)
    needed = {by_name(name) for name in LOADED_BY_NAME}
    for file in (interpreter, *elf_files(standard), *elf_files(environment), *sorted(needed)):
        needed |= libraries(file)
    for file in sorted(needed):
        copy(file, root)
    for name in DATA:
        copy(Path(name), root)
    (root / "etc/passwd").write_text(USERS)
    (root / "etc/group").write_text(GROUPS)
    for name in MOUNT_POINTS:
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in ("run/rlu", "tmp"):
        (root / name).chmod(0o1777)  # runc gives a tmpfs the mode of the directory it covers
    lists = root / "usr/share/sbom"
    lists.mkdir(parents=True)
    shutil.copyfile(sbom, lists / "python.cdx.json")
    (lists / "debian.tsv").write_text(packages(sorted({*needed, interpreter})))
    for place in (standard, environment):
        compileall.compile_dir(
            str(root / str(place).lstrip("/")),
            quiet=1,
            stripdir=str(root),
            prependdir="/",
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )
    for path in (root, *root.rglob("*")):
        os.utime(
            path, (0, 0), follow_symlinks=False
        )  # the builder's history has a digest of the copied files, times included


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
