"""The evidence item `tdx` (FORMATS section 4.4): parsed into `TdxEvidence`, or put together from what the platform and Intel gave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from rlu_attestation import canonical
from rlu_attestation.encoding import b64u, unb64u
from rlu_attestation.errors import Malformed
from rlu_attestation.evidence import MAX_ITEM
from rlu_attestation.evidence.binding import BindingPath, parse_binding
from rlu_attestation.evidence.tdx.collateral import Collateral, parse_collateral
from rlu_attestation.evidence.tdx.quote import Quote, parse_quote

KIND = "tdx"
_CODE = "tdx.item"
_REQUIRED = frozenset({"kind", "quote", "binding"})
_OPTIONAL = frozenset({"collateral", "event_log"})


@dataclass(frozen=True, slots=True)
class TdxEvidence:
    """A well-formed quote with its collateral. Nothing of it is verified until each step has passed.

    Attributes:
        collateral: what Intel publishes about the platform; without it nothing can be said about its TCB.
        event_log: the firmware's log (CCEL), not yet read.
        binding: where the statement's binding is in the tree that REPORTDATA holds the root of; None for a quote without an item.
    """

    quote: Quote
    collateral: Collateral | None
    event_log: bytes | None
    binding: BindingPath | None


def parse(data: bytes) -> TdxEvidence:
    """Read an evidence item.

    Raises:
        Malformed: `statement.encoding`, `tdx.item`, `encoding.base64url`, `x509.encoding`, `crl.encoding`, `tdx.collateral.encoding`, or
            the `tdx.quote.…` at fault.
        Unsupported: `tdx.quote.…` for a quote of another kind, version or algorithm.
    """
    item = canonical.decode(data, MAX_ITEM)
    if item.get("kind") != KIND:
        raise Malformed(_CODE, "not an evidence item of kind tdx")
    if not _REQUIRED <= item.keys() <= _REQUIRED | _OPTIONAL:
        raise Malformed(_CODE, "a key is missing or unknown")
    return from_parts(
        _bytes(item["quote"]),
        parse_collateral(item["collateral"]) if "collateral" in item else None,
        event_log=_bytes(item["event_log"]) if "event_log" in item else None,
        binding=parse_binding(item["binding"], _CODE),
    )


def from_parts(
    quote: bytes,
    collateral: Collateral | None = None,
    *,
    event_log: bytes | None = None,
    binding: BindingPath | None = None,
) -> TdxEvidence:
    """Evidence from a bare quote, exactly (see `trim`), and its collateral; raises what `parse` raises."""
    return TdxEvidence(parse_quote(quote), collateral, event_log, binding)


def encode(
    *, quote: bytes, collateral: Collateral | None, binding: BindingPath, event_log: bytes | None = None
) -> bytes:
    """Put an item together.

    Raises:
        RluError: something that `parse` would refuse.
    """
    item: dict[str, Any] = {"kind": KIND, "quote": b64u(quote), "binding": binding.to_json()}
    if collateral is not None:
        item["collateral"] = collateral.to_json()
    if event_log is not None:
        item["event_log"] = b64u(event_log)
    data = canonical.encode(item)
    parse(data)
    return data


def _bytes(value: object) -> bytes:
    return unb64u(cast(str, value))  # unb64u refuses what is not a string
