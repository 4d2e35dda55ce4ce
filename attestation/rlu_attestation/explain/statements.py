"""Instance, session, receipt and close statements, claim by claim (FORMATS sections 3 and 6)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone

from rlu_attestation import canonical, jose
from rlu_attestation.encoding import b64u
from rlu_attestation.errors import Unsupported
from rlu_attestation.explain.section import Row, Section
from rlu_attestation.instance import INSTANCE_PROFILE, InstanceClaims, profile_digest
from rlu_attestation.merkle import leaf_hash
from rlu_attestation.statements import (
    CLOSE_PROFILE,
    RECEIPT_PROFILE,
    SESSION_PROFILE,
    Close,
    Receipt,
    SessionStatement,
)

_TITLES = {
    INSTANCE_PROFILE: "instance statement",
    SESSION_PROFILE: "session statement",
    RECEIPT_PROFILE: "receipt",
    CLOSE_PROFILE: "close",
}
_PARSERS = {
    INSTANCE_PROFILE: InstanceClaims.parse,
    SESSION_PROFILE: SessionStatement.parse,
    RECEIPT_PROFILE: Receipt.parse,
    CLOSE_PROFILE: Close.parse,
}
_TIMES = frozenset({"iat", "exp"})

MEANINGS = {
    "cnf.jwk": "the instance key; signs this statement and the log",
    "cnf.jkt": "thumbprint of a key that the client holds",
    "dbgstat": "whether the platform can be debugged (RFC 9711)",
    "eat_nonce": "the client's nonce: the statement was made after it was chosen",
    "eat_profile": "which statement this is, and its version",
    "exp": "not valid after",
    "iat": "made at, by the server's clock",
    "iss": "the instance, named by its key",
    "jti": "session id",
    "oemboot": "the platform's verified boot is on, as far as the attestor can tell (RFC 9711)",
    "rlu_blind": "random, so that the leaf hash cannot be guessed",
    "rlu_boundary": "organisational boundary, as configured",
    "rlu_canary_report": "the last canary test that the attestor took over: its report's digest, when, and the result",
    "rlu_channel": "TLS key that the session was opened for",
    "rlu_commitment_key": "digest of the key that opens the receipts' commitments",
    "rlu_count": "receipts that the session has in the log",
    "rlu_engine": "the inference engine; arguments_sha256 is the digest of its arguments",
    "rlu_forwarded": "size and keyed commitment of the request as sent to the engine",
    "rlu_freshness": "none: the client gave no nonce",
    "rlu_further_models": "models beside the first, each with its manifest and engine",
    "rlu_gateway": "the gateway, and its image where known",
    "rlu_hardware": "hardware profile, as configured",
    "rlu_http_status": "what the client was sent; 0 if nothing",
    "rlu_instance": "profile digest of the instance that opened the session",
    "rlu_key": "what holds the instance key",
    "rlu_last_seq": "highest number of an exchange",
    "rlu_licence": "the vendor's licence that the attestor verified: its digest, and when it ends",
    "rlu_lock": "what the process measured of its own lock",
    "rlu_log": "attestor starts so far, and the final head of the instance before this one",
    "rlu_model": "model name, the digest of its manifest, and whose signature was verified",
    "rlu_opening": "size and keyed commitment of the request that opened the session",
    "rlu_policies": "policies the session was opened under",
    "rlu_principal": "pseudonym of who opened the session",
    "rlu_reason": "why, as a stable code",
    "rlu_region": "region, as configured",
    "rlu_request": "size and keyed commitment of the request as received",
    "rlu_response": "size and keyed commitment of the response as sent",
    "rlu_rewritten": "fields in which the forwarded request differs",
    "rlu_route": "route of the API",
    "rlu_running": "hash over all receipts of the session",
    "rlu_scratch": "whether the session's scratch was wiped, in the server's words",
    "rlu_seq": "number of the exchange in its session",
    "rlu_session": "session id",
    "rlu_session_leaf": "leaf hash of the session statement",
    "rlu_site": "site, as configured",
    "rlu_status": "complete, partial (cut by the server), aborted (the client left) or failed",
    "rlu_tenant": "pseudonym of the tenant",
    "rlu_tls": "where the gateway's TLS key was born, and its digest",
    "rlu_usage": "token counts, as found in the relayed bytes",
    "submods": "digest of each item of evidence (RFC 9711)",
    "ueid": "the instance's identifier, made of its key's thumbprint (RFC 9711)",
}
"""What claims mean; a claim within a claim has the meaning of the nearest one that is listed."""


def explain_jws(text: str) -> Section:
    """An instance statement, or another JWS of the same form.

    Raises:
        Malformed: `statement.encoding` and others, when it is not one of FORMATS section 3.
    """
    jws = jose.jws_parse(text)
    statement = explain_statement(jws.payload)
    payload = canonical.decode(jws.payload)
    rows = (
        Row("alg", "ES256", "ECDSA on P-256 with SHA-256"),
        Row("kid", b64u(jws.kid), "thumbprint of the key that signs"),
        Row("signature", b64u(jws.signature), "r ‖ s; not verified here"),
        Row(
            "profile digest",
            b64u(profile_digest(payload)),
            "computed: session statements name the instance by it",
        ),
    )
    return Section(statement.title, rows + statement.rows)


def explain_statement(data: bytes) -> Section:
    """A statement's claims.

    Raises:
        Malformed: not canonical, or not of its profile.
        Unsupported: `inspect.profile`.
    """
    payload = canonical.decode(data)
    profile = payload.get("eat_profile")
    if not isinstance(profile, str) or profile not in _PARSERS:
        raise Unsupported("inspect.profile", "a statement of a profile that is not known here")
    _PARSERS[profile](data)
    rows = [Row(name, value, _meaning(name)) for name, value in _flat(payload, "")]
    if profile != INSTANCE_PROFILE:
        rows.append(Row("leaf hash", b64u(leaf_hash(data)), "computed: what the log holds"))
    return Section(_TITLES[profile], tuple(rows))


def _flat(value: Mapping[str, object], prefix: str) -> Iterator[tuple[str, str]]:
    for key, item in value.items():
        name = f"{prefix}{key}"
        if isinstance(item, Mapping) and name != "cnf.jwk":
            yield from _flat(item, f"{name}.")
        elif name in _TIMES and isinstance(item, int):
            yield name, f"{item} ({_moment(item)})"
        else:
            yield name, item if isinstance(item, str) else json.dumps(item)


def _meaning(name: str) -> str:
    while name and name not in MEANINGS:
        name = name.rpartition(".")[0]
    return MEANINGS.get(name, "")


def _moment(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, OSError, ValueError):
        return "beyond the calendar"
