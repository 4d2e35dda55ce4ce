"""Findings about kernel, processor, memory, what can hold the key, and the storage of weights."""

from __future__ import annotations

from collections.abc import Iterator

from rlu_server.preflight.facts import Device, Kernel, Node, Storage, Trust
from rlu_server.preflight.findings import Finding, error, info, ok, warning

GIB = 2**30
LANDLOCK_WANTED, LANDLOCK_FULL = 3, 6
"""3 stops truncation, which the chart asks for; 6 keeps signals and abstract sockets apart as well."""
NOSWAP_SINCE = (6, 4)
LEAST_MEMORY = 4 * GIB
GPU_MEMORY = 128 * GIB
"""For a node that serves from GPUs: the chart's scratch (64 GiB) and shared memory (32 GiB), and the engine's own."""
LEAST_SHARED = GIB
SLOW_READ = 500 * 10**6
"""Bytes a second, below which a large model takes many minutes to start."""
LONG_LOAD_S, READY_S = 600, 1800
"""What is worth a warning, and the default of `engine.ready_timeout_s`."""


def judge_kernel(kernel: Kernel) -> Iterator[Finding]:
    """What the lock needs of the kernel."""
    yield _landlock(kernel.landlock)
    if {"kill_process", "errno"} <= kernel.seccomp:
        yield ok("kernel.seccomp", "filters are available")
    else:
        yield error("kernel.seccomp", "no seccomp filters", "use a kernel with CONFIG_SECCOMP_FILTER")
    yield _namespaces(kernel)
    yield from _swap(kernel)
    if kernel.cgroup == "v2":
        yield ok("kernel.cgroup", "v2")
    else:
        yield warning(
            "kernel.cgroup",
            f"cgroup {kernel.cgroup}",
            "boot with systemd.unified_cgroup_hierarchy=1: without v2 no pod can be kept from swapping",
        )
    if kernel.release is None or kernel.release >= NOSWAP_SINCE:
        yield ok("kernel.noswap", "tmpfs can be mounted so that it never swaps")
    else:
        yield warning(
            "kernel.noswap",
            f"Linux {kernel.release[0]}.{kernel.release[1]} has no tmpfs that never swaps",
            "use Linux 6.4 or later, or keep all swap off",
        )
    if kernel.kexec_crash:
        yield warning(
            "kernel.crash_dump",
            "a crash kernel is loaded: after a panic it writes memory, prompts included, to a disk",
            "disable kdump, or let it write to an encrypted place that you erase",
        )


def _landlock(abi: int) -> Finding:
    if abi == 0:
        return error("kernel.landlock", "no Landlock", "use Linux 5.13 or later and boot with lsm=landlock,…")
    if abi < LANDLOCK_WANTED:
        return warning(
            "kernel.landlock", f"Landlock ABI {abi}, {LANDLOCK_WANTED} is wanted", "use Linux 6.2 or later"
        )
    if abi < LANDLOCK_FULL:
        return info(
            "kernel.landlock", f"Landlock ABI {abi}; {LANDLOCK_FULL} (Linux 6.12) separates processes further"
        )
    return ok("kernel.landlock", f"Landlock ABI {abi}")


def _namespaces(kernel: Kernel) -> Finding:
    if kernel.user_namespaces == 0:
        found = "user namespaces are off"
    elif kernel.restricted and not kernel.root:
        found = "unprivileged user namespaces are not allowed"
    else:
        return ok("kernel.user_namespaces", "available")
    return warning(
        "kernel.user_namespaces",
        found,
        "allow them (sysctl user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns=0), start `rlu serve` as root, "
        'or set lock.engine_network = "shared" behind a network policy',
    )


def _swap(kernel: Kernel) -> Iterator[Finding]:
    swap = kernel.swap
    if swap.disk:
        yield error(
            "kernel.swap",
            f"{swap.disk} swap devices reach a disk",
            "turn swap off (swapoff -a, and remove it from /etc/fstab), or set memory.swap.max=0 for the service",
        )
    elif swap.zram:
        yield info("kernel.swap", "swap goes to compressed memory only (zram)")
    else:
        yield ok("kernel.swap", "off")
    if swap.zswap and swap.disk:
        yield warning(
            "kernel.zswap",
            "zswap is on in front of a disk",
            "turn it off (zswap.enabled=0) together with swap",
        )


