"""What an entry of the log looks like outside (FORMATS section 11.4): blinded leaf hashes and buckets, and nothing that names a session.

A record is made of the fields below and no others, whatever the server shows, so that the promise does not depend on the server.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rlu_attestation import cose
from rlu_attestation.claims import Members
from rlu_attestation.encoding import b64u
from rlu_attestation.errors import Malformed, RluError

VERSION = "1"
KINDS = ("session", "receipt", "close", "gap", "tally")
STATUSES = ("complete", "partial", "aborted", "failed")
MAX_BUCKET = 255


@dataclass(frozen=True, slots=True)
class Page:
    """Records of consecutive entries.

    Attributes:
        start: index of the first one.
        skipped: entries before it that were asked for and had been given up.
        tree_size: of the latest head.
    """

    start: int
    skipped: int
    tree_size: int
    records: tuple[dict[str, Any], ...]

    @property
    def next(self) -> int:
        return self.start + len(self.records)


def page(value: Mapping[str, Any], issuer: str, asked: int) -> Page:
    """Read an answer of `/v1/rlu/log/entries`.

    Raises:
        Malformed: `server.answer`.
    """
    try:
        with Members(value, "entries") as members:
            start, size = members.count("start"), members.count("tree_size")
            entries = members.value("entries")
        if not isinstance(entries, list) or start < asked or start + len(entries) > max(size, start):
            raise Malformed("server.answer", "the entries are not those that were asked for")
        records = tuple(_record(entry, issuer, start + n) for n, entry in enumerate(entries))
    except RluError as error:
        raise Malformed("server.answer", error.message) from error
    return Page(start, start - asked, size, records)


def head(encoded: bytes) -> dict[str, Any]:
    """The record of a signed head: beneath it nothing can be removed any more.

    Raises:
        Malformed: `receipt.encoding`.
    """
    parsed = cose.parse_head(encoded)
    return {
        "rlu_log": VERSION,
        "iss": parsed.issuer,
        "index": parsed.tree_size,
        "kind": "head",
        "head": b64u(encoded),
        "iat": parsed.iat,
    }


def _record(entry: object, issuer: str, index: int) -> dict[str, Any]:
    with Members(entry, "entry") as members:
        kind = members.choice("kind", KINDS)
        record: dict[str, Any] = {
            "rlu_log": VERSION,
            "iss": issuer,
            "index": index,
            "kind": kind,
            "leaf": b64u(members.binary("leaf", 32)),
            "iat": members.count("iat"),
        }
        status, usage, first = members.value("status"), members.value("usage"), members.value("first")
        if kind == "receipt":
            if status not in STATUSES or not _buckets(usage):
                raise Malformed("server.answer", "a receipt has a status and three buckets of usage")
            record |= {"status": status, "usage": usage}
        if kind == "gap":
            if not isinstance(first, int) or not 0 <= first < index:
                raise Malformed("server.answer", "a gap begins before its own entry")
            record |= {"first": first, "next": index}
    return record


def _buckets(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 3
        and all(type(n) is int and 0 <= n <= MAX_BUCKET for n in value)
    )
