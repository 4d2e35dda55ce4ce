"""What pieces say and from when until when, for people. Nothing is verified here: `rlu verify` does that, against the evidence."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rlu_attestation import crl, x509
from rlu_attestation.collateral.lists import name_of
from rlu_attestation.collateral.store import name_of as file_name
from rlu_attestation.collateral.want import CERTIFICATES
from rlu_attestation.errors import RluError
from rlu_attestation.evidence import nvidia, tdx
from rlu_attestation.names import common_name

ANSWERS, NOT_YET, OVER, BROKEN = "answers", "not yet", "over", "broken"


@dataclass(frozen=True, slots=True)
class Entry:
    """One piece; `state` is at the time asked about."""

    kind: str
    name: str
    what: str
    state: str
    since: datetime | None = None
    until: datetime | None = None

    def to_json(self) -> dict[str, Any]:
        value: dict[str, Any] = {"kind": self.kind, "name": self.name, "what": self.what, "state": self.state}
        for key, moment in (("since", self.since), ("until", self.until)):
            if moment is not None:
                value[key] = moment.isoformat()
        return value


def describe(pieces: Iterable[tuple[str, bytes]], at: datetime) -> tuple[Entry, ...]:
    """Kind and content of each piece, in words."""
    return tuple(_entry(kind, data, at) for kind, data in pieces)


def _entry(kind: str, data: bytes, at: datetime) -> Entry:
    name = file_name(kind, data)
    try:
        what, since, until = _READERS[kind](data)
    except RluError as error:
        return Entry(kind, name, error.message, BROKEN)
    state = ANSWERS
    if since is not None and at < since:
        state = NOT_YET
    elif until is None or at > until:
        state = OVER
    return Entry(kind, name, what, state, since, until)


_Read = tuple[str, datetime | None, datetime | None]


def _list(data: bytes) -> _Read:
    found = crl.parse(data)
    try:
        issuer = common_name(found.issuer, "crl.issuer")
    except RluError:
        issuer = "an authority without a common name"
    revoked = "1 certificate" if len(found.revoked) == 1 else f"{len(found.revoked)} certificates"
    return f"{issuer} revokes {revoked}", found.this_update, found.next_update


def _answer(data: bytes) -> _Read:
    singles = nvidia.parse_ocsp(data).singles
    what = ", ".join(f"{one.serial:#x} is {one.status.value}" for one in singles)
    ends = [one.next_update for one in singles]
    until = None if None in ends else min(end for end in ends if end is not None)
    return what, max(one.this_update for one in singles), until


def _intel(data: bytes) -> _Read:
    found = tdx.collateral_from_json(data)
    info, identity = tdx.parse_tcb_info(found.tcb_info), tdx.parse_qe_identity(found.qe_identity)
    ends = [info.next_update, identity.next_update]
    ends += [one.next_update for one in (found.root_ca_crl, found.pck_crl) if one.next_update is not None]
    starts = [
        info.issue_date,
        identity.issue_date,
        found.root_ca_crl.this_update,
        found.pck_crl.this_update,
    ]
    return (
        f"FMSPC {info.fmspc.hex()}, TCB evaluation {info.tcb_evaluation_data_number}",
        max(starts),
        min(ends),
    )


def _rim(data: bytes) -> _Read:
    found = nvidia.parse_rim(data)
    certificates = found.certificates
    return (
        f"{found.product} {found.version}, {len(found.active)} values",
        max(one.not_before for one in certificates),
        min(one.not_after for one in certificates),
    )


def _certificates(data: bytes) -> _Read:
    found = x509.parse_many(data)
    return (
        ", ".join(map(name_of, found)),
        max(one.not_before for one in found),
        min(one.not_after for one in found),
    )


_READERS = {
    "nvidia-rim": _rim,
    "ocsp-response": _answer,
    "tdx-collateral": _intel,
    "x509-crl": _list,
    CERTIFICATES: _certificates,
}
