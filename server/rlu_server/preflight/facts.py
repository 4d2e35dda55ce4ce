"""What the probes saw of a node. Values only; `findings` are made of them by the modules `judge_…`, without another look."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU. None: the driver does not say.

    Attributes:
        links: interconnects (NVLink, or xGMI's hive) in use, of `links_total`.
        performance: NVIDIA's performance state, 0 the fastest; 15 idle and slowest.
        persistent: the driver stays loaded while nobody uses the GPU.
        uncorrected: memory errors since the driver was loaded that were not corrected.
    """

    name: str
    memory_mib: int
    vbios: str
    ecc: bool | None = None
    ecc_pending: bool | None = None
    links: int | None = None
    links_total: int | None = None
    performance: int | None = None
    persistent: bool | None = None
    uncorrected: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpus:
    """GPUs of one vendor, or why the driver's answer could not be had (`problem`: code and what to do).

    Attributes:
        switches: NVSwitches, or why they do not answer; None where nobody asks for their reports: outside protected PCIe mode.
    """

    vendor: str
    driver: str = ""
    mode: str | None = None
    gpus: tuple[Gpu, ...] = ()
    problem: tuple[str, str] | None = None
    switches: int | tuple[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Swap:
    """Devices of swap: `disk` reaches a disk, `zram` are compressed memory alone."""

    disk: int = 0
    zram: int = 0
    zswap: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """The running kernel.

    Attributes:
        release: major and minor version; None when it cannot be told.
        landlock: ABI, 0 for none.
        seccomp: actions that filters may take.
        user_namespaces: how many may be made; None when it cannot be told.
        restricted: unprivileged users may not make them (by the distribution's switch or AppArmor).
        cgroup: `v2`, `v1` or `none`.
        kexec_crash: a crash kernel is loaded, which writes memory to disk after a panic.
    """

    release: tuple[int, int] | None
    landlock: int
    seccomp: frozenset[str]
    user_namespaces: int | None
    restricted: bool
    swap: Swap
    cgroup: str
    kexec_crash: bool
    root: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """Processor and memory, in bytes."""

    processors: int
    flags: frozenset[str]
    memory: int
    available: int
    shared_memory: int


@dataclass(frozen=True, slots=True)
class Device:
    """A device or interface of the kernel's: whether it is there, and whether this user may use it."""

    present: bool = False
    usable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """What can hold or vouch for the instance key."""

    tpm: Device = Device()
    tpm_version: int = 0
    sev_snp: Device = Device()
    tdx: Device = Device()
    nitro: Device = Device()
    tsm: Device = Device()
    ima: Device = Device()
    """The kernel's list of measurements."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """A bounded sequential read.

    Attributes:
        read: bytes that were read, in `seconds`.
        direct: past the page cache, so that the device was measured.
        total: bytes of all weights there.
        problem: why nothing could be read.
    """

    read: int = 0
    seconds: float = 0.0
    direct: bool = False
    total: int = 0
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """Everything that was probed."""

    nvidia: Gpus
    amd: Gpus
    kernel: Kernel
    host: Host
    trust: Trust
    storage: Storage | None = field(default=None)
