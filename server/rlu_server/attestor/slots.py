"""The places of instance keys: the one in use, the next one while it is being made, and the previous one while its sessions last.

    instance-key.tss2.pem            the key in use, or wherever `attestation.key_path` says
    instance-key.next.tss2.pem       made by a rotation, or a rehearsal, that has not got further
    instance-key.previous.tss2.pem   stepped down; signs receipts and closes of its sessions
    key.json, key.previous.json      when each was made (`age.py`)
    continuity/<ueid>.jws            the old key's word about the new one, by the new one's name

Every step is a rename, and a crash after any of them is put right at the next start. Keys that are kept nowhere (a TEE's) have no files;
those at persistent handles have `handles.py`.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from rlu_server.attestor.places import KeyAt, Place
from rlu_server.attestor.secret import sync_directory, write_private

MAX_STATEMENT = 8192


@dataclass(frozen=True, slots=True)
class KeyNotes:
    """What is noted beside the keys of one attestor, wherever they are.

    Attributes:
        directory: `<state>/attestation`.
    """

    directory: Path

    @property
    def age(self) -> Path:
        return self.directory / "key.json"

    @property
    def previous_age(self) -> Path:
        return self.directory / "key.previous.json"

    @property
    def continuity(self) -> Path:
        return self.directory / "continuity"


@dataclass(frozen=True, slots=True)
class KeySlots(KeyNotes, ABC):
    """Where the keys of one attestor are, and how they change places. Its methods block."""

    @property
    @abstractmethod
    def current(self) -> Place:
        """The key in use."""

    @property
    @abstractmethod
    def next(self) -> Place:
        """Where the next one is made."""

    @property
    @abstractmethod
    def stepped_down(self) -> Path | KeyAt | None:
        """The key before the one in use, if it still has sessions."""

    @property
    @abstractmethod
    def gone(self) -> tuple[KeyAt, ...]:
        """Keys that nobody uses any more and that have to be removed from their handles."""

    def recover(self) -> None:
        """Put right what a crash left."""
        self._settle()
        self.drop_next()
        if self.stepped_down is None and self.previous_age.exists():
            if self.age.exists():
                self.previous_age.unlink()
            else:
                self._move(self.previous_age, self.age)

    def swap(self, ueid: str, statement: str) -> None:
        """The next key takes over; `statement` is the old one's word about it."""
        self.continuity.mkdir(mode=0o700, exist_ok=True)
        write_private(self.continuity / f"{ueid}.jws", statement.encode("ascii") + b"\n")
        if self.age.exists():
            self._move(self.age, self.previous_age)
        self._exchange(statement)

    def swap_back(self) -> None:
        """Undo `swap`."""
        self._exchange_back()
        if self.previous_age.exists():
            self._move(self.previous_age, self.age)

    @abstractmethod
    def drop_next(self) -> None:
        """A rotation was given up, or only rehearsed."""

    def drop_previous(self) -> None:
        """The key that stepped down signs nothing any more, and is forgotten."""
        self._forget_previous()
        self.previous_age.unlink(missing_ok=True)
        sync_directory(self.directory)

    @abstractmethod
    def removed(self, key: KeyAt) -> None:
        """One of `gone` is at its handle no more."""

    @abstractmethod
    def _settle(self) -> None:
        """Bring an exchange that was begun to its end."""

    @abstractmethod
    def _exchange(self, statement: str) -> None: ...

    @abstractmethod
    def _exchange_back(self) -> None: ...

    @abstractmethod
    def _forget_previous(self) -> None: ...

    @staticmethod
    def _move(source: Path, target: Path) -> None:
        os.replace(source, target)
        sync_directory(target.parent)


@dataclass(frozen=True, slots=True)
class FileSlots(KeySlots):
    """Keys in files, or kept nowhere.

    Attributes:
        place: the file of the key in use.
    """

    place: Path

    @property
    def current(self) -> Path:
        return self.place

    @property
    def next(self) -> Path:
        return self._named("next")

    @property
    def previous(self) -> Path:
        return self._named("previous")

    @property
    def stepped_down(self) -> Path | None:
        return self.previous if self.previous.exists() else None

    @property
    def gone(self) -> tuple[KeyAt, ...]:
        return ()

    def drop_next(self) -> None:
        self.next.unlink(missing_ok=True)

    def removed(self, key: KeyAt) -> None:
        raise ValueError("keys in files are at no handle")

    def _settle(self) -> None:
        if not self.current.exists() and self.next.exists() and self.previous.exists():
            self._move(self.next, self.current)

    def _exchange(self, statement: str) -> None:
        if self.current.exists():
            self._move(self.current, self.previous)
            self._move(self.next, self.current)

    def _exchange_back(self) -> None:
        if self.previous.exists():
            self._move(self.current, self.next)
            self._move(self.previous, self.current)

    def _forget_previous(self) -> None:
        self.previous.unlink(missing_ok=True)

    def _named(self, which: str) -> Path:
        name = self.current.name
        stem, _, ending = name.partition(".")
        return self.current.with_name(f"{stem}.{which}{'.' if ending else ''}{ending}")


def continuity_of(directory: Path, ueid: str) -> str | None:
    """The statement that names this instance as successor; None if no key stepped down for it.

    Args:
        directory: `KeyNotes.continuity`.
    """
    try:
        with (directory / f"{ueid}.jws").open("rb") as file:
            return file.read(MAX_STATEMENT).decode("ascii", "replace").strip()
    except FileNotFoundError:
        return None
