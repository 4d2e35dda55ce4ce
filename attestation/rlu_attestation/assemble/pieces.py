"""What endorses evidence, recognised by content: each file is told apart by its first bytes and by what parses strictly."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from rlu_attestation import crl, x509
from rlu_attestation.bundle import Collateral
from rlu_attestation.errors import Malformed, RluError, Unsupported
from rlu_attestation.x509 import Certificate

MAX_PIECE = 8 * 1024 * 1024
_DER = b"\x30"
_SPEC_ID = slice(32, 47)
_TDX_COLLATERAL = frozenset({"tcb_info", "tcb_info_signature", "qe_identity", "qe_identity_signature"})


@dataclass(frozen=True, slots=True)
class Pieces:
    """What stands beside evidence. Nothing of it is verified.

    Attributes:
        event_log: the firmware's, as the machine logged it.
    """

    certificates: tuple[Certificate, ...] = ()
    collateral: tuple[Collateral, ...] = ()
    event_log: bytes | None = None

    def unused(
        self, certificates: int = 0, *, takes: Collection[str] = (), takes_log: bool = False
    ) -> tuple[str, ...]:
        """What is here and has no place, in words.

        Args:
            certificates: how many were used.
            takes: kinds of collateral that have a place.
            takes_log: whether an event log has one.
        """
        found = []
        if left := len(self.certificates) - certificates:
            found.append(f"{left} certificate{'s' if left > 1 else ''}")
        if self.event_log is not None and not takes_log:
            found.append("an event log")
        idle = Counter(piece.kind for piece in self.collateral if piece.kind not in takes)
        return (*found, *(f"{count} × {kind}" for kind, count in sorted(idle.items())))


def read_piece(data: bytes) -> Pieces:
    """Recognise one file: certificates or revocation lists (PEM or DER), the certificate table of an AMD host, Intel's collateral (JSON), a
    RIM (XML), an OCSP response (DER), or an event log.

    Raises:
        Malformed: of a kind that is known, and broken.
        Unsupported: `assemble.piece`.
    """
    if len(data) > MAX_PIECE:
        raise Malformed("assemble.piece", f"a file beside evidence has at most {MAX_PIECE} bytes")
    if is_der(data):
        return _der(data)
    text = data.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text[:1] == b"{":  # Intel's collateral and a RIM hold PEM of their own
        return _json(data)
    if text[:1] == b"<":
        return Pieces(collateral=(Collateral("nvidia-rim", data),))
    if is_pem(data):
        return _pem(data)
    if is_event_log(data):
        return Pieces(event_log=data)
    return _table(data)


def is_der(data: bytes) -> bool:
    """Whether a file begins like a certificate, revocation list or OCSP response: a DER sequence of 128 bytes or more."""
    return data[:1] == _DER and data[1:2] >= b"\x80"


def is_pem(data: bytes) -> bool:
    """Whether a file is text with PEM in it; a quote that has PEM inside is none."""
    return b"-----BEGIN " in data and b"\0" not in data


def is_event_log(data: bytes) -> bool:
    """Whether a file is a TCG event log of the crypto-agile form: its first event says so."""
    return data[_SPEC_ID] == b"Spec ID Event03"


def join(pieces: Iterable[Pieces]) -> Pieces:
    """All of them as one; certificates that occur twice count once.

    Raises:
        Unsupported: `assemble.event_log` for two event logs.
    """
    found = tuple(pieces)
    logs = [piece.event_log for piece in found if piece.event_log is not None]
    if len(logs) > 1:
        raise Unsupported("assemble.event_log", "evidence has one event log; two are given")
    return Pieces(
        tuple(dict.fromkeys(c for piece in found for c in piece.certificates)),
        tuple(c for piece in found for c in piece.collateral),
        logs[0] if logs else None,
    )


def _pem(data: bytes) -> Pieces:
    pieces = []
    for label, der in x509.pem_blocks(data):
        if label in (b"CERTIFICATE", b"TRUSTED CERTIFICATE", b"X509 CRL"):
            pieces.append(_der(der))
        else:
            raise Unsupported(
                "assemble.piece",
                f"PEM of type {label[:32].decode('ascii', 'replace')} is neither certificate nor revocation list",
            )
    return join(pieces)


def _der(data: bytes) -> Pieces:
    try:
        return Pieces(certificates=(x509.parse(data),))
    except Malformed as certificate:
        try:
            crl.parse(data)
        except Malformed:
            pass
        else:
            return Pieces(collateral=(Collateral("x509-crl", data),))
        # An OCSPResponse begins with an ENUMERATED, which neither of the others does.
        if data[2 + (data[1] & 0x7F if data[1:2] > b"\x80" else 0) :][:2] == b"\x0a\x01":
            return Pieces(collateral=(Collateral("ocsp-response", data),))
        raise certificate


def _json(data: bytes) -> Pieces:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict) and value.keys() >= _TDX_COLLATERAL:
        return Pieces(collateral=(Collateral("tdx-collateral", data),))
    raise Unsupported(
        "assemble.piece",
        "JSON, but not collateral of Intel's as PCCS clients store it: tcb_info, qe_identity, signatures, chains and lists in one object",
    )


def _table(data: bytes) -> Pieces:
    """The certificate table that an AMD host hands out."""
    from rlu_attestation.evidence import sev_snp

    try:
        table = sev_snp.parse_certificate_table(data)
    except RluError:
        table = None
    found = [] if table is None else [table.vcek or table.vlek, table.ask, table.ark]
    pieces = [_der(der) for der in found if der]
    if table is not None and table.crl:
        pieces.append(Pieces(collateral=(Collateral("x509-crl", table.crl),)))
    if pieces:
        return join(pieces)
    raise Unsupported(
        "assemble.piece",
        "neither certificates, revocation lists, Intel's collateral, a RIM, an OCSP response nor an event log: `rlu inspect` may know it",
    )
