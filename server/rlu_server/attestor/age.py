"""When the instance key was made: a file beside it, since no TPM says. Asserted in the statement, for policies on rotation."""

from __future__ import annotations

import json
from pathlib import Path

from rlu_server.attestor.errors import NotReady
from rlu_server.attestor.secret import write_private

MAX_FILE = 4096


def made_at(path: Path, ueid: str, now: int) -> int:
    """When this key was first used here; `now`, and remembered, for a key that the file does not name.

    Args:
        path: `<state>/attestation/key.json`, `{"created":…,"ueid":…}`.
        ueid: of the key, as in its statements.
        now: seconds since the epoch.

    Raises:
        NotReady: the file is damaged; a key whose age is unknown is not passed off as new.
    """
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(MAX_FILE))
        known, created = found["ueid"], found["created"]
        if type(known) is not str or type(created) is not int or not created >= 0:
            raise ValueError("not the values it should hold")
    except FileNotFoundError:
        known, created = "", now
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NotReady(
            "key.age", f"{path} does not say when the key was made: restore it, or rotate the key"
        ) from error
    if known == ueid:
        return created
    write_private(path, json.dumps({"created": now, "ueid": ueid}).encode("ascii"))
    return now
