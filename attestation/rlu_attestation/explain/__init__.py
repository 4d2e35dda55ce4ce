"""What a file is and what its fields mean, for `rlu inspect`. Nothing is verified here and nothing is trusted.

`explain(data)` recognises what it is given by its first bytes and by what parses strictly; a part that is broken is shown with the reason,
and the rest is explained all the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial

from rlu_attestation import bundle as bundles
from rlu_attestation import canary, canonical, continuity, revocation_list
from rlu_attestation.assemble import Pieces, read_piece, recognise
from rlu_attestation.assemble.pieces import is_der, is_event_log, is_pem
from rlu_attestation.boundary.report import TYPE as BOUNDARY_REPORT
from rlu_attestation.bundle import Bundle, BundledPolicy, Logged
from rlu_attestation.encoding import b64u, unb64u
from rlu_attestation.errors import RluError, Unsupported
from rlu_attestation.explain.boundary import explain_boundary
from rlu_attestation.explain.certificates import explain_certificate
from rlu_attestation.explain.endorsements import (
    explain_collateral,
    explain_policy,
    explain_policy_signature,
    explain_roots,
    is_policy,
)
from rlu_attestation.explain.evidence import explain_bare, explain_evidence, explain_hcl
from rlu_attestation.explain.keys import explain_canary, explain_continuity, explain_revocations
from rlu_attestation.explain.log import explain_cose, explain_cosigned
from rlu_attestation.explain.section import Row, Section, broken
from rlu_attestation.explain.statements import explain_jws, explain_statement
from rlu_attestation.explain.tpm import explain_attest, explain_event_log, explain_structure

__all__ = ["Row", "Section", "explain"]

_COSE_SIGN1 = b"\xd2"
_TPM_GENERATED = b"\xffTCG"
_HCL = b"HCLA"
_UNKNOWN = "inspect.unknown"


def explain(data: bytes) -> Section:
    """Explain a file.

    Raises:
        Unsupported: `inspect.unknown` when it is nothing that is known here.
        Malformed: it is of a known kind and broken.
    """
    text = data.strip()
    if text[:1] == b"{":
        return _explain_json(text)
    kind = recognise(data)
    if kind is not None:
        return explain_bare(kind, data)
    for begins, make in _BINARY:
        if data.startswith(begins):
            return make(data)
    if is_event_log(data):
        return explain_event_log(data)
    if is_der(data) or is_pem(data) or text[:1] == b"<":
        return _explain_pieces(read_piece(_trimmed(data)))
    structure = explain_structure(data)
    if structure is not None:
        return structure
    if text.count(b".") == 2 and text.isascii() and b" " not in text:
        return _explain_jws(text)
    if is_policy(data):
        return explain_policy(BundledPolicy(data))
    return _explain_base64url(text)


def _explain_jws(text: bytes) -> Section:
    try:
        kind = canonical.decode(unb64u(text.decode("ascii").partition(".")[0])).get("typ")
    except RluError:
        kind = None
    if kind == revocation_list.TYPE:
        return explain_revocations(text)
    if kind == continuity.TYPE:
        return explain_continuity(text.decode("ascii"))
    if kind == BOUNDARY_REPORT:
        return explain_boundary(text.decode("ascii"))
    if kind == canary.TYPE:
        return explain_canary(text.decode("ascii"))
    return explain_jws(text.decode("ascii"))


def _trimmed(data: bytes) -> bytes:
    """A certificate as a TPM's memory holds it, without what follows it."""
    from rlu_attestation.evidence import tpm2

    if not is_der(data) or data[-1:] not in (b"\xff", b"\x00"):
        return data
    try:
        return tpm2.trim_nv(data)
    except RluError:
        return data


def _explain_pieces(pieces: Pieces) -> Section:
    found = [*map(explain_certificate, pieces.certificates), *map(explain_collateral, pieces.collateral)]
    if len(found) == 1:
        return found[0]
    title = "Certificates" if not pieces.collateral else "Certificates and revocation lists"
    return Section(title, (), tuple(found))


