"""Evidence kinds, one folder each; they know nothing of each other.

Every kind offers `KIND`, `parse(data) -> …Evidence` (well-formed, *not* verified) and one function a verification step, which the verifier
composes. A new kind is a new folder.
"""

from __future__ import annotations

from rlu_attestation import canonical
from rlu_attestation.errors import Malformed

MAX_ITEM = 256 * 1024
"""Largest evidence item in bytes (FORMATS section 4)."""

__all__ = ["MAX_ITEM", "kind_of"]


def kind_of(data: bytes) -> str:
    """The kind that an evidence item says it is.

    Raises:
        Malformed: not a canonical JSON object with a `kind` (`evidence.kind`, `statement.encoding`).
    """
    kind = canonical.decode(data, MAX_ITEM).get("kind")
    if not isinstance(kind, str):
        raise Malformed("evidence.kind", "an evidence item names its kind")
    return kind
