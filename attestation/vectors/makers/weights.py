"""docs/broker.md, "Bytes": a sealed model, a key request and its answer. Put together from the text, not by the code they check."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from makers.seed import secret
from rlu_attestation.encoding import b64u

CHUNK = 4096
FILES = {
    "config.json": b'{"model_type":"qwen3"}',
    "empty.txt": b"",
    "sub/\u00e4.safetensors": bytes(range(256)) * 32 + b"end",
}


def weights() -> dict[str, Any]:
    key, salt = secret("model key"), secret("salt of weights")
    kid = hashlib.sha256(b"rlu/weights-key-id/v1" + key).digest()
    listed = [
        {"path": path, "sha256": b64u(hashlib.sha256(data).digest()), "size": len(data)}
        for path, data in FILES.items()
    ]
    manifest = hashlib.sha256(_canonical({"files": listed, "rlu_manifest": "1"})).digest()
    header = _canonical(
        {"chunk_bytes": CHUNK, "files": listed, "kid": b64u(kid), "rlu_weights": "1", "salt": b64u(salt)}
    )
    return {
        "chunks": [_sealed(key, salt, header, path, data) for path, data in FILES.items()],
        "header": header.decode("utf-8"),
        "key_file": _canonical(
            {
                "key": b64u(key),
                "kid": b64u(kid),
                "manifest_sha256": b64u(manifest),
                "name": "demo",
                "rlu_weights_key": "1",
            }
        ).decode("ascii"),
        "manifest_sha256": b64u(manifest),
        "request": _request(key, kid, manifest),
    }


def _sealed(key: bytes, salt: bytes, header: bytes, path: str, data: bytes) -> dict[str, Any]:
    digest, name = hashlib.sha256(header).digest(), path.encode("utf-8")
    file_key = HKDF(SHA256(), 32, salt, b"rlu/weights/v1" + digest + name).derive(key)
    pieces = [data[at : at + CHUNK] for at in range(0, len(data), CHUNK)] or [b""]
    sealed = b""
    for number, piece in enumerate(pieces):
        bound = digest + len(name).to_bytes(8, "big") + name + len(data).to_bytes(8, "big")
        bound += number.to_bytes(8, "big") + bytes([number == len(pieces) - 1])
        sealed += AESGCM(file_key).encrypt(number.to_bytes(12, "big"), piece, bound)
    return {"file_key": file_key.hex(), "path": path, "plain": data.hex(), "sealed": sealed.hex()}


def _request(key: bytes, kid: bytes, manifest: bytes) -> dict[str, Any]:
    private = X25519PrivateKey.from_private_bytes(secret("key of a request"))
    public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    claims = _canonical(
        {
            "eat_nonce": b64u(secret("challenge, first half") + secret("challenge, second half")),
            "eat_profile": "tag:rlu.internal,2026:key-request#1",
            "rlu_gateway": {"name": "rlu", "version": "0.1.0"},
            "rlu_hpke": {"aead": 2, "kdf": 1, "kem": 32, "public_key": b64u(public)},
            "rlu_weights": {"kid": b64u(kid), "manifest_sha256": b64u(manifest)},
        }
    )
    bound = hashlib.sha256(b"rlu/key-request/v1" + claims).digest()
    info = b"rlu/weights-key/v1" + hashlib.sha256(claims).digest()
    sealed = _hpke(secret("ephemeral key"), public, info, key)
    return {
        "answer": _canonical({"kid": b64u(kid), "sealed": b64u(sealed)}).decode("ascii"),
        "claims": claims.decode("ascii"),
        "private_key": private.private_bytes_raw().hex(),
        "root": hashlib.sha256(b"\0" + bound).hexdigest(),
    }


def _hpke(ephemeral: bytes, public: bytes, info: bytes, plain: bytes) -> bytes:
    """RFC 9180 sections 4.1, 5.1 and 5.2, with an ephemeral key that is given, so that the bytes are the same every time."""
    ours = X25519PrivateKey.from_private_bytes(ephemeral)
    enc = ours.public_key().public_bytes_raw()
    kem, suite = b"KEM" + b"\x00\x20", b"HPKE" + b"\x00\x20\x00\x01\x00\x02"
    shared = ours.exchange(X25519PublicKey.from_public_bytes(public))
    secret_key = _expand(kem, _extract(kem, b"", b"eae_prk", shared), b"shared_secret", enc + public, 32)
    context = b"\x00" + _extract(suite, b"", b"psk_id_hash", b"") + _extract(suite, b"", b"info_hash", info)
    prk = _extract(suite, secret_key, b"secret", b"")
    key = _expand(suite, prk, b"key", context, 32)
    nonce = _expand(suite, prk, b"base_nonce", context, 12)
    return enc + AESGCM(key).encrypt(nonce, plain, b"")


def _extract(suite: bytes, salt: bytes, label: bytes, material: bytes) -> bytes:
    return HKDF.extract(SHA256(), salt or bytes(32), b"HPKE-v1" + suite + label + material)


def _expand(suite: bytes, prk: bytes, label: bytes, info: bytes, length: int) -> bytes:
    labelled = length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
    return HKDFExpand(SHA256(), length, labelled).derive(prk)


def _canonical(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode("utf-8")
