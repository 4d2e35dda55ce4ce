"""The number of a model's release: `rlu-release.json` at the top of its directory, signed with the rest.

By it a later model can be told from an earlier one, so that an update never goes back by itself. A model without it is served all the same.
"""

from __future__ import annotations

import json
from typing import Any

from rlu_attestation.errors import Malformed

RELEASE = "rlu-release.json"
MAX_FILE = 4096
MOST = (1 << 53) - 1


def encode(number: int) -> bytes:
    """The file's content."""
    return json.dumps({"release": number}).encode("ascii") + b"\n"


def parse(data: bytes) -> int:
    """The number, 1 or more. Raises Malformed (`model.release`)."""
    try:
        document: Any = json.loads(data) if len(data) <= MAX_FILE else None
    except (ValueError, RecursionError):
        document = None
    number = document.get("release") if isinstance(document, dict) and len(document) == 1 else None
    if type(number) is not int or not 1 <= number <= MOST:
        raise Malformed("model.release", f'{RELEASE} is not of the form {{"release": NUMBER}}, from 1 on')
    return number
