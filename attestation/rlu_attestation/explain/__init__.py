"""What a file is and what its fields mean, for `rlu inspect`. Nothing is verified here and nothing is trusted.

`explain(data)` recognises what it is given by its first bytes and by what parses strictly; a part that is broken is shown with the reason,
and the rest is explained all the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial

from rlu_attestation import bundle as bundles
from rlu_attestation import x509
from rlu_attestation.bundle import Bundle, Logged
from rlu_attestation.encoding import b64u, unb64u
from rlu_attestation.errors import RluError, Unsupported
from rlu_attestation.explain.certificates import explain_certificate
from rlu_attestation.explain.evidence import explain_evidence
from rlu_attestation.explain.log import explain_cose
from rlu_attestation.explain.section import Row, Section, broken
from rlu_attestation.explain.statements import explain_jws, explain_statement
from rlu_attestation.explain.tpm import explain_attest

__all__ = ["Row", "Section", "explain"]

_COSE_SIGN1 = b"\xd2"
_DER_SEQUENCES = (b"\x30\x81", b"\x30\x82")
_TPM_GENERATED = b"\xffTCG"


def explain(data: bytes) -> Section:
    """Explain a file.

    Raises:
        Unsupported: `inspect.unknown` when it is nothing that is known here.
        Malformed: it is of a known kind and broken.
    """
    if data[:1] == _COSE_SIGN1:
        return explain_cose(data)
    if data[:4] == _TPM_GENERATED:
        return explain_attest(data, "TPMS_ATTEST")
    if data[:2] in _DER_SEQUENCES or b"-----BEGIN CERTIFICATE-----" in data:
        found = [explain_certificate(certificate) for certificate in x509.parse_many(data)]
        return found[0] if len(found) == 1 else Section("Certificates", (), tuple(found))
    text = data.strip()
    if text[:1] == b"{":
        return _explain_json(text)
    if text.count(b".") == 2 and text.isascii():
        return explain_jws(text.decode("ascii"))
    return _explain_base64url(text)


def _explain_json(data: bytes) -> Section:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise Unsupported("inspect.unknown", "this begins like JSON and is not a JSON object")
    if "rlu_bundle" in value:
        return explain_bundle(bundles.parse(data))
    if "eat_profile" in value:
        return explain_statement(data)
    if "kind" in value:
        return explain_evidence(data)
    if value.keys() == {"statement", "receipt"} and all(isinstance(part, str) for part in value.values()):
        return _explain_logged(
            "Logged statement", Logged(unb64u(value["statement"]), unb64u(value["receipt"]))
        )
    raise Unsupported("inspect.unknown", "a JSON object of no kind that is known here")


def _explain_base64url(text: bytes) -> Section:
    """Fields of a bundle are base64url; pasted alone, they are explained too."""
    try:
        data = unb64u(text.decode("ascii"))
    except (UnicodeDecodeError, RluError):
        data = b""
    if not data or data == text:
        raise Unsupported("inspect.unknown", "of no kind that is known here")
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
