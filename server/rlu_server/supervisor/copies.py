"""Files that the gateway may not reach where they lie, kept current in the runtime directory.

The gateway sees neither the state directory, where the attestor's secret is, nor the operator's directories. What it needs of them, and
what may change while it serves, is copied: API keys, issuers' key sets, CAs and revocation lists. Kubernetes replaces mounted files by
links, so a file counts as changed when its time, number or size does.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlu_server.settings import Settings
from rlu_server.watched import Stamp, stamp

CHECK_S = 0.5
LARGEST = 16 << 20
"""The runtime directory is memory."""


@dataclass(frozen=True, slots=True)
class Copy:
    source: Path
    target: Path


class Copies:
    """Keeps them current.

    Args:
        unreadable: told the name of a copy whose source cannot be read; the copy stays as it is.
    """

    def __init__(self, copies: Sequence[Copy], unreadable: Callable[[str], None]) -> None:
        self._copies = copies
        self._unreadable = unreadable
        self._seen: dict[Copy, Stamp] = {}
        self._told: set[Copy] = set()

    def once(self) -> None:
        for copy in self._copies:
            try:
                self._one(copy)
                self._told.discard(copy)
            except FileNotFoundError:
                pass  # replaced or removed just now, which the next look sees
            except OSError:
                if copy not in self._told:
                    self._told.add(copy)
                    self._unreadable(copy.target.name)

    async def keep(self) -> None:
        while True:
            self.once()
            await asyncio.sleep(CHECK_S)

    def _one(self, copy: Copy) -> None:
        now = stamp(copy.source)
        if now is None:
            self._seen.pop(copy, None)
            copy.target.unlink(missing_ok=True)
            return
        if self._seen.get(copy) == now:
            return
        if now.size > LARGEST:
            raise OSError("too large")
        new = copy.target.with_name(f".{copy.target.name}.new")
        new.write_bytes(copy.source.read_bytes())
        new.chmod(0o644)
        os.replace(new, copy.target)
        self._seen[copy] = now


def of_tls(settings: Settings, directory: Path) -> tuple[dict[str, Path], list[Copy]]:
    """A TLS key that the operator provides: the settings as the gateway reads them, and the copies that takes."""
    given = {
        "tls_certificate_file": settings.gateway.tls_certificate_file,
        "tls_key_file": settings.gateway.tls_key_file,
    }
    targets = {name: directory / f"{name}.pem" for name, source in given.items() if source is not None}
    copies = [
        Copy(source.expanduser().absolute(), targets[name])
        for name, source in given.items()
        if source is not None
    ]
    return targets, copies


def of_auth(settings: Settings, directory: Path) -> tuple[dict[str, Any], list[Copy]]:
    """What `[auth]` names: the section as the gateway reads it, and the copies that takes."""
    section = settings.auth.model_dump()
    copies: list[Copy] = []

    def copied(source: Path | None, name: str) -> Path | None:
        if source is None:
            return None
        copies.append(Copy(source.expanduser().absolute(), directory / name))
        return copies[-1].target

    for issuer in section["issuers"]:
        issuer["jwks_file"] = copied(issuer["jwks_file"], f"{issuer['name']}.jwks.json")
    certificates = section["certificates"]
    certificates["ca_file"] = copied(certificates["ca_file"], "clients-ca.pem")
    certificates["crl_file"] = copied(certificates["crl_file"], "clients-crl.pem")
    section["relay_ca_file"] = copied(section["relay_ca_file"], "relay-ca.pem")
    return section, copies
