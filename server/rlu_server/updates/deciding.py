"""What an update is, whether it is wanted, and when one is due. Without I/O and clock.

A model is known by the digest of the list of files that was signed: the same list is the same model, whoever signed it when. Later and
earlier are told by the release number within the model (`models.release`), which is signed with it:

    another number than ever applied here, and higher     wanted
    the highest that was applied, but not served now       held: it was rolled back; only `rlu update apply` brings it back
    lower, or the same number on other files               refused, `update.downgrade`
    none                                                   refused, `update.no_release`, unless nothing was ever applied here
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from rlu_server.models.walking import MAX_FILES, SIGNATURE
from rlu_server.updates.addresses import usable
from rlu_server.updates.errors import UpdateRefused

Relation = Literal["current", "held", "wanted"]
Schedule = Literal["daily", "weekly", "manual"]
HOUR = 3600
APART_S: Mapping[Schedule, int] = {"daily": 20 * HOUR, "weekly": (7 * 24 - 4) * HOUR}
"""Less than the schedule's own time, so that a timer that is a little early does not wait for its next turn."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """What a source offers, as its signature says."""

    files: Mapping[str, bytes]
    """Path to SHA-256."""
    release: int | None
    signer: bytes

    @property
    def digest(self) -> str:
        """Of the list of files, hexadecimal."""
        whole = hashlib.sha256()
        for path in sorted(self.files, key=str.encode):
            whole.update(len(path.encode()).to_bytes(8, "big") + path.encode() + self.files[path])
        return whole.hexdigest()

    @property
    def version(self) -> str:
        """The name of its directory."""
        number = "unnumbered" if self.release is None else f"{self.release:06d}"
        return f"{number}-{self.digest[:16]}"


@dataclass(frozen=True, slots=True)
class Applied:
    """The latest model that was ever applied."""

    release: int | None
    version: str


def check_paths(files: Mapping[str, bytes], signature: str = SIGNATURE) -> None:
    """A signer is trusted with a model's content, not with where it is written. Raises UpdateRefused (`update.path`).

    Args:
        signature: the name of the signature that lists them.
    """
    folders = {path[:at] for path in files for at, letter in enumerate(path) if letter == "/"}
    if len(files) > MAX_FILES:
        raise UpdateRefused("update.path", f"the signature names more than {MAX_FILES} files")
    for path in files:
        if not usable(path) or path == signature or path in folders:
            raise UpdateRefused(
                "update.path", f"the signature names {path!r}, which cannot be a file of a model"
            )


def relation(
    candidate: Candidate, current: str | None, highest: Applied | None, *, allow_downgrade: bool = False
) -> Relation:
    """Whether it is wanted.

    Args:
        current: the version that is served.

    Raises:
        UpdateRefused: `update.downgrade`, `update.no_release`.
    """
    if candidate.version == current:
        return "current"
    if highest is None or allow_downgrade:
        return "wanted"
    if candidate.version == highest.version:
        return "held"
    if candidate.release is None:
        raise UpdateRefused(
            "update.no_release",
            "the model has no release number, so that it cannot be told from an older one; sign it with `rlu model sign --release NUMBER`, "
            "or pass --allow-downgrade",
        )
    if highest.release is not None and candidate.release <= highest.release:
        raise UpdateRefused(
            "update.downgrade",
            f"the source offers release {candidate.release}, and release {highest.release} was applied here before; if that is meant, pass "
            "--allow-downgrade",
        )
    return "wanted"


def due(schedule: Schedule, last_success: int | None, now: int) -> bool:
    """Whether a timer's call is to do something. After a failure every call is."""
    if schedule == "manual":
        return False
    return last_success is None or not 0 <= now - last_success < APART_S[schedule]
