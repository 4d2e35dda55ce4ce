"""Profiles for the launcher: the JSON files of this package, and what a deployment adds to them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

LAUNCHER = Path(__file__).with_name("rlu_lock.py")
NAMES = ("attestor", "connect", "engine", "filter", "gateway")


@dataclass(frozen=True, slots=True)
class User:
    """Who a process runs as; the supervisor must be root to use one."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Additions:
    """What a deployment adds to a packaged profile; only `shared_network` and `allow_swap` take something away, which shows."""

    minimum_abi: int = 1
    bind_ports: tuple[int, ...] = ()
    connect_ports: tuple[int, ...] = ()
    environment: Mapping[str, str] | None = None
    """None: as the profile says."""
    keep_variables: tuple[str, ...] = ()
    user: User | None = None
    umask: str | None = None
    """Octal; None: as the profile says."""
    other_uids: tuple[int, ...] = ()
    """User ids of the other processes, for `uid_shared`."""
    shared_network: bool = False
    private_bytes: int = 4 << 30
    """Limit of the private /dev/shm."""
    require_private_memory: bool = False
    """The runtime directory is below /dev/shm, which the engine may write: it must have one of its own."""
    allow_swap: bool = False
    own_root: bool = True
    """False: no root of its own, where that would take a user namespace, in which other users' ids cannot be told apart."""
    places: Mapping[str, Sequence[str | Path]] = field(default_factory=dict)
    """Values of the profile's placeholders."""


def packaged(name: str) -> dict[str, Any]:
    """A profile as it ships."""
    if name not in NAMES:
        raise ValueError(f"no profile {name}")
    text = (resources.files("rlu_server.lock") / "profiles" / f"{name}.json").read_text("utf-8")
    profile: dict[str, Any] = json.loads(text)
    return profile


def compose(name: str, additions: Additions) -> dict[str, Any]:
    """The profile for one process of this deployment."""
    profile = packaged(name)
    profile["landlock"]["minimum_abi"] = max(additions.minimum_abi, 0)
    _open_ports(profile, additions)
    if additions.environment is not None:
        profile["environment"] = {"keep": list(additions.keep_variables), "set": dict(additions.environment)}
    else:
        profile["environment"]["keep"] = [*profile["environment"]["keep"], *additions.keep_variables]
    if additions.umask is not None:
        profile["umask"] = additions.umask
    if additions.user is not None:
        profile["user"] = {
            "uid": additions.user.uid,
            "gid": additions.user.gid,
            "groups": list(additions.user.groups),
        }
    profile["other_users"] = list(additions.other_uids)
    if additions.shared_network:
        _share_network(profile)
    if not additions.own_root:
        del profile["mounts"]
    elif "mounts" in profile:
        profile["mounts"]["private_bytes"] = additions.private_bytes
    if additions.require_private_memory:
        profile["require"]["shared_memory"] = "private"
    if additions.allow_swap:
        profile["require"].pop("swap", None)
    if additions.minimum_abi < 1:
        for claim in LANDLOCK_CLAIMS:
            profile["require"].pop(claim, None)
    return profile


def _share_network(profile: dict[str, Any]) -> None:
    """Both or neither: who may not make the one namespace may not make the other, and a pod's IPC namespace is the pod's own."""
    for kind in ("network", "ipc"):
        if kind in profile["namespaces"]:
            profile["namespaces"].remove(kind)
            profile["require"].pop(kind, None)


LANDLOCK_CLAIMS = (
    *(
        "read_outside",
        "write_outside_scratch",
        "changes_outside",
        "execute_scratch",
        "tcp_connect",
        "tcp_bind",
    ),
)
"""What only Landlock can give; a deployment that sets `lock.minimum_landlock_abi = 0` does without, and its statement says so."""


def _open_ports(profile: dict[str, Any], additions: Additions) -> None:
    if not additions.bind_ports and not additions.connect_ports:
        return
    profile["landlock"]["tcp"] = {
        "bind": list(additions.bind_ports),
        "connect": list(additions.connect_ports),
    }
    if "tcp" not in profile["seccomp"]["sockets"]:
        profile["seccomp"]["sockets"] = [*profile["seccomp"]["sockets"], "tcp"]


def definitions(additions: Additions) -> list[str]:
    """The launcher's `--define` arguments."""
    arguments: list[str] = []
    for name, values in sorted(additions.places.items()):
        for value in values or ("",):
            arguments += ["--define", f"{name}={value}"]
    return arguments


def command(
    python: Path,
    profile: Path,
    additions: Additions,
    module: str,
    arguments: Sequence[str],
    *,
    posture_fd: int,
    keep_fds: Sequence[int] = (),
    search_path: Sequence[Path] = (),
) -> list[str]:
    """The launcher's command line."""
    line = [str(python), "-I", "-B", str(LAUNCHER), "--profile", str(profile), *definitions(additions)]
    line += ["--posture-fd", str(posture_fd), "--module", module]
    for number in keep_fds:
        line += ["--keep-fd", str(number)]
    for path in search_path:
        line += ["--path", str(path)]
    return [*line, "--", *arguments]
