"""How far the export has come: a small file, replaced as a whole, and only after what it speaks of has arrived.

So after a crash at any point the same entries are sent again, and none is left out: at least once. Receivers tell repetitions by `iss`
and `index`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from rlu_attestation.errors import RluError
from rlu_server.attestor.secret import write_private


class CursorError(RluError):
    """The cursor's file cannot be used."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Cursor:
    """Everything of this instance before `next` has arrived."""

    issuer: str
    next: int

    def save(self, path: Path) -> None:
        """Raises CursorError: `export.cursor`."""
        text = json.dumps({"iss": self.issuer, "next": self.next}, sort_keys=True)
        try:
            write_private(path, text.encode("ascii") + b"\n")
        except OSError as error:
            raise CursorError("export.cursor", f"cannot write {path}: {error.strerror}") from error


def load(path: Path) -> Cursor | None:
    """The cursor; None if there is none yet.

    Raises:
        CursorError: `export.cursor`.
    """
    try:
        value = json.loads(path.read_bytes())
        issuer, following = value["iss"], value["next"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CursorError("export.cursor", f"{path} is not a cursor of this program") from error
    if not isinstance(issuer, str) or type(following) is not int or following < 0:
        raise CursorError("export.cursor", f"{path} is not a cursor of this program")
    return Cursor(issuer, following)
