"""What the state directory says of this machine's keys. No TPM is asked, and nothing of a session is read."""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from rlu_attestation import continuity
from rlu_attestation.errors import RluError
from rlu_attestation.instance import ueid as ueid_of
from rlu_server.attestor.enrolment import StateFiles
from rlu_server.attestor.journal import LOCK, history
from rlu_server.attestor.slots import KeyNotes, continuity_of
from rlu_server.settings import Settings

DAY_S = 86400
MAX_FILE = 4096
MAX_CHAIN = 16


class KeysError(RluError):
    """What was asked cannot be done as things are."""

    exit_code = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One key.

    Attributes:
        state: `in use`, `stepping down` or `ended`.
        created: seconds since the epoch; None where nobody knows any more.
        due: when it is to be rotated; None for never, or one that was.
        entries: of its log, as far as a head was signed; None for one that is in use.
    """

    ueid: str
    state: str
    created: int | None = None
    due: int | None = None
    entries: int | None = None

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    def line(self) -> str:
        parts = [self.ueid, self.state]
        if self.created is not None:
            parts.append(f"made {_day(self.created)}")
        if self.due is not None:
            parts.append(f"to be rotated {_day(self.due)}")
        if self.entries is not None:
            parts.append(f"{self.entries} log entries")
        return "  ".join(parts)


def listed(settings: Settings, now: int) -> list[Listed]:
    """Every key that was used here, the one in use first.

    Raises:
        KeysError: `keys.unreadable`.
        LogCorrupt: a file among the logs is none.
    """
    files = StateFiles(settings.state_dir)
    notes = KeyNotes(files.key_age.parent)
    found: list[Listed] = []
    seen: set[str] = set()
    try:
        for path, state in ((notes.age, "in use"), (notes.previous_age, "stepping down")):
            age = _age(path)
            if age is not None:
                ueid, created = age
                days = settings.attestation.rotate_days if state == "in use" else 0
                due = created + days * DAY_S if days else None
                found.append(Listed(ueid=ueid, state=state, created=created, due=due))
                seen.add(ueid)
        for past in history(files.log) if files.log.is_dir() else []:
            ueid = past.issuer.rpartition(":")[2]
            if ueid not in seen:
                found.append(Listed(ueid=ueid, state="ended", entries=past.size))
    except OSError as error:
        raise KeysError("keys.unreadable", f"{error.filename}: {error.strerror}") from error
    return found


def running(settings: Settings) -> bool:
    """Does an attestor use this state directory?

    Raises:
        KeysError: `keys.unreadable`.
    """
    try:
        descriptor = os.open(StateFiles(settings.state_dir).log / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise KeysError("keys.unreadable", f"{settings.state_dir}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def continuity_chain(settings: Settings, ueid: str) -> tuple[str, ...]:
    """The statements that lead to this key, oldest first, as far as they are here."""
    directory = KeyNotes(StateFiles(settings.state_dir).key_age.parent).continuity
    chain: list[str] = []
    try:
        while len(chain) < MAX_CHAIN and (text := continuity_of(directory, ueid)) is not None:
            chain.insert(0, text)
            ueid = ueid_of(continuity.verify(text)[0].kid)
    except OSError as error:
        raise KeysError("keys.unreadable", f"{directory}: {error.strerror}") from error
    return tuple(chain)


def _age(path: Path) -> tuple[str, int] | None:
    try:
        with path.open("rb") as file:
            value = json.loads(file.read(MAX_FILE))
        return str(value["ueid"]), int(value["created"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise KeysError("keys.unreadable", f"{path} does not say when the key was made") from error


def _day(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d")
