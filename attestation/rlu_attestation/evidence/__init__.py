"""Evidence kinds, one folder each; they know nothing of each other.

Every kind offers `KIND`, `parse(data) -> …Evidence` (well-formed, *not* verified) and one function a verification step, which the verifier
composes. A new kind is a new folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from rlu_attestation import canonical
from rlu_attestation.errors import Malformed

MAX_ITEM = 256 * 1024
"""Largest evidence item in bytes (FORMATS section 4), unless its kind has a limit of its own."""

NVIDIA = "nvidia"
_MAX_TPM = 2 * 1024 * 1024
_LIMITS: Mapping[str, int] = MappingProxyType(
    {NVIDIA: 8 * 1024 * 1024, "tpm2": _MAX_TPM, "gcp-vtpm": _MAX_TPM, "azure-vtpm": _MAX_TPM}
)
"""Kinds whose items may be larger: all devices of a node in one, with their reference values; TPMs with what the kernel measured."""

__all__ = ["MAX_ITEM", "NVIDIA", "kind_of", "max_item"]


def max_item(kind: str) -> int:
    """Largest item of a kind in bytes; of kinds that are not known, `MAX_ITEM`."""
    return _LIMITS.get(kind, MAX_ITEM)


def kind_of(data: bytes) -> str:
    """The kind that an evidence item says it is.

    Raises:
        Malformed: not a canonical JSON object with a `kind` (`evidence.kind`, `statement.encoding`), or larger than its kind may be.
    """
    kind = canonical.decode(data, max(MAX_ITEM, *_LIMITS.values())).get("kind")
    if not isinstance(kind, str):
        raise Malformed("evidence.kind", "an evidence item names its kind")
    if len(data) > max_item(kind):
        raise Malformed("statement.encoding", f"an item of kind {kind} has at most {max_item(kind)} bytes")
    return kind
