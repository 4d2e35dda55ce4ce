"""What the kernel says of itself, of processor and memory, and of the devices that can hold a key; read below a root directory.

Everything is read as the user who asks; nothing is changed, made or mounted. What only a syscall can tell (Landlock's ABI) is an argument.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from rlu_server.preflight.facts import Device, Host, Kernel, Swap, Trust

MAX_TEXT = 2**20
FLAGS = frozenset({"avx2", "avx512f", "amx_bf16", "avx512_bf16", "sev_snp", "tdx_guest", "hypervisor"})


def kernel(root: Path, *, landlock: int, is_root: bool) -> Kernel:
    """The running kernel. `landlock` is what `rlu_lock.landlock_abi` says."""
    release = re.match(r"(\d+)\.(\d+)", _text(root / "proc/sys/kernel/osrelease"))
    limit = _text(root / "proc/sys/user/max_user_namespaces")
    switch = _text(root / "proc/sys/kernel/unprivileged_userns_clone")
    apparmor = _text(root / "proc/sys/kernel/apparmor_restrict_unprivileged_userns")
    cgroup = root / "sys/fs/cgroup"
    return Kernel(
        release=(int(release[1]), int(release[2])) if release else None,
        landlock=landlock,
        seccomp=frozenset(_text(root / "proc/sys/kernel/seccomp/actions_avail").split()),
        user_namespaces=int(limit) if limit.isdigit() else None,
        restricted=switch == "0" or apparmor == "1",
        swap=_swap(root),
        cgroup="v2"
        if (cgroup / "cgroup.controllers").exists()
        else "v1"
        if (cgroup / "memory").is_dir()
        else "none",
        kexec_crash=_text(root / "sys/kernel/kexec_crash_loaded") == "1",
        root=is_root,
    )


def host(root: Path) -> Host:
    """Processor and memory."""
    cpuinfo = _text(root / "proc/cpuinfo")
    memory = dict(re.findall(r"^(\w+):\s+(\d+) kB$", _text(root / "proc/meminfo"), re.MULTILINE))
    flags = re.search(r"^(?:flags|Features)\s*:(.*)$", cpuinfo, re.MULTILINE)
    try:
        shared = os.statvfs(root / "dev/shm")
        shared_memory = shared.f_frsize * shared.f_blocks
    except OSError:
        shared_memory = 0
    return Host(
        processors=len(re.findall(r"^processor\s*:", cpuinfo, re.MULTILINE)),
        flags=FLAGS & set(flags[1].split() if flags else ()),
        memory=int(memory.get("MemTotal", 0)) * 1024,
        available=int(memory.get("MemAvailable", 0)) * 1024,
        shared_memory=shared_memory,
    )


def trust(root: Path) -> Trust:
    """TPM and TEE devices, and whether this user may use them."""
    resource, plain = root / "dev/tpmrm0", root / "dev/tpm0"
    version = _text(root / "sys/class/tpm/tpm0/tpm_version_major")
    reports = root / "sys/kernel/config/tsm/report"
    measured = root / "sys/kernel/security/ima/binary_runtime_measurements"
    return Trust(
        tpm=_device(resource if resource.exists() else plain),
        tpm_version=int(version) if version.isdigit() else 0,
        sev_snp=_device(root / "dev/sev-guest"),
        tdx=_device(root / "dev/tdx_guest"),
        nitro=_device(root / "dev/nsm"),
        tsm=Device(reports.is_dir(), reports.is_dir() and os.access(reports, os.W_OK | os.X_OK)),
        ima=Device(os.access(measured, os.F_OK), os.access(measured, os.R_OK)),
    )


def _device(path: Path) -> Device:
    return Device(path.exists(), os.access(path, os.R_OK | os.W_OK))


def _swap(root: Path) -> Swap:
    devices = [line.split()[0] for line in _text(root / "proc/swaps").splitlines()[1:] if line.split()]
    memory = sum(_memory_only(root, Path(device).name) for device in devices)
    enabled = _text(root / "sys/module/zswap/parameters/enabled") in ("Y", "1")
    return Swap(disk=len(devices) - memory, zram=memory, zswap=enabled)


def _memory_only(root: Path, name: str) -> bool:
    # A zram device with a backing device writes to that disk.
    return name.startswith("zram") and _text(root / "sys/block" / name / "backing_dev") == "none"


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MAX_TEXT).decode("utf-8", "replace").strip()
    except OSError:
        return ""