def judge_host(node: Node) -> Iterator[Finding]:
    """Processor, memory and shared memory."""
    host = node.host
    guest = " in a virtual machine" if "hypervisor" in host.flags else ""
    yield info("cpu.count", f"{host.processors} processors{guest}")
    gpus = bool(node.nvidia.gpus or node.amd.gpus)
    if not gpus and "avx512f" not in host.flags:
        yield warning(
            "cpu.vectors",
            "no AVX-512",
            "use a processor that has it: the CPU engine is slow without, and untested",
        )
    wanted = GPU_MEMORY if gpus else LEAST_MEMORY
    said = f"{host.memory / GIB:.0f} GiB, {host.available / GIB:.0f} GiB available"
    if host.memory < wanted:
        yield warning(
            "memory.size",
            said,
            f"{wanted // GIB} GiB are wanted: scratch, shared memory and the engine live in it",
        )
    else:
        yield ok("memory.size", said)
    if host.shared_memory < LEAST_SHARED:
        yield warning(
            "memory.shared",
            f"{host.shared_memory / GIB:.2f} GiB for /dev/shm",
            "give it 1 GiB or more: vLLM's processes and collectives talk through it",
        )
    else:
        yield ok("memory.shared", f"{host.shared_memory / GIB:.0f} GiB for /dev/shm")


def judge_trust(trust: Trust) -> Iterator[Finding]:
    """What can hold the instance key, or vouch for it."""
    if trust.tpm.present and trust.tpm_version not in (0, 2):
        yield error(
            "tpm.version",
            f"TPM {trust.tpm_version}",
            "switch the firmware to TPM 2.0; earlier ones cannot hold the key",
        )
    devices = {
        "tpm.device": ("TPM 2.0", trust.tpm, "add the user to the group of /dev/tpmrm0 (often tss)"),
        "tee.sev_snp": ("SEV-SNP guest", trust.sev_snp, "give the attestor's user /dev/sev-guest"),
        "tee.tdx": ("TDX guest", trust.tdx, "give the attestor's user /dev/tdx_guest"),
        "tee.nitro": ("Nitro Enclave", trust.nitro, "give the attestor's user /dev/nsm"),
    }
    for name, (what, device, remedy) in devices.items():
        yield from _device(name, what, device, remedy)
    if trust.tpm.present and trust.ima.present:
        yield info(
            "tpm.ima",
            "the kernel lists what it measures (IMA); with PCR 10 in [attestation] pcrs the list goes beside every quote"
            + ("" if trust.ima.usable else ", once this user may read it"),
        )
    if trust.sev_snp.present or trust.tdx.present:
        yield _reports(trust.tsm)
    if not any(device.present for _, device, _ in devices.values()):
        yield error(
            "trust.key",
            "neither a TPM nor a TEE: nothing here can hold the instance key",
            "switch the TPM on in the firmware (a vTPM in a virtual machine), or run in a confidential machine; "
            "for a trial, a software key or an emulated TPM",
        )


def _device(name: str, what: str, device: Device, remedy: str) -> Iterator[Finding]:
    if device.present and device.usable:
        yield ok(name, f"{what}: usable")
    elif device.present:
        yield error(name, f"{what}: this user may not use it", remedy)


def _reports(reports: Device) -> Finding:
    if not reports.present:
        return error(
            "tee.tsm",
            "the kernel has no configfs-tsm reports",
            "use Linux 6.7 or later, and mount configfs at /sys/kernel/config",
        )
    if not reports.usable:
        return error(
            "tee.tsm",
            "this user may not make reports",
            "chown /sys/kernel/config/tsm/report to the attestor's user",
        )
    return ok("tee.tsm", "reports through configfs-tsm")


def judge_storage(storage: Storage) -> Iterator[Finding]:
    """How long weights take to load."""
    if storage.problem:
        yield error("storage.read", storage.problem, "give a directory or file that this user can read")
        return
    rate = storage.read / max(storage.seconds, 1e-9)
    how = "" if storage.direct else ", page cache not avoided"
    said = f"{rate / 10**6:,.0f} MB/s over {storage.read / 10**6:,.0f} MB{how}"
    loading = storage.total / rate
    whole = f"; {storage.total / 10**9:.1f} GB in about {loading:,.0f} s"
    remedy = "put the weights on local NVMe, or raise engine.ready_timeout_s and the start-up probe"
    if loading > READY_S:
        yield error("storage.read", said + whole, remedy)
    elif loading > LONG_LOAD_S or (rate < SLOW_READ and storage.total > 10 * GIB):
        yield warning("storage.read", said + whole, remedy)
    else:
        yield ok("storage.read", said + whole)
