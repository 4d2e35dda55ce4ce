"""The lock of `rlu connect`: the proxy becomes a process that can listen on one port, connect to one port, and read its policy.

It has the prompts and the server's key, and it parses what a server sends before that server is verified. Only without a command: whatever
the proxy started would be locked with it. Names are looked up over UDP, so a server given by its address is a tighter lock.
"""

from __future__ import annotations

import ipaddress
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import rlu_attestation
from rlu_server.lock import profiles
from rlu_server.lock.profiles import Additions

MODULE = "rlu_attestation.cli"
PACKAGES = Path(rlu_attestation.__file__).parents[1]


def compose(url: str, port: int, readable: Sequence[Path]) -> tuple[dict[str, object], Additions]:
    """The profile for one server.

    Args:
        port: to listen on; 0: any free one.
        readable: files and directories that the proxy reads, which must exist.
    """
    server = urlsplit(url)
    additions = Additions(
        bind_ports=(port,),
        connect_ports=(server.port or (443 if server.scheme == "https" else 80),),
        places={"readable": [path.resolve() for path in readable]},
    )
    profile = profiles.compose("connect", additions)
    if not _is_address(server.hostname or ""):
        profile["seccomp"]["sockets"] = [*profile["seccomp"]["sockets"], "udp", "netlink"]
    return profile, additions


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return True


def become(url: str, port: int, readable: Sequence[Path], arguments: Sequence[str]) -> None:
    """Replace this process by the launcher, and that by `rlu` with these arguments. Status 77: the lock could not be closed."""
    profile, additions = compose(url, port, readable)
    # Without a name, so that nothing is left behind; inherited, and read again by the launcher when it has cleaned its environment.
    handle = os.memfd_create("rlu-connect-profile", 0)
    os.write(handle, json.dumps(profile).encode())
    line = [sys.executable, "-I", "-B", str(profiles.LAUNCHER), "--profile", f"/proc/self/fd/{handle}"]
    line += [*profiles.definitions(additions), "--path", str(PACKAGES), "--module", MODULE, "--", *arguments]
    os.execv(line[0], line)  # noqa: S606 - the purpose
