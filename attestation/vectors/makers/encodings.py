"""FORMATS sections 1, 2 and 7: canonical JSON, base64url, identifiers, commitments."""

from __future__ import annotations

import hashlib
from typing import Any

from makers.seed import secret, signing_key
from rlu_attestation import canonical, commitment, instance, jose
from rlu_attestation.commitment import Tag
from rlu_attestation.encoding import b64u

_OBJECTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("empty", {}),
    ("sorted-by-code-unit", {"b": 1, "a": 2, "B": 3, "_": 4, "aa": 5}),
    ("integers", {"zero": 0, "one": 1, "minus": -1, "largest": 2**53 - 1, "smallest": -(2**53) + 1}),
    ("literals", {"false": False, "null": None, "true": True}),
    ("nested", {"array": [1, [2, {"x": []}], "3"], "object": {"y": {"x": {}}}}),
    ("escapes", {"text": '"\\/\b\f\n\r\t\u0000\u001f\u007f'}),
    ("unicode", {"text": "\u00e9 \u20ac \U0001f512 \u2028"}),
    ("deepest-number", {"a": [[[[[[[[[[[[[[[0]]]]]]]]]]]]]]]}),
    ("deepest-array", {"a": [[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]}),
)
_REFUSED: tuple[tuple[str, bytes], ...] = (
    ("empty", b""),
    ("array-at-top", b"[]"),
    ("space", b'{"a": 1}'),
    ("trailing-newline", b"{}\n"),
    ("trailing-garbage", b"{}{}"),
    ("unsorted", b'{"b":1,"a":2}'),
    ("duplicate-key", b'{"a":1,"a":1}'),
    ("non-ascii-key", '{"\u00e9":1}'.encode()),
    ("fraction", b'{"a":1.0}'),
    ("exponent", b'{"a":1e3}'),
    ("minus-zero", b'{"a":-0}'),
    ("leading-zero", b'{"a":01}'),
    ("integer-too-large", b'{"a":9007199254740992}'),
    ("integer-too-small", b'{"a":-9007199254740992}'),
    ("integer-of-many-digits", b'{"a":' + b"9" * 400 + b"}"),
    ("not-a-number", b'{"a":NaN}'),
    ("infinity", b'{"a":Infinity}'),
    ("escaped-slash", b'{"a":"\\/"}'),
    ("escaped-letter", b'{"a":"\\u0061"}'),
    ("upper-case-escape", b'{"a":"\\u001F"}'),
    ("long-escape", b'{"a":"\\u000a"}'),
    ("escaped-non-ascii", b'{"a":"\\u00e9"}'),
    ("lone-surrogate", b'{"a":"\\ud800"}'),
    ("byte-order-mark", b"\xef\xbb\xbf{}"),
    ("not-utf-8", b'{"a":"\xff"}'),
    ("control-character", b'{"a":"\x01"}'),
    ("too-deep-array", b'{"a":' + b"[" * 17 + b"]" * 17 + b"}"),
    ("too-deep-number", b'{"a":' + b"[" * 16 + b"0" + b"]" * 16 + b"}"),
    ("too-long", b'{"a":"' + b"x" * 65536 + b'"}'),
)
_BASE64URL: tuple[tuple[str, str], ...] = (
    ("padding", "AA=="),
    ("standard-alphabet", "+/+/"),
    ("impossible-length", "AAAAA"),
    ("unused-bits-of-one-byte", "AB"),
    ("unused-bits-of-two-bytes", "AAB"),
    ("line-break", "AA\nAA"),
    ("space", "AA AA"),
    ("non-ascii", "\u0410\u0410"),
)


def canonical_json() -> dict[str, Any]:
    accepted = [
        {"name": name, "value": value, "bytes": _hex(canonical.encode(value))} for name, value in _OBJECTS
    ]
    refused = [{"name": name, "bytes": _hex(data)} for name, data in _REFUSED]
    return {"accepted": accepted, "refused": refused}


def base64url() -> dict[str, Any]:
    accepted = [{"bytes": _hex(bytes(range(size))), "text": b64u(bytes(range(size)))} for size in range(5)]
    accepted.append({"bytes": "fbff", "text": b64u(b"\xfb\xff")})
    return {"accepted": accepted, "refused": [{"name": name, "text": text} for name, text in _BASE64URL]}


def identifiers() -> list[dict[str, Any]]:
    made = []
    for name in ("first", "second"):
        jwk = jose.public_jwk(signing_key(name).public_key())
        thumbprint = jose.thumbprint(jwk)
        made.append(
            {
                "jwk": jwk,
                "thumbprint": _hex(thumbprint),
                "kid": b64u(thumbprint),
                "ueid": instance.ueid(thumbprint),
                "iss": instance.issuer(thumbprint),
            }
        )
    return made


def commitments() -> dict[str, Any]:
    key = secret("commitment key")
    session = secret("session")[:16]
    made = []
    for tag in Tag:
        for seq, content in ((1, b""), (2, b"x"), (2**53 - 1, b"hello" * 100)):
            own, number = (commitment.OPENING_SESSION, 0) if tag is Tag.OPENING else (session, seq)
            digest = hashlib.sha256(content).digest()
            made.append(
                {
                    "tag": tag.name.lower(),
                    "session": b64u(own),
                    "seq": number,
                    "content": _hex(content),
                    "commitment": b64u(commitment.commit(key, tag, own, number, len(content), digest)),
                }
            )
    return {"key": b64u(key), "rlu_commitment_key": b64u(commitment.key_digest(key)), "commitments": made}


def _hex(data: bytes) -> str:
    return data.hex()
