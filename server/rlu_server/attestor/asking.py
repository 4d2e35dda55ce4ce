"""How `rlu keys` and `rlu selftest` ask a running attestor: two files in its state directory, which only its user and root can reach.

    <state>/attestation/asked.json      {"action":"rotate"|"rehearse"|"retire"|"canary","id":…,"findings"?}, taken away when it is acted on
    <state>/attestation/answered.json   {"id":…, "issuer"?, "sessions"?, "report"?, "code"?, "message"?}

The attestor has no network, and its socket is the gateway's alone. There is nothing else to be asked for, and nothing of a session.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from rlu_server.attestor.secret import write_private

MAX_FILE = 64 * 1024
Action = Literal["rotate", "rehearse", "retire", "canary"]


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    action: Action
    id: Annotated[str, Meta(max_length=64)]
    findings: Annotated[str, Meta(max_length=32 * 1024)] = ""
    """Of a canary test (FORMATS section 15), which the attestor makes its own report of; nothing else takes one."""


class Outcome(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What became of it; without a code it was done."""

    id: str = ""
    issuer: str | None = None
    sessions: int | None = None
    report: str | None = None
    """The signed report of a canary test."""
    code: str | None = None
    message: str | None = None


def ask(directory: Path, asked: Asked) -> None:
    """Leave a request for the attestor. The file belongs to whom the directory does, since root may be asking."""
    (directory / "answered.json").unlink(missing_ok=True)
    path, owner = directory / "asked.json", directory.stat()
    new = directory / ".asked.json.new"
    write_private(new, msgspec.json.encode(asked))
    if os.geteuid() == 0:
        os.chown(new, owner.st_uid, owner.st_gid)
    os.replace(new, path)


def take(directory: Path) -> Asked | None:
    """The request, taken away; None if there is none, or it is not of its form."""
    taken = directory / ".asked.json.taken"
    try:
        os.replace(directory / "asked.json", taken)  # what is left from here on is for the next look
        with taken.open("rb") as file:
            data = file.read(MAX_FILE)
        taken.unlink()
        return msgspec.json.decode(data, type=Asked)
    except (OSError, msgspec.MsgspecError):
        return None


def answer(directory: Path, asked: Asked, outcome: Outcome) -> None:
    """Say what became of a request. Raises OSError: there is no room for it now."""
    data = msgspec.json.encode(msgspec.structs.replace(outcome, id=asked.id))
    write_private(directory / "answered.json", data)


def answered(directory: Path, asked: Asked) -> Outcome | None:
    """The answer to a request; None as long as there is none."""
    try:
        with (directory / "answered.json").open("rb") as file:
            found = msgspec.json.decode(file.read(MAX_FILE), type=Outcome)
    except (OSError, msgspec.MsgspecError):
        return None
    return found if found.id == asked.id else None
