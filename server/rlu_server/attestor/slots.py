"""The files of instance keys: the one in use, the next one while it is being made, and the previous one while its sessions last.

    instance-key.tss2.pem            the key in use, or wherever `attestation.key_path` says
    instance-key.next.tss2.pem       made by a rotation, or a rehearsal, that has not got further
    instance-key.previous.tss2.pem   stepped down; signs receipts and closes of its sessions
    key.json, key.previous.json      when each was made (`age.py`)
    continuity/<ueid>.jws            the old key's word about the new one, by the new one's name

Every step is a rename, and a crash after any of them is put right at the next start. Keys that are kept nowhere (a TEE's) have no files.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from rlu_server.attestor.errors import NotReady
from rlu_server.attestor.secret import sync_directory, write_private

MAX_STATEMENT = 8192


@dataclass(frozen=True, slots=True)
class KeySlots:
    """Where the keys of one attestor are.

    Attributes:
        directory: `<state>/attestation`.
        place: the key's file; None: at a persistent handle, which cannot be rotated here.
    """

    directory: Path
    place: Path | None

    @property
    def current(self) -> Path:
        """The key in use.

        Raises:
            NotReady: `rotation.handle`.
        """
        if self.place is None:
            raise NotReady(
                "rotation.handle",
                "a key at a persistent handle has no place for its successor: set attestation.key_path to another handle or to a "
                "file, and restart; the new instance names this one as its predecessor",
            )
        return self.place

    @property
    def next(self) -> Path:
        return self._named("next")

    @property
    def previous(self) -> Path:
        return self._named("previous")

    @property
    def age(self) -> Path:
        return self.directory / "key.json"

    @property
    def previous_age(self) -> Path:
        return self.directory / "key.previous.json"

    @property
    def continuity(self) -> Path:
        return self.directory / "continuity"

    def recover(self) -> None:
        """Put right what a crash left."""
        if self.place is None:
            return
        if not self.current.exists() and self.next.exists() and self.previous.exists():
            self._move(self.next, self.current)
        self.drop_next()

    def swap(self, ueid: str, statement: str) -> None:
        """The next key takes over; `statement` is the old one's word about it."""
        self.continuity.mkdir(mode=0o700, exist_ok=True)
        write_private(self.continuity / f"{ueid}.jws", statement.encode("ascii") + b"\n")
        if self.age.exists():
            self._move(self.age, self.previous_age)
        if self.current.exists():
            self._move(self.current, self.previous)
            self._move(self.next, self.current)

    def swap_back(self) -> None:
        """Undo `swap`."""
        if self.previous.exists():
            self._move(self.current, self.next)
            self._move(self.previous, self.current)
        if self.previous_age.exists():
            self._move(self.previous_age, self.age)

    def drop_next(self) -> None:
        """A rotation was given up, or only rehearsed."""
        if self.place is not None:
            self.next.unlink(missing_ok=True)

    def drop_previous(self) -> None:
        """The key that stepped down signs nothing any more, and is forgotten."""
        if self.place is not None:
            self.previous.unlink(missing_ok=True)
        self.previous_age.unlink(missing_ok=True)
        sync_directory(self.directory)

    def _named(self, which: str) -> Path:
        name = self.current.name
        stem, _, ending = name.partition(".")
        return self.current.with_name(f"{stem}.{which}{'.' if ending else ''}{ending}")

    @staticmethod
    def _move(source: Path, target: Path) -> None:
        os.replace(source, target)
        sync_directory(target.parent)


def continuity_of(directory: Path, ueid: str) -> str | None:
    """The statement that names this instance as successor; None if no key stepped down for it.

    Args:
        directory: `KeySlots.continuity`.
    """
    try:
        with (directory / f"{ueid}.jws").open("rb") as file:
            return file.read(MAX_STATEMENT).decode("ascii", "replace").strip()
    except FileNotFoundError:
        return None
