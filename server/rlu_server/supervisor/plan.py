"""What each process is: its program, and its lock. Pure: settings and places in, values out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from rlu_server.engine.launch import EngineStart
from rlu_server.lock.profiles import Additions, User
from rlu_server.settings import Settings
from rlu_server.supervisor.runtime import Runtime

CONFIG = "rlu.toml"
"""The settings in force, below `<runtime>/facts/`."""
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - named, not used
ROLES = ("attestor", "engine", "gateway")


@dataclass(frozen=True, slots=True)
class Program:
    """One process: what to run, under which lock."""

    role: str
    python: Path
    module: str
    arguments: tuple[str, ...]
    environment: dict[str, str]
    additions: Additions
    search_path: tuple[Path, ...] = ()
    label: str = ""
    """Tells it from others of its role; empty: there are none."""


@dataclass(frozen=True, slots=True)
class Host:
    """What the plan needs to know of this machine and this start."""

    python: Path
    variables: Mapping[str, str]
    """Our own environment, of which little is passed on."""
    tpm_group: int | None = None
    """Group of the TPM's device node."""
    nvidia_devices: tuple[Path, ...] = ()
    """Device nodes of NVIDIA's GPUs."""
    accelerator_groups: tuple[int, ...] = ()
    """Groups that accelerators' device nodes belong to (ROCm: `render`), without root's; the engine's user is in them."""
    alone: bool = False
    """Only one role runs here; whoever started us chose its user, and we cannot choose others'."""
    nvidia_switches: tuple[Path, ...] = ()
    """Device nodes of NVIDIA's NVSwitches, and their control node."""


def users(settings: Settings, host: Host) -> dict[str, User | None]:
    """Whom each process is to become; None: it stays who we are."""
    uids = settings.lock.uids
    if uids is None or host.alone:
        return dict.fromkeys(ROLES)
    tpm = () if host.tpm_group is None else (host.tpm_group,)
    return {
        "attestor": User(uids.attestor, uids.attestor, tpm),
        "engine": User(uids.engine, uids.engine, host.accelerator_groups),
        "gateway": User(uids.gateway, uids.gateway),
    }


def user_ids(settings: Settings, uid: int) -> dict[str, int]:
    """Whom each process runs as, wherever that is decided.

    Args:
        uid: our own, which they have where no others are configured.
    """
    uids = settings.lock.uids
    return dict.fromkeys(ROLES, uid) if uids is None else uids.model_dump()


def tpm_device(tcti: str) -> Path | None:
    """The device node of a `device:` TCTI."""
    name, _, value = tcti.partition(":")
    return Path(value or "/dev/tpmrm0") if name == "device" else None


def tpm_ports(tcti: str) -> tuple[int, ...]:
    """The TCP ports of a simulator's TCTI: data, and control on the next."""
    name, _, value = tcti.partition(":")
    if name not in ("swtpm", "mssim") or "path=" in value:
        return ()
    found = re.search(r"(?:^|,)port=(\d{1,5})(?:,|$)", value)
    port = int(found[1]) if found else 2321
    return (port, port + 1)


def tpm_sockets(tcti: str) -> list[Path]:
    """The directory of an emulator's Unix sockets."""
    found = re.search(r"(?:^|,)path=([^,]+)", tcti.partition(":")[2])
    return [Path(found[1]).resolve().parent] if found else []


def uses_tpm(settings: Settings) -> bool:
    """Whether the attestor talks to a TPM."""
    return settings.attestation.holder in ("tpm2", "gcp-vtpm", "azure-vtpm", "nitrotpm")


def evidence_places(settings: Settings, host: Host) -> dict[str, list[Path]]:
    """What collecting evidence takes beside a TPM: `devices` that take ioctls, and directories that are `read` and `written`."""
    kind, vendor = settings.attestation.holder, settings.attestation.gpu.vendor
    places: dict[str, list[Path]] = {"devices": [], "read": [settings.collateral_dir], "written": []}
    if settings.attestation.policy is not None:
        places["read"].append(settings.attestation.policy.parent)
    licence = settings.licence
    if licence.file is not None:
        named = (licence.file, licence.answer_file, *licence.vendor_keys)
        places["read"] += sorted({path.parent for path in named if path is not None})
    if kind in ("sev-snp", "tdx"):
        places["written"].append(Path("/sys/kernel/config/tsm/report"))
    if kind == "tdx":
        places["read"].append(Path("/sys/firmware/acpi/tables/data"))
    if kind == "nitro":
        places["devices"].append(Path("/dev/nsm"))
    if vendor != "none":
        places["read"] += [
            Path("/sys/class/drm"),
            Path("/sys/bus/pci"),
            Path("/sys/devices"),
            Path("/sys/module"),
        ]
    if vendor == "nvidia":
        places["devices"] += [Path("/dev/nvidiactl"), *host.nvidia_devices]
        places["read"].append(Path("/proc/driver/nvidia"))
    if settings.attestation.gpu.evidence == "nvidia":
        places["devices"] += host.nvidia_switches
        places["read"].append(Path("/proc/driver/nvidia-nvswitch"))
    return places