_BINARY: tuple[tuple[bytes, Callable[[bytes], Section]], ...] = (
    (_COSE_SIGN1, explain_cose),
    (_TPM_GENERATED, partial(explain_attest, title="TPMS_ATTEST")),
    (_HCL, explain_hcl),
)


def _explain_json(data: bytes) -> Section:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise Unsupported(_UNKNOWN, "this begins like JSON and is not a JSON object")
    if "rlu_bundle" in value:
        return explain_bundle(bundles.parse(data))
    if "eat_profile" in value:
        return explain_statement(data)
    if "kind" in value:
        return explain_evidence(data)
    if "tcb_info" in value and "qe_identity" in value:
        return _explain_pieces(read_piece(data))
    if value.keys() == {"alg", "kid", "policy_sha256", "signature"}:
        return explain_policy_signature(value)
    if value.keys() == {"statement", "receipt"} and all(isinstance(part, str) for part in value.values()):
        return _explain_logged(
            "Logged statement", Logged(unb64u(value["statement"]), unb64u(value["receipt"]))
        )
    raise Unsupported(_UNKNOWN, "a JSON object of no kind that is known here")


def _explain_base64url(text: bytes) -> Section:
    """Fields of a bundle are base64url; pasted alone, they are explained too."""
    try:
        data = unb64u(text.decode("ascii"))
    except (UnicodeDecodeError, RluError):
        data = b""
    if not data or data == text:
        raise Unsupported(_UNKNOWN, "of no kind that is known here")
    return explain(data)


def explain_bundle(bundle: Bundle) -> Section:
    """All parts of a bundle."""
    rows = [Row("rlu_bundle", bundles.VERSION, "version of the format (FORMATS section 10)")]
    if bundle.nonce is not None:
        rows.append(Row("nonce", b64u(bundle.nonce), "what the bundle's maker says it sent"))
    if bundle.channel is not None:
        rows.append(
            Row("channel.spki_sha256", b64u(bundle.channel), "TLS key that the bundle's maker says it saw")
        )
    if bundle.commitment_key is not None:
        rows.append(
            Row(
                "commitment_key",
                "32 bytes, not shown",
                "opens the receipts' commitments; secret of the session's principal",
            )
        )
    rows += explain_roots(bundle.roots)
    parts = [_part("attestation.statement", lambda: explain_jws(bundle.statement))]
    parts += [
        _part(f"evidence {item.kind}", partial(explain_evidence, item.data)) for item in bundle.evidence
    ]
    if bundle.session is not None:
        parts.append(_explain_logged("session", bundle.session))
    for number, exchange in enumerate(bundle.exchanges, 1):
        section = _explain_logged(f"exchange {number}", exchange.logged)
        contents = tuple(
            Row(name, f"{len(content)} bytes", "content that the receipt is about; not shown")
            for name, content in (("request", exchange.request), ("response", exchange.response))
            if content is not None
        )
        parts.append(Section(section.title, section.rows + contents, section.parts))
    if bundle.close is not None:
        parts.append(_explain_logged("close", bundle.close))
    head = bundle.head
    if head is not None:
        parts.append(_part("head", lambda: explain_cose(head)))
    parts += [
        _part(f"cosignature {number}", partial(explain_cosigned, item))
        for number, item in enumerate(bundle.cosignatures, 1)
    ]
    parts += [
        _part(f"collateral {piece.kind}", partial(explain_collateral, piece)) for piece in bundle.collateral
    ]
    parts += [_part("continuity", partial(explain_continuity, text)) for text in bundle.continuity]
    policy = bundle.policy
    if policy is not None:
        parts.append(_part("policy", lambda: explain_policy(policy)))
    return Section("Bundle", tuple(rows), tuple(parts))


def _explain_logged(title: str, logged: Logged) -> Section:
    return Section(
        title,
        (),
        (
            _part("statement", lambda: explain_statement(logged.statement)),
            _part("receipt", lambda: explain_cose(logged.receipt)),
        ),
    )


def _part(title: str, make: Callable[[], Section]) -> Section:
    try:
        section = make()
    except RluError as error:
        return broken(title, error)
    return Section(f"{title}: {section.title}", section.rows, section.parts)
