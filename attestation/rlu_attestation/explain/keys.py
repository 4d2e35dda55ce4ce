"""What is signed about keys: continuity statements and revocation lists (FORMATS section 14)."""

from __future__ import annotations

from rlu_attestation import continuity, cose, revocation_list
from rlu_attestation.encoding import b64u
from rlu_attestation.explain.section import Row, Section
from rlu_attestation.revocation import Revocation


def explain_continuity(text: str) -> Section:
    """A key's word about the next one. Raises Malformed."""
    found = continuity.peek(text)
    rows = (
        Row("iss", found.issuer, "the instance that steps down"),
        Row("iat", str(found.issued_at), "seconds since the epoch"),
        Row("rlu_successor.jkt", b64u(found.successor), "thumbprint of the key that follows"),
        Row("rlu_head", _head(found.head), "head of its log when it stepped down"),
    )
    return Section("Continuity statement: one key's word about the next, and no evidence", rows)


def explain_revocations(data: bytes) -> Section:
    """A list of revoked keys. Raises Malformed."""
    found = revocation_list.peek(data)
    rows = (
        Row("rlu_number", str(found.number), "rises with every list; a policy pins the least"),
        Row("iat", str(found.issued_at), "seconds since the epoch"),
    )
    return Section("Revocation list of instance keys", rows, tuple(map(_entry, found.entries)))


def _entry(entry: Revocation) -> Section:
    good = entry.last_good
    rows = (
        Row("reason", entry.reason, ""),
        Row("time", str(entry.time), "since when, in seconds since the epoch"),
        Row(
            "last_good",
            "absent" if good is None else f"{good.tree_size} entries, root {good.root.hex()}",
            "nothing of the key is believed" if good is None else "what is shown to lie under it is believed",
        ),
    )
    return Section(entry.ueid, rows)


def _head(data: bytes) -> str:
    head = cose.parse_head(data)
    return f"{head.tree_size} entries, root {head.root.hex()}"
