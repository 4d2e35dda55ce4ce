"""Keys in this process's memory, and the count of starts in a file: what a software key and a TEE's key have in common."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA256

from rlu_server.attestor.errors import NotReady
from rlu_server.attestor.secret import write_private


def sign(key: ec.EllipticCurvePrivateKey, digest: bytes) -> bytes:
    """Raw ES256 signature (r ‖ s, 64 bytes) over a SHA-256 digest."""
    der = key.sign(digest, ec.ECDSA(utils.Prehashed(SHA256())))
    r, s = utils.decode_dss_signature(der)
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def count_start(file: Path) -> int:
    """Raise the number in a file: it shows restarts and, unlike a TPM's counter, proves nothing.

    Raises:
        NotReady: the file holds something else (`counter.file`).
    """
    try:
        value = int(file.read_text("ascii"))
    except FileNotFoundError:
        value = 0
    except (OSError, ValueError) as error:
        raise NotReady("counter.file", f"{file} does not hold a number") from error
    write_private(file, str(value + 1).encode("ascii"))
    return value + 1
