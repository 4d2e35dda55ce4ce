"""Arguments that several commands read alike."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from rlu_attestation.encoding import unb64u
from rlu_attestation.errors import RluError
from rlu_attestation.statements import NONCE_SIZES

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON value.")]
_LAST = 253402300799
"""The last second of the year 9999 in UTC, beyond which Python has no dates."""


def moment(text: str) -> int:
    """`--as-of`: seconds since the epoch, or ISO 8601 with a time zone."""
    if text.isascii() and text.isdigit() and len(text) <= 11:
        return int(text)  # the year 5138 at most
    try:
        found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError as error:
        raise typer.BadParameter(
            "--as-of must be like 2026-12-01T00:00:00Z, or seconds since the epoch"
        ) from error
    if found.tzinfo is None:
        raise typer.BadParameter("--as-of needs a time zone, such as a Z at the end")
    seconds = int(found.timestamp())
    if not 0 <= seconds <= _LAST:
        raise typer.BadParameter("--as-of must lie between the years 1970 and 9999, in UTC")
    return seconds


def nonce(text: str) -> bytes:
    """`--nonce`: 8 to 64 bytes in base64url."""
    try:
        found = unb64u(text)
    except RluError:
        found = b""
    if len(found) not in NONCE_SIZES:
        raise typer.BadParameter("--nonce must be 8 to 64 bytes in base64url without padding")
    return found


def is_url(target: str) -> bool:
    """Whether a target is a server rather than a file."""
    return target.startswith(("https://", "http://"))
