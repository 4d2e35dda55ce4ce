"""FORMATS sections 16 and 17: licences, questions about them, telemetry reports. Put together from the text, not by the code they check."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from makers.seed import secret, sign, signing_key
from rlu_attestation.encoding import b64u

AT = 1_780_000_000
DAY = 86400
Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
LICENCE: dict[str, Any] = {
    "exp": AT + 365 * DAY,
    "iat": AT,
    "iss": "Example Vendor",
    "jti": "A-17",
    "nbf": AT,
    "profile": "tag:rlu.internal,2026:licence#1",
    "rlu_features": ["batch", "priority-2"],
    "rlu_grace_s": 14 * DAY,
    "rlu_nodes": 8,
    "sub": "Org \u00e9\u4e16",
}
REPORT: dict[str, Any] = {
    "aborted": 1,
    "complete": 4,
    "day": "2026-11-21",
    "engine_retries": 0,
    "engines": 1,
    "failed": 2,
    "gpus": "nvidia",
    "input_tokens": 9,
    "key": "tpm2",
    "licensed": True,
    "output_tokens": 8,
    "partial": 0,
    "profile": "tag:rlu.internal,2026:telemetry#1",
    "refusals": 3,
    "sessions": 3,
    "version": "0.1.0",
}


def documents() -> dict[str, Any]:
    vendor, edwards = signing_key("vendor"), _edwards("vendor")
    statement = "eyJ.an.instance-statement"
    answer = {
        "iat": AT + 60,
        "jti": "A-17",
        "profile": "tag:rlu.internal,2026:licence-answer#1",
        "statement_sha256": b64u(hashlib.sha256(statement.encode()).digest()),
        "status": "withdrawn",
    }
    question = _canonical(
        {"licence": "A-17", "profile": "tag:rlu.internal,2026:licence-question#1", "statement": statement}
    )
    licence = _document("rlu-licence+jwt", LICENCE, vendor)
    telemetry = _edwards("telemetry")
    return {
        "keys": {"ES256": _pem(vendor), "Ed25519": _pem(edwards), "telemetry": _pem(telemetry)},
        "licences": [
            {
                "alg": alg,
                "kid": _kid(key).hex(),
                "text": text,
                "digest": hashlib.sha256(text.encode()).hexdigest(),
            }
            for alg, key, text in (
                ("ES256", vendor, licence),
                ("Ed25519", edwards, _document("rlu-licence+jwt", LICENCE, edwards)),
            )
        ],
        "claims": LICENCE,
        "refused_licences": [
            {"name": name, "code": code, "text": text} for name, code, text in _refused(licence, vendor)
        ],
        "question": {"statement": statement, "bytes": question.decode()},
        "answer": {"claims": answer, "text": _document("rlu-licence-answer+jwt", answer, vendor)},
        "telemetry": {"claims": REPORT, "text": _document("rlu-telemetry+jwt", REPORT, telemetry)},
        "refused_telemetry": [
            {"name": name, "text": _document("rlu-telemetry+jwt", {**REPORT, **change}, telemetry)}
            for name, change in {
                "a-tenant": {"tenant": "acme"},
                "a-count": {"sessions": 1234},
                "a-day-with-a-time": {"day": "2026-11-21T10:00:00Z"},
                "a-version-with-a-name": {"version": "0.1.0+acme"},
                "another-key": {"key": "acme"},
                "a-number-for-a-word": {"licensed": 1},
            }.items()
        ],
    }


def _refused(licence: str, vendor: Key) -> list[tuple[str, str, str]]:
    header, payload, signature = licence.split(".")
    typ = "rlu-licence+jwt"

    def claims(**changes: Any) -> str:
        return _document(typ, {k: v for k, v in {**LICENCE, **changes}.items() if v is not None}, vendor)

    spaced = b64u(json.dumps(LICENCE, sort_keys=True).encode())
    return [
        (
            "altered",
            "licence.signature",
            f"{header}.{b64u(_canonical({**LICENCE, 'rlu_nodes': 9}))}.{signature}",
        ),
        ("another-signer", "licence.key", _document(typ, LICENCE, signing_key("somebody"))),
        ("another-type", "licence.encoding", _document("rlu-licence-answer+jwt", LICENCE, vendor)),
        ("not-canonical", "licence.encoding", f"{header}.{spaced}.{signature}"),
        ("padded", "licence.encoding", f"{header}.{payload}.{signature}=="),
        ("four-parts", "licence.encoding", f"{licence}.AA"),
        ("unknown-claim", "licence.claims", claims(rlu_price=5)),
        ("no-grace", "licence.claims", claims(rlu_grace_s=None)),
        ("ends-before-it-begins", "licence.claims", claims(exp=AT)),
        ("no-nodes", "licence.claims", claims(rlu_nodes=0)),
        ("features-not-sorted", "licence.claims", claims(rlu_features=["b", "a"])),
        ("an-id-with-a-space", "licence.claims", claims(jti="A 17")),
    ]


def _document(typ: str, claims: dict[str, Any], key: Key) -> str:
    alg = "Ed25519" if isinstance(key, ed25519.Ed25519PrivateKey) else "ES256"
    header = _canonical({"alg": alg, "kid": b64u(_kid(key)), "typ": typ})
    message = f"{b64u(header)}.{b64u(_canonical(claims))}"
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return f"{message}.{b64u(key.sign(message.encode()))}"
    return f"{message}.{b64u(sign(key, message.encode()))}"


def _kid(key: Key) -> bytes:
    public = key.public_key()
    if isinstance(public, ed25519.Ed25519PublicKey):
        raw = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
        return hashlib.sha256(_canonical({"crv": "Ed25519", "kty": "OKP", "x": b64u(raw)})).digest()
    numbers = public.public_numbers()
    x, y = (b64u(n.to_bytes(32, "big")) for n in (numbers.x, numbers.y))
    return hashlib.sha256(_canonical({"crv": "P-256", "kty": "EC", "x": x, "y": y})).digest()


def _edwards(label: str) -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.from_private_bytes(secret(f"ed25519/{label}"))


def _pem(key: Key) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def _canonical(value: dict[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
