"""A vendor who gives his models away encrypted: sealed under a key of his, and signed as they are then."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from fakes.model_vendor import KEY, make
from rlu_server.broker import sealed_signature
from rlu_server.broker.sealed_files import seal
from rlu_server.broker.sealed_signature import SEALED_SIGNATURE
from rlu_server.models import manifest, signing

CHUNK = 1 << 16


def encrypt(
    model: Path, target: Path, model_key: bytes = bytes(32), key: ec.EllipticCurvePrivateKey = KEY
) -> Path:
    """A signed model, sealed and signed once more. Two of one model key have salts of their own, by the directory's name."""
    salt = target.name.encode().ljust(32, b"\0")[:32]
    seal(model, target, model_key, salt, chunk=CHUNK)
    return sign(target, key)


def sign(sealed: Path, key: ec.EllipticCurvePrivateKey = KEY) -> Path:
    """Sign a sealed model as it lies there."""
    measured = manifest.digest(sealed_signature.tree_of(sealed))
    (sealed / SEALED_SIGNATURE).write_bytes(signing.sign(measured, "m", key))
    return sealed


def offer(home: Path, number: int | None, weights: bytes, model_key: bytes = bytes(32)) -> Path:
    """Made, signed, sealed and signed, below a directory."""
    plain = make(home / f"plain-{number}-{weights[:8].hex()}", number, weights)
    return encrypt(plain, home / f"sealed-{number}-{weights[:8].hex()}", model_key)
