"""Puts files where they belong: what is there already is kept beside it, and what is the same is left alone."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rlu_attestation.clients.errors import Unusable
from rlu_attestation.clients.setup import File

MAX_BACKUPS = 1000


@dataclass(frozen=True, slots=True)
class Planned:
    """One file to write. `replaces`: something else is there."""

    path: Path
    text: str
    replaces: bool


def plan(directory: Path, files: Iterable[File]) -> list[Planned]:
    """What has to be written; files that are there with the same text are not.

    Raises:
        Unusable: `clients.path`.
    """
    planned = []
    for file in files:
        # A link stays one: the file that it leads to is written.
        path = (directory / file.name).resolve()
        try:
            present = path.read_bytes()
        except FileNotFoundError:
            planned.append(Planned(path, file.text, replaces=False))
            continue
        except OSError as error:
            raise Unusable("clients.path", f"{path} cannot be read ({error.strerror})") from error
        if present != file.text.encode():
            planned.append(Planned(path, file.text, replaces=True))
    return planned


def write(planned: Iterable[Planned]) -> list[Path]:
    """Write them, each as a whole; returns the backups made.

    Raises:
        Unusable: `clients.path`.
    """
    backups = []
    for one in planned:
        try:
            one.path.parent.mkdir(parents=True, exist_ok=True)
            if one.replaces:
                backups.append(_backup(one.path))
            _replace(one)
        except OSError as error:
            raise Unusable("clients.path", f"{one.path} cannot be written ({error.strerror})") from error
    return backups


def _backup(path: Path) -> Path:
    """A copy under a name that nothing has yet; earlier backups stay."""
    for number in range(1, MAX_BACKUPS):
        backup = path.with_name(f"{path.name}.backup-{number}")
        try:
            backup.open("xb").close()
        except FileExistsError:
            continue
        shutil.copy2(path, backup)
        return backup
    raise Unusable("clients.path", f"{path} has {MAX_BACKUPS} backups; move them away")


def _replace(one: Planned) -> None:
    handle, name = tempfile.mkstemp(dir=one.path.parent, prefix=".rlu-")
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(one.text.encode())
        if one.replaces:
            shutil.copymode(one.path, name)
        os.replace(name, one.path)
    except BaseException:
        os.unlink(name)
        raise