def attestor(settings: Settings, runtime: Runtime, host: Host, uid: int) -> Program:
    """The attestor: the TPM, its state directory, and its socket; no network unless the TPM is a simulator on a port."""
    who = users(settings, host)
    device = tpm_device(settings.attestation.tcti) if uses_tpm(settings) else None
    evidence = evidence_places(settings, host)
    places = {
        "scratch": [runtime.path / "attestor"],
        "state": [*_state(settings), *evidence["written"]],
        "config": [runtime.facts],
        "readable": evidence["read"],
        "tpm": [] if device is None else [device],
        "evidence_devices": evidence["devices"],
        "tpm_sockets": tpm_sockets(settings.attestation.tcti),
    }
    return Program(
        "attestor",
        host.python,
        "rlu_server.attestor",
        (
            "--config",
            str(runtime.facts / CONFIG),
            "--allow-uid",
            str(user_ids(settings, uid)["gateway"]),
        ),
        _environment(runtime.path / "attestor", host),
        Additions(
            minimum_abi=settings.lock.minimum_landlock_abi,
            connect_ports=tpm_ports(settings.attestation.tcti),
            environment=_environment(runtime.path / "attestor", host),
            user=who["attestor"],
            other_uids=_others(settings, "attestor", uid),
            # Alone it has the root of its container; and it is to know the gateway by its user.
            own_root=not host.alone or settings.lock.uids is None,
            allow_swap=settings.lock.unsafe_allow_swap,
            places=places,
        ),
    )


def gateway(settings: Settings, runtime: Runtime, host: Host, uid: int) -> Program:
    """The gateway: one port to listen on, a second if metrics have one; no connection to anywhere but a relay that was named. It reads its
    settings and the copies."""
    who = users(settings, host)
    relay_port, relay_place = relay(settings)
    # A rule for /proc/self is one for the process that made it. Forks of it need theirs, which do not exist yet.
    forked = [Path("/proc")] if settings.gateway.workers > 1 else []
    return Program(
        "gateway",
        host.python,
        "rlu_server.gateway",
        ("--config", str(runtime.facts / CONFIG)),
        _environment(runtime.path / "gateway", host),
        Additions(
            minimum_abi=settings.lock.minimum_landlock_abi,
            bind_ports=(settings.gateway.port, *settings.metrics.ports),
            connect_ports=relay_port,
            environment=_environment(runtime.path / "gateway", host),
            user=who["gateway"],
            other_uids=_others(settings, "gateway", uid),
            allow_swap=settings.lock.unsafe_allow_swap,
            places={
                "scratch": [runtime.path / "gateway"],
                "config": [runtime.facts],
                "readable": [runtime.path / "keys", *forked],
                "peers": [
                    runtime.path / "attestor",
                    *(runtime.path / place for place, _ in settings.fleet()),
                    *relay_place,
                ],
            },
        ),
    )


def relay(settings: Settings) -> tuple[tuple[int, ...], list[Path]]:
    """What reaching the relay of `[auth]` takes: a port to connect to, or the directory of its socket. Without one, nothing."""
    named = settings.auth.relay
    if named.startswith("unix:"):
        return (), [Path(named.removeprefix("unix:")).parent]
    port = urlsplit(named).port if named else None
    return (() if port is None else (port,)), []


def engine(settings: Settings, runtime: Runtime, start: EngineStart, host: Host, uid: int) -> Program:
    """The engine: the model, the accelerators, scratch, and a network of its own with nothing in it."""
    who = users(settings, host)
    return Program(
        "engine",
        start.python,
        start.module,
        start.arguments,
        start.environment,
        Additions(
            minimum_abi=settings.lock.minimum_landlock_abi,
            environment=start.environment,
            user=who["engine"],
            umask=None if settings.lock.uids is None else "007",
            other_uids=_others(settings, "engine", uid),
            shared_network=settings.lock.engine_network == "shared",
            private_bytes=settings.lock.scratch_bytes,
            require_private_memory=runtime.path.is_relative_to(SHARED_MEMORY),
            allow_swap=settings.lock.unsafe_allow_swap,
            places={"scratch": [start.scratch], "model": [start.model], "readable": list(start.search_path)},
        ),
        start.search_path,
        start.place,
    )


def output_filter(settings: Settings, start: EngineStart, text_fd: int, host: Host) -> Program:
    """The filter between the engine's output and everything else."""
    variables = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
    return Program(
        "filter",
        host.python,
        "rlu_output_filter",
        (str(text_fd),),
        variables,
        Additions(
            minimum_abi=settings.lock.minimum_landlock_abi,
            environment=variables,
            user=users(settings, host)["engine"],
            allow_swap=settings.lock.unsafe_allow_swap,
        ),
        start.search_path,
    )


def _environment(scratch: Path, host: Host) -> dict[str, str]:
    passed = {name: host.variables[name] for name in ("TZ", "RLU_LOG_LEVEL") if name in host.variables}
    fixed = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
    return {**passed, **fixed, "HOME": str(scratch), "TMPDIR": str(scratch)}


def _others(settings: Settings, role: str, uid: int) -> tuple[int, ...]:
    return tuple(other for name, other in user_ids(settings, uid).items() if name != role)


def _state(settings: Settings) -> list[Path]:
    """The state directory, and that of a key file elsewhere."""
    paths = [settings.state_dir]
    if not settings.key_path.startswith(("0x", "0X")):
        parent = Path(settings.key_path).parent
        if not parent.is_relative_to(settings.state_dir):
            paths.append(parent)
    return paths
