"""Instance keys at persistent handles of a TPM: which handle has the key in use, the next one, and the one that stepped down.

    <state>/attestation/handles.json   {"configured":"0x81000010","current"?,"next"?,"previous"?:{"handle","ueid"},"gone":[…]}

The first key is at the handle of the settings, and there is no file. A rotation puts the next one at the first free handle from there on,
so that the keys go back and forth between two. What is in the file is replaced as a whole, so that a crash leaves the one or the other:

    next       noted before the key is at its handle: a crash leaves nothing in the TPM that nobody knows of
    swap       `next` becomes `current`, `current` becomes `previous`
    gone       noted before the key is removed, and taken off afterwards; only that very key is removed from the handle

With another handle in the settings than the file was made under the file does not count: that key is used, and keys elsewhere stay where
they are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from rlu_attestation import continuity
from rlu_attestation.instance import ueid as ueid_of
from rlu_server.attestor.errors import NotReady
from rlu_server.attestor.places import FreeHandle, KeyAt
from rlu_server.attestor.secret import write_private
from rlu_server.attestor.slots import KeySlots

FILE_NAME = "handles.json"
COUNT = 16
"""How many handles, from that of the settings on, are looked at for a free one."""
MAX_FILE = 16 * 1024
Handle = Annotated[str, Meta(pattern="^0x81[0-9a-f]{6}$")]


class _Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    handle: Handle
    ueid: Annotated[str, Meta(max_length=64)]

    @classmethod
    def of(cls, key: KeyAt | None) -> _Key | None:
        return None if key is None else cls(_hex(key.handle), key.ueid)

    @property
    def key(self) -> KeyAt:
        return KeyAt(int(self.handle, 16), self.ueid)


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    configured: Handle
    current: _Key | None = None
    next: _Key | None = None
    previous: _Key | None = None
    gone: tuple[_Key, ...] = ()


@dataclass(frozen=True, slots=True)
class _Record:
    current: KeyAt | None = None
    next: KeyAt | None = None
    previous: KeyAt | None = None
    gone: tuple[KeyAt, ...] = ()


@dataclass(frozen=True, slots=True)
class HandleSlots(KeySlots):
    """Keys at persistent handles.

    Attributes:
        configured: the handle of the settings.

    Raises:
        NotReady: from every method: `key.handles`: the file is damaged.
    """

    configured: int

    @property
    def file(self) -> Path:
        return self.directory / FILE_NAME

    @property
    def current(self) -> int | KeyAt:
        return self._read().current or self.configured

    @property
    def next(self) -> FreeHandle:
        return FreeHandle(self.configured, COUNT, self._note_next)

    @property
    def stepped_down(self) -> KeyAt | None:
        return self._read().previous

    @property
    def gone(self) -> tuple[KeyAt, ...]:
        return self._read().gone

    def drop_next(self) -> None:
        record = self._read()
        if record.next is not None:
            self._write(replace(record, next=None, gone=(*record.gone, record.next)))

    def removed(self, key: KeyAt) -> None:
        record = self._read()
        self._write(replace(record, gone=tuple(one for one in record.gone if one != key)))

    def _note_next(self, key: KeyAt) -> None:
        self._write(replace(self._read(), next=key))

    def _settle(self) -> None:
        """Nothing: an exchange is one replacement of the file."""

    def _exchange(self, statement: str) -> None:
        record = self._read()
        if record.next is None:
            raise ValueError("there is no key to take over")
        left = () if record.previous is None else (record.previous,)
        old = record.current or KeyAt(self.configured, ueid_of(continuity.verify(statement)[0].kid))
        self._write(_Record(current=record.next, previous=old, gone=(*record.gone, *left)))

    def _exchange_back(self) -> None:
        record = self._read()
        self._write(_Record(current=record.previous, next=record.current, gone=record.gone))

    def _forget_previous(self) -> None:
        record = self._read()
        if record.previous is not None:
            self._write(replace(record, previous=None, gone=(*record.gone, record.previous)))

    def _read(self) -> _Record:
        try:
            with self.file.open("rb") as file:
                found = msgspec.json.decode(file.read(MAX_FILE), type=_File)
        except FileNotFoundError:
            return _Record()
        except (OSError, msgspec.MsgspecError) as error:
            raise NotReady(
                "key.handles",
                f"{self.file} does not say which handle has the key in use: restore it, or move it away to begin with a new key",
            ) from error
        if found.configured != _hex(self.configured):
            return _Record()
        current, following, previous = (
            None if one is None else one.key for one in (found.current, found.next, found.previous)
        )
        return _Record(current, following, previous, tuple(one.key for one in found.gone))

    def _write(self, record: _Record) -> None:
        current, following, previous = map(_Key.of, (record.current, record.next, record.previous))
        gone = tuple(_Key(_hex(key.handle), key.ueid) for key in record.gone)
        made = _File(_hex(self.configured), current, following, previous, gone)
        write_private(self.file, msgspec.json.format(msgspec.json.encode(made), indent=1) + b"\n")


def _hex(handle: int) -> str:
    return f"0x{handle:08x}"
